// SPDX-License-Identifier: Apache-2.0
// The kind of a request, which also determines the JSON of its responses.
#pragma once

namespace dynamo {

enum class BodyKind { chat, completion, embedding, raw };

}  // namespace dynamo

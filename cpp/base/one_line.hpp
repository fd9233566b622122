// SPDX-License-Identifier: Apache-2.0
// Untrusted text as one line without control sequences.
#pragma once

#include <string>
#include <string_view>

namespace dynamo {

// Escapes C0 controls except the tab, DEL, C1 controls, the separators U+2028 and U+2029, bidirectional controls
// ("\n", "\x1b", "\u009b"), and bytes that are not UTF-8 ("\xff"). Everything else is unchanged.
std::string one_line(std::string_view text);

}  // namespace dynamo

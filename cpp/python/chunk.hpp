// SPDX-License-Identifier: Apache-2.0
// Chunks of Python engines: dictionaries on their way into a stream.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "python/api.hpp"

namespace dynamo::python {

// Keys, all optional: "text" (str or bytes of UTF-8), "token_ids" (sequence of int), "index" (int),
// "finish_reason" (str or None), "delta" and "logprobs" (dict), "data" (bytes, or str of JSON; an
// item). Others are ignored here. Raises
// TypeError or ValueError for what is no such thing.
std::int32_t push(dynamo_stream_t *stream, nanobind::handle chunk);

// {"prompt_tokens": n, "completion_tokens": n, "cached_tokens": n}; zeros for None.
dynamo_usage_t usage_of(nanobind::handle usage);

}  // namespace dynamo::python

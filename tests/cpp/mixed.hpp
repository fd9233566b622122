// SPDX-License-Identifier: Apache-2.0
// Two files of one program: one is compiled with exceptions, the other without.
#ifndef MIXED_HPP
#define MIXED_HPP

#include <string>

#include "dynamo_llm.h"

// Send a prompt and put the answer together; on an error its name.
std::string ask_returning(dynamo_runtime_t *runtime, const std::string &prompt);
std::string ask_throwing(dynamo_runtime_t *runtime, const std::string &prompt);

#endif

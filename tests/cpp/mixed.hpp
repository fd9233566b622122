// SPDX-License-Identifier: Apache-2.0
// Files of one program that are compiled with different options: each uses every class of the C++ headers.
// CMakeLists.txt lists them.
#ifndef MIXED_HPP
#define MIXED_HPP

#include "dynamo_llm.h"

// Name and functions of a file. `use_everything` returns 0, or the line of the failed check.
struct MixedFile {
    const char *name;
    int (*use_everything)(dynamo_runtime_t *scripted);
    bool (
        *knows_its_errors)();  // does it recognize exceptions by their class name? true without exceptions
};

#endif

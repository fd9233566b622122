// SPDX-License-Identifier: Apache-2.0
// Links files that were compiled with different options, in either order: with and without exceptions and RTTI, as
// C++17 and C++20, with checks in the standard library. No file may end up with inline functions of another.
#include "mixed.hpp"

#include "support.hpp"

#define MIXED_FILE(name) extern const MixedFile name;
#include "mixed_files.inc"
#undef MIXED_FILE

#define MIXED_FILE(name) &name,
static const MixedFile *const files[] = {
#include "mixed_files.inc"
};
#undef MIXED_FILE

static void each_file_gets_its_own() {
    const Runtime runtime = start_cpp("scripted");
    for (int round = 0; round < 2; ++round) {
        for (const MixedFile *const file : files) {
            const int line = file->use_everything(runtime.get());
            if (line != 0 || !file->knows_its_errors()) {
                std::fprintf(stderr, "mixed.cpp:%d, compiled as %s\n", line, file->name);
            }
            CHECK(line == 0 && file->knows_its_errors());
        }
    }
    RELIABILITY(
        "files compiled with and without exceptions, RTTI and library checks, as C++17 and C++20, "
        "in one program",
        static_cast<long long>(sizeof files / sizeof files[0]), "each uses its own functions");
}

int main() {
    BEGIN();
    RUN(each_file_gets_its_own);
    return 0;
}

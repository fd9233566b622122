# SPDX-License-Identifier: Apache-2.0
"""The binary interface as the headers declare it: python tests/abi/abi.py [--renew]

Compares it with dynamo_llm-1.abi, that of the release, by libabigail (Debian's package abigail-tools).
What is looked at is a library of empty functions, made from the headers by a compiler of C: it has every
function and every public type, and nothing of what is behind. That the true library exports the
functions of the headers and no others is what the test "exports" looks at; that they have these types,
the compiler, which sees both.

With --renew the file is written. Do so when something was added; nothing that is there may change within
an ABI version (docs/abi.md). The numbers are those of 64-bit Linux.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
released = here / "dynamo_llm-1.abi"
names = [
    "dynamo_llm.h",
    "dynamo_llm/engine.h",
    "dynamo_llm/worker.h",
    "dynamo_llm/kv_events.h",
    "dynamo_llm/router.h",
]


def empty_functions(include: Path) -> str:
    """A program in C with all that the headers declare."""
    program = ['#include "dynamo_llm/engine.h"', '#include "dynamo_llm/cluster.h"']
    for name in names:
        text = re.sub(r"/\*.*?\*/", "", (include / name).read_text(encoding="utf-8"), flags=re.S)
        functions = re.findall(r"^DYNAMO_LLM_API ([^;]*\));", text, re.M)
        types = re.findall(r"^\}\s*(dynamo_\w+_t);|^typedef struct \w+ (dynamo_\w+_t);", text, re.M)
        callbacks = re.findall(r"^typedef \w[^;]*\(\*(dynamo_\w+)\)", text, re.M)
        assert functions, name
        program += [f"{function} {{ __builtin_trap(); }}" for function in functions]
        # A type that no function has, such as that of the statuses, is there because of these.
        program += [f"{kind} *type_{kind};" for pair in types for kind in pair if kind]
        program += [f"{kind} type_{kind};" for kind in callbacks]
    return "\n".join(program) + "\n"


def described(include: Path) -> str:
    """The interface of headers, in libabigail's XML."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "empty.c"), Path(folder, "empty.so")
        source.write_text(empty_functions(include), encoding="utf-8")
        flags = [
            "-std=c11",
            "-g",
            "-gdwarf-4",
            "-O0",
            "-fPIC",
            "-shared",
            "-Wl,-soname,libdynamo_llm_capi.so.1",
        ]
        subprocess.run(["gcc", *flags, f"-I{include}", source, "-o", library], check=True)
        options = ["no-corpus-path", "no-comp-dir-path", "no-show-locs", "no-architecture", "no-elf-needed"]
        command = ["abidw", *(f"--{option}" for option in options), library]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return re.sub(r" path='[^']*'", "", text)


def differences(old: Path, new: str, *options: str) -> str:
    """What libabigail says about the step from a description to another; "" if nothing differs."""
    with tempfile.NamedTemporaryFile("w", suffix=".abi", encoding="utf-8") as file:
        file.write(new)
        file.flush()
        result = subprocess.run(
            ["abidiff", *options, old, file.name], capture_output=True, text=True, check=False
        )
    if result.returncode & 3:
        raise RuntimeError(result.stdout + result.stderr)
    return result.stdout if result.returncode else ""


def complaint(include: Path) -> str:
    """What is to be said about headers beside the release; "" if they are the same."""
    new = described(include)
    report = differences(released, new)
    if not report:
        return ""
    if not differences(released, new, "--no-added-syms"):
        return f"Functions were added. Write the file anew: python tests/abi/abi.py --renew\n{report}"
    return (
        "What was released has changed. Within an ABI version only this is allowed: new enumerators, and new "
        f"members at the end of structs that start with their size (docs/abi.md).\n{report}"
    )


if __name__ == "__main__":
    headers = here.parent.parent / "include"
    if sys.argv[1:] == ["--renew"]:
        released.write_text(described(headers), encoding="utf-8")
    else:
        sys.exit(complaint(headers) or None)

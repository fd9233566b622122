# SPDX-License-Identifier: Apache-2.0
"""Instructions of the functions on the way of a token: python tests/instructions/instructions.py [--renew]

Counted by callgrind (Debian's package valgrind) in a program that calls the installed library. They do not
depend on what else the machine does; they do on the compiler that built the library, and counts.json has
those of each compiler that was seen. With --renew the file gets this compiler's.
"""

import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

here = Path(__file__).resolve().parent
released = here / "counts.json"
#: How far a count may be from the one that was kept: libraries of the system differ a little.
tolerance = 0.05
_calls = 1000
#: And how often the program calls each, in thousands.
functions = {
    "dynamo_request_create": 1,
    "dynamo_request_send": 1,
    "dynamo_stream_push": 3,
    "dynamo_request_next": 1,
    "dynamo_free": 1,
}


def compiler() -> str:
    """Which one built the library, such as "GCC 12 x86_64"."""
    import dynamo_llm

    (library,) = (Path(dynamo_llm.__file__).parent / "lib").glob("libdynamo_llm_capi.so.?")
    comment = subprocess.run(
        ["readelf", "-p", ".comment", library], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"(GCC|clang)\D*?[: ].*?(\d+)\.\d+\.\d+", comment)
    name = f"{found[1]} {found[2]}" if found else "unknown"
    return f"{name} {sysconfig.get_platform().rpartition('-')[2]}"


def count() -> dict[str, int]:
    """Instructions of a call, by function: the mean."""
    config = [sys.executable, "-m", "dynamo_llm", "config", "--cflags", "--libs"]
    flags = subprocess.run(config, check=True, capture_output=True, text=True).stdout.split()
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "calls"
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, here / "calls.c", *flags], check=True)
        for function, thousands in functions.items():
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
            command += [f"--toggle-collect={function}", str(program), str(_calls)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
            found = re.search(r"Collected *: (\d+)", said)
            assert found, said
            counts[function] = round(int(found[1]) / (thousands * _calls))
    return counts


def kept() -> dict[str, Any]:
    """What counts.json says, by compiler."""
    result: dict[str, Any] = json.loads(released.read_text(encoding="utf-8"))
    return result


def changes(now: dict[str, int], before: dict[str, int]) -> list[str]:
    """What is further away than the tolerance, in words."""
    return [
        f"{function}: {now[function]} instructions, {before[function]} before"
        for function in functions
        if abs(now[function] - before[function]) > tolerance * before[function]
    ]


def main() -> None:
    """Print, and renew."""
    now = count()
    print(compiler(), json.dumps(now, indent=1))
    if sys.argv[1:] == ["--renew"]:
        known = kept() if released.exists() else {}
        known[compiler()] = now
        released.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    elif before := kept().get(compiler()):
        sys.exit("\n".join(changes(now, before)) or 0)


if __name__ == "__main__":
    main()

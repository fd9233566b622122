# SPDX-License-Identifier: Apache-2.0
"""Copies the interpreter that runs this module, without its packages, into a bundle."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from dynamo_llm.errors import PythonUnavailableError

version = f"python{sys.version_info[0]}.{sys.version_info[1]}"

#: Parts of the standard library that engines do not use, and the packages that are installed in it.
_left_out = (
    "__pycache__",
    "config-*",
    "dist-packages",
    "EXTERNALLY-MANAGED",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "sitecustomize.py",
    "test",
    "tkinter",
    "_tkinter.*",
    "turtledemo",
)


def shared_library() -> Path:
    """Returns the path of ``libpython3.N.so.1.0``.

    :raises PythonUnavailableError: this Python was built without it.
    """
    name = f"lib{version}.so.1.0"
    places = [sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")]
    places += [
        os.path.join(place, str(sysconfig.get_config_var("MULTIARCH")))
        for place in places
        if place is not None
    ]
    for place in filter(None, places):
        if (path := Path(place) / name).is_file():
            return path
    raise PythonUnavailableError(
        f"{sys.executable} has no shared library {name}, so it cannot run in another program; "
        f"on Debian and Ubuntu install the package lib{version}"
    )


def copy(folder: Path) -> Path:
    """Copies the interpreter, its shared library, and the standard library.

    :returns: the folder for packages, ``lib/python3.N/site-packages``, which the copy has on ``sys.path``.
    """
    library = folder / "lib" / version
    ignored = shutil.ignore_patterns(*_left_out)
    for kind in ("stdlib", "platstdlib"):
        source = Path(
            sysconfig.get_path(kind, vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix})
        )
        shutil.copytree(source, library, ignore=ignored, ignore_dangling_symlinks=True, dirs_exist_ok=True)
    shutil.copy2(shared_library(), folder / "lib")
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    shutil.copy2(executable, bin_folder / version)
    for name in ("python3", "python"):
        (bin_folder / name).symlink_to(version)
    return library / "site-packages"


def add_packages(folder: Path, packages: Path) -> None:
    """Puts the folder for packages on ``sys.path`` of the copy, if it is not there: Debian's has others."""
    text = run(folder, "import json, site; print(json.dumps(site.getsitepackages()))")
    on_path = [Path(place) for place in json.loads(text)]
    if packages in on_path:
        return
    place = next(path for path in on_path if path.is_relative_to(folder))
    place.mkdir(parents=True, exist_ok=True)
    (place / "bundle.pth").write_text(os.path.relpath(packages, place) + "\n")


def compile_all(folder: Path) -> None:
    """Compiles all modules: a bundle may be read-only, and then each start would compile them again."""
    code = (
        "import compileall, sys, py_compile; "
        "compileall.compile_dir(sys.argv[1], quiet=2, stripdir=sys.argv[2], "
        "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
    )
    run(folder, code, str(folder / "lib" / version), str(folder))


def run(folder: Path, code: str, *arguments: str) -> str:
    """Runs code with the copy, in an empty environment. Returns what it prints.

    :raises PythonUnavailableError: it failed.
    """
    done = subprocess.run(
        [folder / "bin" / version, "-I", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={},
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise PythonUnavailableError(
            f"the copy of Python in {folder} does not work: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def binaries(folder: Path) -> dict[Path, Path]:
    """Returns the program, shared library, and extension modules of a copy, each with its original."""
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    modules = Path(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})) / "lib-dynload"
    found = {folder / "bin" / version: executable, folder / "lib" / shared_library().name: shared_library()}
    copied = (folder / "lib" / version / "lib-dynload").glob("*.so")
    return {**found, **{module: modules / module.name for module in copied}}

# SPDX-License-Identifier: Apache-2.0
"""Makes a bundle."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynamo_llm.bundle import interpreter, packages, shared_libraries
from dynamo_llm.errors import InvalidArgumentError, ModelNotFoundError, NotSupportedError

_library = "libdynamo_llm_capi.so.1"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was made."""

    program: Path
    """The copy of the program, which finds everything else from its own place."""
    model: Path | None
    """The copy of the model, if one was given."""
    packages: tuple[str, ...]
    """Names and versions of the Python packages, such as ``mistralrs 0.9.5``."""
    size: int
    """Bytes of all files."""


def make(
    program: Path,
    folder: Path,
    requirements: Sequence[str] = ("dynamo-llm",),
    model: Path | None = None,
    report: Callable[[str], None] = lambda step: None,
) -> Bundle:
    """Copies a program and everything that it needs into a folder. Blocks for up to minutes.

    The folder has ``bin/`` with the program and Python, ``lib/`` with shared libraries, the standard library,
    and the packages, and ``models/``. It can be moved, and it runs on Linux machines of the same architecture
    whose C library is not older than this machine's.

    :param program: a program that is linked with the shared library.
    :param folder: a new or empty folder.
    :param requirements: names of installed packages; those that they require follow.
    :param model: a model's folder or file.
    :param report: called with each step, such as ``copying Python``.
    :raises InvalidArgumentError: a path or package does not exist, or the folder is not empty.
    :raises NotSupportedError: this is not Linux, patchelf is not installed, or the program is not linked with
        the shared library.
    :raises SystemFailedError: ldd or patchelf failed.
    """
    folder = folder.absolute()
    _check(program, folder, model)
    patchelf = shared_libraries.find_patchelf()
    distributions = packages.closure(requirements)
    report("copying Python")
    site_packages = interpreter.copy(folder)
    copies = interpreter.binaries(folder)
    for distribution in distributions:
        report(f"copying {distribution.metadata['Name']}")
        for source, below in packages.files(distribution):
            target = site_packages / below
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            if re.search(r"\.so(\.|$)", source.name) and shared_libraries.is_elf(source):
                copies[target] = source
    report("copying shared libraries")
    copied = folder / "bin" / program.name
    shutil.copy2(program, copied)
    own_library = site_packages / "dynamo_llm" / "lib"
    shared_libraries.set_run_path(patchelf, copied, [folder / "lib", own_library])
    _copy_libraries(program, folder / "lib")
    for target, source in copies.items():
        is_package = target.is_relative_to(site_packages)
        before = shared_libraries.run_path(patchelf, target) if is_package else ""
        needs_copies = _copy_libraries(source, folder / "lib")
        if not is_package or (before and needs_copies):  # without a run path, the program's counts
            shared_libraries.set_run_path(patchelf, target, [folder / "lib"], before)
    interpreter.add_packages(folder, site_packages)
    copied_model = None
    if model is not None:
        report("copying the model")
        copied_model = folder / "models" / model.absolute().name
        copied_model.parent.mkdir()
        (shutil.copytree if model.is_dir() else shutil.copy2)(model, copied_model)
    report("compiling Python modules")
    interpreter.compile_all(folder)
    interpreter.run(folder, "import dynamo_llm")
    names = tuple(f"{one.metadata['Name']} {one.version}" for one in distributions)
    files = (Path(parent) / name for parent, _, found in os.walk(folder) for name in found)
    return Bundle(copied, copied_model, names, sum(file.lstat().st_size for file in files))


def _check(program: Path, folder: Path, model: Path | None) -> None:
    if not sys.platform.startswith("linux"):
        raise NotSupportedError(f"bundles can be made on Linux only, not on {sys.platform}")
    if not program.is_file() or not shared_libraries.is_elf(program):
        raise InvalidArgumentError(f'the program "{program}" is not an executable file of Linux')
    libraries = shared_libraries.needed(program)
    if missing := [name for name, path in libraries.items() if path is None]:
        raise InvalidArgumentError(
            f'the program "{program}" needs {", ".join(missing)}, which this machine does not find'
        )
    if _library not in libraries:
        raise NotSupportedError(
            f'the program "{program}" is not linked with {_library}; link it with '
            '"$(dynamo-llm config --libs)", without --static'
        )
    if program.name in (interpreter.version, "python3", "python"):
        raise InvalidArgumentError(f'the program cannot be named "{program.name}": Python is beside it')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidArgumentError(f'"{folder}" exists and is not an empty folder; name a new one')
    if model is not None and not model.exists():
        raise ModelNotFoundError(f'the model "{model}" does not exist')


def _copy_libraries(source: Path, target: Path) -> bool:
    """Copies the shared libraries that a program or module needs, except for those in packages.

    :returns: whether it needs any of these.
    """
    needs_copies = False
    for name, path in shared_libraries.needed(source).items():
        # A module of which a library is missing does not work here either.
        if path is None or "site-packages" in path.parts or "dist-packages" in path.parts:
            continue
        needs_copies = True
        if not (target / name).exists():
            shutil.copy2(path, target / name)
    return needs_copies

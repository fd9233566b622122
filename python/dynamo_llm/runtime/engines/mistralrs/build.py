# SPDX-License-Identifier: Apache-2.0
"""Finds what the installed mistral.rs was built for, and checks the configured device against it."""

import importlib.util
import mmap
from pathlib import Path

from dynamo_llm.errors import EngineUnavailableError, InvalidConfigError
from dynamo_llm.runtime import extras
from dynamo_llm.runtime.gpu_builds import cpu_build, gpu_build

# What only a build with CUDA or Metal contains: names of the libraries that it opens or is linked to.
_marks = {"CUDA": (b"libcuda", b"cudarc"), "Metal": (b"Metal.framework",)}

_apis = {"cpu": None, "cuda": "CUDA", "metal": "Metal"}


def name() -> str:
    """Returns name and version of the package that contains mistral.rs."""
    package = extras.provider_of("mistralrs")
    return " ".join(package) if package is not None else "mistralrs"


def api() -> str | None:
    """Returns ``CUDA`` or ``Metal``, which the installed build uses; None for a build for CPUs. Reads the
    binary, which takes tenths of a second.

    :raises EngineUnavailableError: mistral.rs is not installed.
    :raises OSError: the binary cannot be read.
    """
    spec = importlib.util.find_spec("mistralrs")
    if spec is None:
        raise EngineUnavailableError("mistral.rs is not installed; run: python -m pip install mistralrs")
    files = [file for folder in spec.submodule_search_locations or () for file in Path(folder).glob("*.so")]
    return next(
        (found for file in files or ([Path(spec.origin)] if spec.origin else []) if (found := _api_of(file))),
        None,
    )


def _api_of(file: Path) -> str | None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name, marks in _marks.items():
            if any(content.find(mark) >= 0 for mark in marks):
                return name
    return None


def check_device(device: str) -> None:
    """Checks that the installed mistral.rs computes on a device. It has one device, which its build decides.

    :param device: ``device`` of the configuration, not ``auto``.
    :raises EngineUnavailableError: another build of mistral.rs is needed.
    :raises InvalidConfigError: no build of mistral.rs has the device, or lets the configuration choose it.
    """
    kind, _, index = device.partition(":")
    given = f'"device" of the configuration is "{device}", but '
    if kind not in _apis:
        raise InvalidConfigError(f"{given}mistral.rs has cpu, cuda, and metal")
    wanted, built = _apis[kind], api()
    if wanted != built and wanted is not None:
        what = f"is built for {built}" if built else "is built for CPUs"
        raise EngineUnavailableError(
            f"{given}{name()} {what}; for {wanted}: {gpu_build('mistralrs', wanted, True)}"
        )
    if wanted != built:
        package = (extras.provider_of("mistralrs") or ("mistralrs",))[0]
        raise EngineUnavailableError(
            f"{given}{name()} is built for {built}, and always uses it; for CPUs: "
            f"{cpu_build('mistralrs', package)}"
        )
    if int(index or 0) != 0:
        how = f"; set CUDA_VISIBLE_DEVICES={index} in the program's environment" if kind == "cuda" else ""
        raise InvalidConfigError(f"{given}mistral.rs uses the first device that it sees{how}")

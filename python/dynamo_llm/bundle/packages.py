# SPDX-License-Identifier: Apache-2.0
"""Finds the installed packages that a bundle needs, and their files."""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dynamo_llm.errors import InvalidArgumentError


def _requirement(line: str) -> tuple[str, str]:
    """Returns the name of a requirement such as ``click>=8.1; python_version < "4"``, and its marker."""
    specifier, _, marker = line.partition(";")
    match = re.match(r"\s*([A-Za-z0-9._-]+)", specifier)
    assert match is not None, line
    return match[1], marker.strip()


def closure(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """Returns the installed packages with the given names, and all that they require.

    Requirements of extras do not count; others with a marker (another system, another Python) count if they
    are installed.

    :raises InvalidArgumentError: one of the names, or a requirement without a marker, is not installed.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(name, "", "") for name in names]
    while waiting:
        name, marker, of = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if marker:
                continue
            needed = f", which {of} requires," if of else ""
            raise InvalidArgumentError(
                f'the package "{name}"{needed} is not installed in this environment'
            ) from None
        found[key] = distribution
        requirements = (_requirement(line) for line in distribution.requires or ())
        waiting += [(name, marker, key) for name, marker in requirements if "extra" not in marker]
    return [found[key] for key in sorted(found)]


def files(distribution: importlib.metadata.Distribution) -> Iterator[tuple[Path, Path]]:
    """Yields the files of a package: where each is, and its path below site-packages. Scripts are left out.

    :raises InvalidArgumentError: the package is installed in editable mode, so that its files are elsewhere.
    """
    name = distribution.metadata["Name"]
    direct = distribution.read_text("direct_url.json") or ""
    if re.search(r'"editable"\s*:\s*true', direct):
        raise InvalidArgumentError(
            f'the package "{name}" is installed in editable mode; install it without -e, and bundle again'
        )
    for file in distribution.files or ():
        if ".." in file.parts or file.is_absolute() or "__pycache__" in file.parts:
            continue
        path = Path(str(distribution.locate_file(file)))
        if path.is_file():
            yield path, Path(*file.parts)

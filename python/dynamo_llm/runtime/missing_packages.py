# SPDX-License-Identifier: Apache-2.0
"""Explains an ImportError for a package that is installed next to the library.

A program with its own Python that loads the library gets the package ``dynamo_llm`` from the library's
folder, but other packages are searched only where that Python searches.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

#: The folder that has this package, and the packages installed with it.
_folder = str(Path(__file__).resolve().parents[2])


def hint_for(error: BaseException) -> str:
    """Returns a hint to append to the error of a failed start; "" unless such a package is the cause."""
    cause: BaseException | None = error
    while cause is not None:
        package = (cause.name or "").partition(".")[0] if isinstance(cause, ImportError) else ""
        if package and is_installed_beside(package):
            return (
                f". The package {package} is installed in {_folder}, with this library, but this program's "
                f'Python does not search there: set "python": {{"path": ["{_folder}"]}} in the configuration'
            )
        cause = cause.__cause__ or cause.__context__
    return ""


def is_installed_beside(package: str) -> bool:
    """Whether a package is installed with the library in a folder that is not on ``sys.path``."""
    searched = {str(Path(folder or ".").resolve()) for folder in sys.path if isinstance(folder, str)}
    try:
        return _folder not in searched and PathFinder.find_spec(package, [_folder]) is not None
    except (ImportError, ValueError, OSError):
        return False

# SPDX-License-Identifier: Apache-2.0
"""Reads API keys from where they are not shown: not from the command line, which other users can list."""

import os
from pathlib import Path

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.secret import Secret, shown_variable


def key_of_variable(name: str) -> Secret:
    """Reads a key from an environment variable.

    :raises InvalidConfigError: the variable is not set, or its value is not a key.
    """
    value = os.environ.get(name, "").strip()
    where = f'the environment variable "{shown_variable(name)}"'
    if not value:
        raise InvalidConfigError(f"{where}, which --api-key-env names, is not set or is empty")
    return _checked(value, where)


def keys_of_file(path: Path) -> list[Secret]:
    """Reads keys from a file, one on each line.

    :raises InvalidConfigError: the file cannot be read, or has no key.
    """
    where = f'the file "{path}", which --api-key-file names,'
    try:
        lines = path.expanduser().read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InvalidConfigError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidConfigError(f"{where} is not UTF-8 at byte {error.start}") from None
    keys = [
        _checked(line.strip(), f"line {number} of {where}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not keys:
        raise InvalidConfigError(f"{where} has no key; write one on each line")
    return keys


def _checked(value: str, where: str) -> Secret:
    key = Secret(value)
    if not all("!" <= sign <= "~" for sign in value):
        raise InvalidConfigError(f"{where} is not a key: it has characters other than printable ASCII")
    return key

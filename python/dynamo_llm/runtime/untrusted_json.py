# SPDX-License-Identifier: Apache-2.0
"""Parses JSON from servers, with limits on its depth and on its integers."""

import json
import re
from typing import Any

#: Levels of arrays and objects. The library reads 128 levels, and wraps the server's value in some.
_most_levels = 100
#: Digits of an integer: Python takes quadratic time to parse long ones.
_most_digits = 40

#: A whole string, or a bracket.
_token = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def parse(text: str) -> Any:
    """Parses a JSON text.

    :raises ValueError: it is not valid JSON, is nested deeper than 100 levels, or has an integer of more than
        40 digits. The message does not contain the text.
    """
    if text.count("[") + text.count("{") > _most_levels:
        _check_levels(text)
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > _most_digits:
        raise ValueError(f"it has an integer of {len(digits)} digits; at most {_most_digits} are read")
    return int(digits)


def _check_levels(text: str) -> None:
    level = 0
    for found in _token.finditer(text):
        sign = found[0]
        if sign in "[{":
            level += 1
            if level > _most_levels:
                raise ValueError(f"it is nested deeper than {_most_levels} levels")
        elif sign in "]}":
            level -= 1

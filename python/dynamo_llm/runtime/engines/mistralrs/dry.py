# SPDX-License-Identifier: Apache-2.0
"""Reads the keys of DRY sampling, "don't repeat yourself": it penalizes tokens that continue a repetition."""

import json
import math
from collections.abc import Mapping
from typing import Any

from dynamo_llm.errors import InvalidRequestError

#: The keys have llama.cpp's names, and mistral.rs' defaults: 2, 1.75, 0 (off), and ``\\n : " *``.
keys = ("dry_allowed_length", "dry_base", "dry_multiplier", "dry_sequence_breakers")

#: Limits of ``dry_sequence_breakers``: each is tokenized for every request.
_most_breakers = 64
_longest_breaker = 256


def of_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of ChatCompletionRequest, which have the same names.

    :raises InvalidRequestError: a value has the wrong type or is out of range.
    """
    given = {key: body[key] for key in keys if body.get(key) is not None}
    for key, least in (("dry_multiplier", 0), ("dry_base", 1)):
        if key in given and not (_is_number(given[key]) and least <= given[key] < math.inf):
            _reject(key, f"a number of at least {least}", given)
    length = given.get("dry_allowed_length", 1)
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length < 1 << 32:
        _reject("dry_allowed_length", "an integer of at least 1", given)
    breakers = given.get("dry_sequence_breakers", [])
    if (
        not isinstance(breakers, list)
        or len(breakers) > _most_breakers
        or not all(isinstance(text, str) and 0 < len(text) <= _longest_breaker for text in breakers)
    ):
        expected = f"a list of at most {_most_breakers} strings, each of 1 to {_longest_breaker} characters"
        _reject("dry_sequence_breakers", expected, given)
    return given


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reject(key: str, expected: str, given: dict[str, Any]) -> None:
    text = json.dumps(given[key])
    raise InvalidRequestError(
        f'"{key}" of the request must be {expected}, not {text if len(text) <= 80 else text[:77] + "..."}'
    )

# SPDX-License-Identifier: Apache-2.0
"""Checks numbers, and converts them to the form that the library takes: milliseconds, arrays as bytes."""

import math
import operator
from array import array
from collections.abc import Sequence
from typing import Any

from dynamo_llm.errors import InvalidArgumentError

#: No time limit, in milliseconds of the C library.
FOREVER = -1

#: Seconds; a longer duration counts as no limit.
_longest = 1e12


def token_ids(ids: Sequence[int]) -> bytes:
    """Packs token ids, 4 bytes each.

    :raises InvalidArgumentError: one of them is not an integer from 0 to 2**32 - 1.
    """
    return _packed("I", ids, "token ids must be integers from 0 to 4294967295")


def words(numbers: Sequence[int], name: str) -> bytes:
    """Packs unsigned 64-bit integers, such as block hashes and worker ids, 8 bytes each.

    :param name: what they are, in the plural, for the error.
    :raises InvalidArgumentError: one of them is not an integer from 0 to 2**64 - 1.
    """
    return _packed("Q", numbers, f"{name} must be integers from 0 to 18446744073709551615")


def integer(value: int, name: str, least: int, most: int) -> int:
    """Checks an integer, Python's or numpy's, against a range that includes both ends.

    :param name: the argument's name, for the error.
    :returns: the value as a Python integer.
    :raises InvalidArgumentError: the value is not an integer in that range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise InvalidArgumentError(f"{name} must be an integer from {least} to {most}, not {value!r:.100}")
    return number


def number(value: float, name: str, least: float, most: float) -> float:
    """Checks a number, Python's or numpy's, against a range that includes both ends.

    :param name: the argument's name, for the error.
    :returns: the value as a float.
    :raises InvalidArgumentError: the value is not a number in that range.
    """
    real = _float(value)
    if not least <= real <= most:
        raise InvalidArgumentError(f"{name} must be a number from {least:g} to {most:g}, not {value!r:.100}")
    return real


def milliseconds(seconds: float | None, name: str, is_deadline: bool = False) -> int:
    """Converts seconds to whole milliseconds, rounded up so that no wait is shorter than requested.

    :param seconds: at least 0; None or infinity for no limit.
    :param name: the argument's name, for the error.
    :param is_deadline: whether 0 is an error: a deadline that has passed before the request is sent.
    :returns: milliseconds, or :data:`FOREVER`.
    :raises InvalidArgumentError: ``seconds`` is negative or not a number.
    """
    limit = math.inf if seconds is None else _float(seconds)
    if not limit >= 0 or (is_deadline and limit == 0):
        least = "more than 0" if is_deadline else "0 or more"
        raise InvalidArgumentError(
            f"{name} must be None or a number of seconds, {least}, not {seconds!r:.100}"
        )
    return FOREVER if limit > _longest else math.ceil(limit * 1000)


def _float(value: Any) -> float:
    """Converts a number; a value that is not a number becomes NaN."""
    try:
        return math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except OverflowError:  # an integer beyond the range of float
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan


def _packed(code: str, numbers: Sequence[int], rule: str) -> bytes:
    try:
        return array(code, numbers).tobytes()
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"{rule}: {error}") from error

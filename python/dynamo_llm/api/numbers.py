# SPDX-License-Identifier: Apache-2.0
"""Checks numbers, and packs arrays of them into the bytes that the library takes."""

import math
import operator
from array import array
from collections.abc import Sequence

from dynamo_llm.errors import InvalidArgumentError


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
    try:
        real = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        real = math.nan
    if not least <= real <= most:
        raise InvalidArgumentError(f"{name} must be a number from {least:g} to {most:g}, not {value!r:.100}")
    return real


def _packed(code: str, numbers: Sequence[int], rule: str) -> bytes:
    try:
        return array(code, numbers).tobytes()
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"{rule}: {error}") from error

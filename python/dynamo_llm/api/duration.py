# SPDX-License-Identifier: Apache-2.0
"""Seconds of Python, milliseconds of C."""

import math

from dynamo_llm.errors import InvalidArgumentError

#: "For ever" or "none" in C.
FOREVER = -1


def milliseconds(seconds: float | None, name: str) -> int:
    """Whole milliseconds, rounded up: a wait is never shorter than asked for.

    :param seconds: at least 0; None or infinity for ever.
    :param name: what the error calls it.
    :raises InvalidArgumentError: negative, or not a number.
    """
    if seconds is None or seconds == math.inf:
        return FOREVER
    if not seconds >= 0:
        raise InvalidArgumentError(f"{name} must be a number of seconds from 0 on, or None, not {seconds}")
    return min(math.ceil(seconds * 1000), 2**62)

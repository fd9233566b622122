# SPDX-License-Identifier: Apache-2.0
"""Converts durations: Python has seconds, the C library milliseconds."""

import math

from dynamo_llm.errors import InvalidArgumentError

#: No time limit, in C.
FOREVER = -1

#: Seconds; a longer duration counts as no limit.
_longest = 1e12


def milliseconds(seconds: float | None, name: str) -> int:
    """Converts seconds to whole milliseconds, rounded up so that no wait is shorter than requested.

    :param seconds: at least 0; None or infinity for no limit.
    :param name: the argument's name, for the error.
    :returns: milliseconds, or :data:`FOREVER`.
    :raises InvalidArgumentError: ``seconds`` is negative or not a number.
    """
    if seconds is None:
        return FOREVER
    try:
        limit = math.nan if isinstance(seconds, (bool, str, bytes)) else float(seconds)
    except OverflowError:  # an integer beyond the range of float
        limit = math.inf if seconds > 0 else math.nan
    except (TypeError, ValueError):
        limit = math.nan
    if not limit >= 0:
        raise InvalidArgumentError(
            f"{name} must be None or a number of seconds, 0 or more, not {seconds!r:.100}"
        )
    return FOREVER if limit > _longest else math.ceil(limit * 1000)

# SPDX-License-Identifier: Apache-2.0
"""Audio of a request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Audio:
    """Audio of a request, whose size was checked."""

    format: str
    """``wav`` or ``mp3``, as the request declares it; whether the data is of that format is found out when it
    is decoded."""
    data: bytes
    """The file."""
    where: str
    """Path of the data in the request's body, for errors."""

# SPDX-License-Identifier: Apache-2.0
"""Defines the timeout of tests, and how they wait."""

import time
from collections.abc import Callable
from typing import TypeVar

#: Timeout in seconds, long enough for slow machines: what takes longer is considered hung.
patience = 100

T = TypeVar("T")


def wait_until(condition: Callable[[], T], failure: Callable[[], str] = lambda: "it never became true") -> T:
    """Polls until the condition is true, and returns its value. After the timeout, raises the text of
    ``failure``.
    """
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() >= end:
            raise AssertionError(failure())
        time.sleep(0.05)
    return value

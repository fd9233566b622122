# SPDX-License-Identifier: Apache-2.0
"""How long tests wait, and how."""

import time
from collections.abc import Callable
from typing import TypeVar

#: Seconds after which something hangs; slow machines need some of it.
patience = 100

T = TypeVar("T")


def wait_until(condition: Callable[[], T], failure: Callable[[], str] = lambda: "it never became true") -> T:
    """Ask until the answer is true, and give it; what ``failure`` says when that does not come."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() >= end:
            raise AssertionError(failure())
        time.sleep(0.05)
    return value

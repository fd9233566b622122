# SPDX-License-Identifier: Apache-2.0
"""Long calls that Ctrl-C can leave."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def interruptible(function: Callable[[], Result]) -> Result:
    """Call a function that blocks and cannot be cancelled.

    In the main thread it runs in a thread of its own: signal handlers run meanwhile, and if one raises, as
    Ctrl-C does, the function goes on by itself and its result is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((True, function()))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=work, name="dynamo-blocking", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # from Python 3.12 on none can be started while Python ends
        return function()
    thread.join()
    is_good, result = outcome
    try:
        if not is_good:
            raise result
        value: Result = result
        return value
    finally:
        del result, outcome[:]  # the error's traceback has this frame: no cycle

# SPDX-License-Identifier: Apache-2.0
"""Blocking calls that Ctrl-C interrupts."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from dynamo_llm import _core
from dynamo_llm.api.numbers import FOREVER, milliseconds
from dynamo_llm.runtime.threads import settle

Result = TypeVar("Result")

#: Milliseconds that a wait blocks at a time; Python runs signal handlers in between.
_step = 100


def interruptible(function: Callable[[], Result]) -> Result:
    """Calls a function that blocks and cannot be cancelled.

    In the main thread, the function runs in another thread, so that signal handlers run meanwhile. If one
    raises, as Ctrl-C does, the function continues in the background and its result is dropped.
    """
    # In a program that does not run Python itself, the main thread is the event loop's, where the library
    # refuses to wait: the function must be called here to raise that error.
    if threading.current_thread() is not threading.main_thread() or _core.is_loop_thread():
        return function()
    job: Future[Result] = Future()
    thread = threading.Thread(target=settle, args=(job, function), name="dynamo-blocking", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # since Python 3.12 no thread can be started during finalization
        return function()
    thread.join()
    try:
        return job.result()
    finally:
        del job  # the error's traceback refers to this frame: avoid a cycle


def wait_in_steps(wait: Callable[[int], bool], timeout: float | None) -> bool:
    """Waits in short steps, so that Ctrl-C is noticed.

    :param wait: blocks for at most the given number of milliseconds; returns whether the wait is over.
    :param timeout: seconds; None for no limit.
    :returns: False if the timeout passed first.
    :raises InvalidArgumentError: ``timeout`` is negative or not a number.
    """
    limit = milliseconds(timeout, "timeout")
    start = time.monotonic()
    while True:
        left = limit - round((time.monotonic() - start) * 1000)
        if wait(_step if limit == FOREVER else max(0, min(left, _step))):
            return True
        if limit != FOREVER and left <= _step:
            return False

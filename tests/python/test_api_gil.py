# SPDX-License-Identifier: Apache-2.0
"""Each call that can wait does so without the GIL."""

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import engine
from dynamo_llm import Runtime


def slow(*script: dict[str, Any]) -> Runtime:
    return Runtime(engine="scripted", options={"script": [{"delay_ms": 100}, *script]})


def create() -> Callable[[], Any]:
    return lambda: Runtime(engine("slow:Slow"))


def receive() -> Callable[[], Any]:
    request = slow().complete("x")
    return lambda: request.receive(30)


def iterate() -> Callable[[], Any]:
    request = slow({"text": "a"}).complete("x")
    return lambda: list(request)


def shut_down() -> Callable[[], Any]:
    runtime = slow()
    request = runtime.complete("x")
    return lambda: (runtime.shutdown(), request.status)


def close() -> Callable[[], Any]:
    return Runtime(engine("slow:Slow")).close


def drop() -> Callable[[], Any]:
    runtimes = [Runtime(engine("slow:Slow"))]
    return lambda: (runtimes.clear(), gc.collect())


def turns_during(call: Callable[[], Any], in_main_thread: bool) -> int:
    """How often another thread of Python gets its turn while a call waits."""
    turns, done = 0, threading.Event()

    def turn() -> None:
        nonlocal turns
        while not done.is_set():
            time.sleep(0.0005)
            turns += 1

    turner = threading.Thread(target=turn)
    turner.start()
    try:
        before = turns
        if in_main_thread:
            call()
        else:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        return turns - before
    finally:
        done.set()
        turner.join()


@pytest.mark.parametrize("prepare", [create, receive, iterate, shut_down, close, drop])
@pytest.mark.parametrize("in_main_thread", [True, False])
def test_another_thread_goes_on(prepare: Callable[[], Callable[[], Any]], in_main_thread: bool) -> None:
    """While the call waits for a tenth of a second, another thread of Python runs many times.

    With the GIL held it would be a few in every round, those before and after the wait; a busy machine may
    make it a few in some.
    """
    assert any(turns_during(prepare(), in_main_thread) > 5 for _ in range(20))

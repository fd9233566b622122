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


@pytest.mark.parametrize("prepare", [create, receive, iterate, shut_down, close, drop])
@pytest.mark.parametrize("in_main_thread", [True, False])
def test_another_thread_goes_on(prepare: Callable[[], Callable[[], Any]], in_main_thread: bool) -> None:
    """While the call waits for a tenth of a second, another thread of Python runs many times."""
    call = prepare()
    ticks, done = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            time.sleep(0.0005)
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        before = ticks
        if in_main_thread:
            call()
        else:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        # With the GIL held it would be a few, those before and after the wait.
        assert ticks - before > 5
    finally:
        done.set()
        ticker.join()

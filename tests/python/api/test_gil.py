# SPDX-License-Identifier: Apache-2.0
"""Each call that can wait releases the GIL while it waits."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import engine
from dynamo_llm import Runtime


def slow(seconds: float, *script: dict[str, Any]) -> Runtime:
    return Runtime(engine="scripted", options={"script": [{"delay_ms": round(seconds * 1000)}, *script]})


def slow_engine(seconds: float) -> dict[str, Any]:
    return engine("slow:Slow", options={"seconds": seconds})


def create(seconds: float) -> Callable[[], Any]:
    return lambda: Runtime(slow_engine(seconds))


def receive(seconds: float) -> Callable[[], Any]:
    request = slow(seconds).complete("x")
    return lambda: request.receive(30)


def iterate(seconds: float) -> Callable[[], Any]:
    request = slow(seconds, {"text": "a"}).complete("x")
    return lambda: list(request)


def shut_down(seconds: float) -> Callable[[], Any]:
    runtime = slow(seconds)
    request = runtime.complete("x")
    return lambda: (runtime.shutdown(), request.status)


def close(seconds: float) -> Callable[[], Any]:
    return Runtime(slow_engine(seconds)).close


def call_engine(seconds: float) -> Callable[[], Any]:
    runtime = Runtime(engine("controlled:Controlled"))
    return lambda: runtime.call("block", seconds=seconds)


def turns_during(call: Callable[[], Any], in_main_thread: bool) -> int:
    """Returns how often another Python thread runs while a call waits."""
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


@pytest.mark.parametrize("prepare", [create, receive, iterate, shut_down, close, call_engine])
@pytest.mark.parametrize("in_main_thread", [True, False])
def test_another_thread_keeps_running(
    prepare: Callable[[float], Callable[[], Any]], in_main_thread: bool
) -> None:
    """While the call waits, another Python thread runs many times.

    If the call held the GIL, the thread would run only a few times in each round, before and after the wait.
    A busy machine, or the garbage collection of a large process (``shutdown()`` begins with one), may take
    the whole of a short wait, so each round waits twice as long as the one before.
    """
    assert any(turns_during(prepare(0.1 * 2**round_), in_main_thread) > 5 for round_ in range(8))

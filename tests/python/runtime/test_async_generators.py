# SPDX-License-Identifier: Apache-2.0
"""How chunks of asynchronous generators enter a stream: gathered while no reader waits, in order, without
loss.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dynamo_llm
import pytest
from conftest import engine, engines_dir
from dynamo_llm import Runtime
from waiting import wait_until


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime(engine("draining:Draining")) as runtime:
        draining().closed.clear()
        draining().turns.clear()
        yield runtime


def draining() -> Any:
    """The engine's class in this process."""
    return sys.modules["draining"].Draining


def text_of(count: int) -> str:
    """Returns the text of `count` chunks of the engine."""
    return "".join(f"{i} " if i % 7 else f"{i}\N{BLACK STAR}" for i in range(count))


@pytest.mark.parametrize("how", ["flat", "suspending", "by hand"])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 64, 65, 1000, 20_000])
def test_chunks_keep_their_order(runtime: Runtime, how: str, count: int) -> None:
    answer = runtime.complete(f"{how}:{count}").result()
    assert answer.token_ids == list(range(count))
    assert answer.text == text_of(count)
    assert answer.finish_reason == "stop"
    assert runtime.statistics()["tokens"]["pushed"] == count


@pytest.mark.parametrize("capacity", [1, 16, 100, 1023, 1024, 5000])
@pytest.mark.parametrize("how", ["flat", "suspending"])
def test_full_streams(how: str, capacity: int) -> None:
    """Nothing is lost at any capacity, and only gathered chunks exceed it."""
    with Runtime(engine("draining:Draining", stream={"capacity": capacity})) as runtime:
        request = runtime.complete(f"{how}:3000")
        wait_until(lambda: runtime.statistics()["tokens"]["pushed"] >= min(capacity, 3000))
        assert runtime.statistics()["tokens"]["pushed"] <= capacity + 64
        answer = request.result()
        assert answer.token_ids == list(range(3000))
        assert answer.text == text_of(3000)


def test_kinds_of_chunks(runtime: Runtime) -> None:
    """A chunk that cannot be gathered keeps its position among those that can."""
    answer = runtime.complete("mixed:5000").result()
    words = answer.text.replace("x" * 3000, "").replace("\N{BLACK STAR}", " ").split()
    assert words == [str(i) for i in range(5000)]
    assert answer.finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 5000


def test_split_code_points(runtime: Runtime) -> None:
    answer = runtime.complete("halves:1000").result()
    assert answer.text == "\N{BLACK STAR}" * 1000
    assert answer.token_ids == [0, 1] * 1000


@pytest.mark.parametrize(("how", "match"), [("fails", "it is broken"), ("nonsense", "must be str or bytes")])
@pytest.mark.parametrize("count", [0, 1, 40, 1000])
def test_chunks_before_a_failure(runtime: Runtime, how: str, match: str, count: int) -> None:
    request = runtime.complete(f"{how}:{count}")
    text, ids = "", []
    with pytest.raises(dynamo_llm.EngineFailedError, match=match):
        for response in request:
            text += response.text
            ids += response.token_ids
    assert (text, ids) == (text_of(count), list(range(count)))
    assert draining().closed == [how]


def test_cancel_of_a_generator_without_pauses(runtime: Runtime) -> None:
    """The event loop runs, and the generator is closed."""
    request = runtime.complete("forever:0")
    assert next(request).token_ids[0] == 0
    request.cancel()
    with pytest.raises(dynamo_llm.CancelledError):
        request.result()
    wait_until(lambda: draining().closed == ["forever"])


def test_other_generators_run(runtime: Runtime) -> None:
    """A generator that does not pause, and whose reader keeps up, leaves time for others."""
    busy = runtime.complete("forever:0")
    other = runtime.complete("turns_of_others:20")
    while not draining().turns:
        next(busy)
    assert other.result().text == "done"
    busy.cancel()


def run_with_loop(loop: str) -> "subprocess.CompletedProcess[str]":
    program = f"""
import sys
sys.path.insert(0, {str(engines_dir)!r})
import dynamo_llm
from dynamo_llm.runtime import host
with dynamo_llm.Runtime(engine="draining:Draining", stream={{"capacity": 2000}}) as runtime:
    for how in ("flat", "suspending", "by hand"):
        print(how, len(runtime.complete(how + ":5000").result().token_ids))
    request = runtime.complete("forever:0")
    next(request)
    request.cancel()
    print(type(host._host.loop).__module__.partition(".")[0])
"""
    environment = {**os.environ, "DYNAMO_LLM_LOOP": loop}
    return subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_event_loops(loop: str) -> None:
    """DYNAMO_LLM_LOOP selects the event loop."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    done = run_with_loop(loop)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["flat 5000", "suspending 5000", "by hand 5000", loop, ""]


def test_unknown_event_loop() -> None:
    done = run_with_loop("trio")
    assert done.returncode == 1
    assert "PythonUnavailableError" in done.stderr
    assert 'DYNAMO_LLM_LOOP is "trio"; it must be "asyncio" or "uvloop"' in done.stderr

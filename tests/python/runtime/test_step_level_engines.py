# SPDX-License-Identifier: Apache-2.0
"""Engines with their own step loop, and push_many()."""

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import dynamo_llm
import pytest
from conftest import engine
from dynamo_llm import Runtime
from dynamo_llm.runtime.sink import Sink, push_many
from waiting import patience, wait_until


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime(engine("stepping:Stepping")) as runtime:
        yield runtime


def stepping() -> Any:
    """The engine's class in this process."""
    return sys.modules["stepping"].Stepping


def test_an_answer(runtime: Runtime) -> None:
    """Text, IDs, order; one response may have many tokens."""
    answer = runtime.complete("say:one two three").result()
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("one two three ", [0, 1, 2], "stop")
    assert answer.usage is None
    assert runtime.statistics()["tokens"]["pushed"] == 3


def test_reason_and_usage(runtime: Runtime) -> None:
    answer = runtime.complete("length:one two").result()
    assert answer.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.json() == {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1}


def test_many_at_once(runtime: Runtime) -> None:
    """Each request gets its own tokens, in order; one that fails in the middle does not affect the others."""
    count = 200
    requests = [runtime.complete(f"say:{i} a b c {i}") for i in range(count)]
    broken = runtime.complete("fail:x y")
    for i, request in enumerate(requests):
        answer = request.result()
        assert (answer.text, answer.token_ids) == (f"{i} a b c {i} ", [0, 1, 2, 3, 4])
    with pytest.raises(dynamo_llm.EngineFailedError, match="the batch is broken") as caught:
        broken.result()
    assert caught.value.details["python"]["type"] == "ValueError"
    wait_until(lambda: runtime.statistics()["requests"]["in_flight"] == 0)


def test_no_token(runtime: Runtime) -> None:
    assert runtime.complete("say:").result().text == ""


def test_an_end_within_add(runtime: Runtime) -> None:
    answer = runtime.complete("at once:hello").result()
    assert (answer.text, answer.finish_reason) == ("hello", "stop")


@pytest.mark.parametrize(
    ("how", "match"), [("refuse", "ValueError: it is not wanted"), ("exit", "SystemExit")]
)
def test_an_engine_that_rejects_a_request(runtime: Runtime, how: str, match: str) -> None:
    with pytest.raises(dynamo_llm.EngineFailedError, match=match):
        runtime.complete(f"{how}:x").result()
    assert runtime.complete("say:x").result().text == "x "


def test_cancel(runtime: Runtime) -> None:
    """The engine is notified, once, and removes the request from its batch."""
    stepping().cancelled.clear()
    request = runtime.complete("long:1000000")
    next(request)
    request.cancel()
    with pytest.raises(dynamo_llm.CancelledError):
        request.result()
    wait_until(lambda: stepping().cancelled == [request.id])
    wait_until(lambda: runtime.statistics()["requests"]["in_flight"] == 0)


def test_a_cancel_that_raises(runtime: Runtime) -> None:
    request = runtime.complete("raise in cancel:" + "word " * 10_000)
    next(request)
    request.cancel()
    with pytest.raises(dynamo_llm.CancelledError):
        request.result()
    wait_until(lambda: runtime.statistics()["requests"]["in_flight"] == 0)
    assert runtime.complete("say:x").result().text == "x "


def test_a_deadline(runtime: Runtime) -> None:
    with pytest.raises(dynamo_llm.DeadlineExceededError):
        runtime.complete("long:1000000", timeout=0.05).result()


def test_a_full_stream_takes_nothing() -> None:
    """What it did not accept is pushed later: the text is complete, and on_writable() was called."""
    with Runtime(engine("stepping:Stepping", stream={"capacity": 16})) as runtime:
        stepping().full.clear()
        stepping().spaces.clear()
        slow, quick = runtime.complete("long:500"), runtime.complete("say:a b c")
        wait_until(lambda: bool(stepping().full))
        assert quick.result().text == "a b c "
        answer = slow.result()
        assert answer.token_ids == list(range(500))
        assert answer.text == "word " * 500
        assert slow.id in stepping().spaces


def test_a_runtime_that_is_closed_meanwhile() -> None:
    """Requests in flight are cancelled; the engine is notified."""
    with Runtime(engine("stepping:Stepping")) as runtime:
        request = runtime.complete("long:1000000")
        next(request)
    with pytest.raises(dynamo_llm.DynamoError):
        request.result()


def test_ended_sinks_are_freed(runtime: Runtime) -> None:
    """A sink that ended is freed, however it ended."""
    alive: weakref.WeakSet[Sink] = weakref.WeakSet()
    made = Sink.__init__

    def watched(self: Sink, *args: Any) -> None:
        made(self, *args)
        alive.add(self)

    Sink.__init__ = watched  # type: ignore[method-assign]
    try:
        for prompt in ("say:a b", "at once:x"):
            runtime.complete(prompt).result()
        for prompt in ("fail:x", "refuse:x"):
            with pytest.raises(dynamo_llm.EngineFailedError):
                runtime.complete(prompt).result()

        def are_gone() -> bool:
            gc.collect()
            return not alive

        wait_until(are_gone)
    finally:
        Sink.__init__ = made  # type: ignore[method-assign]


class Unused:
    """An engine for sinks that no runtime knows."""

    def add(self, request: Any, sink: Sink) -> None: ...

    def cancel(self, sink: Sink) -> None: ...


def no_sink() -> Sink:
    """Returns a sink without a stream."""
    return Sink(12345, "x", Unused(), None, lambda: None)


def test_wrong_calls() -> None:
    """Each error says what is wrong."""
    ended = no_sink()
    ended.fail(ValueError())
    calls: list[tuple[type[Exception], str | None, Any]] = [
        (TypeError, "sinks of push_many.. must be a sequence", (None, [])),
        (TypeError, "sinks of push_many.. must be a sequence", (1, [])),
        (TypeError, "number 0 is str", (["x"], [1])),
        (ValueError, "1 sinks and 2 token_ids", ([no_sink()], [1, 2])),
        (ValueError, "1 sinks and 0 texts", ([no_sink()], [1], [])),
        (ValueError, "needs token_ids or texts", ([no_sink()], None, None)),
        (ValueError, "less than 4294967296", ([no_sink()], [1 << 32])),
        (OverflowError, None, ([no_sink()], [-1])),
        (TypeError, None, ([no_sink()], ["1"])),
        (TypeError, "str or bytes", ([no_sink()], [1], [1])),
        (ValueError, "sink number 0: DYNAMO_ERROR_INVALID_HANDLE", ([no_sink()], [1])),
    ]
    for kind, match, arguments in calls:
        with pytest.raises(kind, match=match):
            push_many(*arguments)
    assert push_many([], []) == []
    assert push_many([ended], [1]) == []  # it may have ended in another thread
    assert ended.push({"text": "x"})
    with pytest.raises(ValueError, match="belongs to finish"):
        no_sink().push({"usage": {}})
    with pytest.raises(TypeError, match="must be dict"):
        no_sink().finish(usage=3)  # type: ignore[arg-type]
    ended.finish()  # is ignored
    assert ended.has_ended and ended.is_cancelled


def test_split_code_points(runtime: Runtime) -> None:
    """A step may split a code point; the caller gets it whole."""
    seen = {"sinks": []}

    def add(self: Any, request: Any, sink: Sink) -> None:
        seen["sinks"].append(sink)

    stepping_add = stepping().add
    stepping().add = add
    try:
        request = runtime.complete("x")
        wait_until(lambda: bool(seen["sinks"]))
        (sink,) = seen["sinks"]
        for byte in "é😀".encode():
            assert push_many([sink], None, [bytes([byte])]) == []
        sink.finish()
        assert request.result().text == "é😀"
    finally:
        stepping().add = stepping_add


def test_its_thread_ends() -> None:
    """The engine's thread ends with the runtime."""
    with Runtime(engine("stepping:Stepping")) as runtime:
        assert runtime.complete("say:x", timeout=patience).result().text == "x "
    assert not [thread for thread in threading.enumerate() if thread.name == "steps"]

# SPDX-License-Identifier: Apache-2.0
"""Control calls of engines in Python, in this process and in a child process, and through asyncio."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import dynamo_llm
import pytest
from conftest import engine
from dynamo_llm import Runtime
from waiting import patience

names = sorted(
    [
        "load_adapter",
        "echo",
        "thread",
        "thread_async",
        "set",
        "fail",
        "busy",
        "explain",
        "block",
        "stall",
        "was_cancelled",
    ]
)


@pytest.fixture(scope="module", params=["none", "process"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    config = {**engine("controlled:Controlled"), "name": "base", "isolation": request.param}
    with Runtime(config) as running:
        yield running


def test_a_call_returns_a_json_value(runtime: Runtime) -> None:
    assert runtime.call("echo", a=[1, None], b="é", timeout=patience) == {"a": [1, None], "b": "é"}
    assert runtime.call("echo", left_out=None) == {}
    assert runtime.call("block") is None
    assert asyncio.run(runtime.call_async("echo", a=1, timeout=patience)) == {"a": 1}


def test_the_model_lists_its_calls(runtime: Runtime) -> None:
    (model,) = runtime.models()
    assert model["calls"] == names


def test_functions_run_in_a_thread_and_coroutines_on_the_event_loop(runtime: Runtime) -> None:
    assert runtime.call("thread") == "dynamo-blocking"
    assert runtime.call("thread_async") != "dynamo-blocking"


def test_a_loaded_adapter_is_a_model(runtime: Runtime) -> None:
    """A request may name it, although the runtime has a name."""
    name = f"poet-{time.monotonic_ns()}"
    with pytest.raises(dynamo_llm.ModelNotFoundError):
        runtime.complete("x", model=name).result()
    assert runtime.call("load_adapter", name=name) == {"name": name, "path": None}
    assert name in runtime.models()[0]["adapters"]
    assert runtime.complete("x", model=name).result().text == name


def test_wrong_arguments_are_refused(runtime: Runtime) -> None:
    wrong: list[dict[str, Any]] = [{}, {"nam": "a"}]
    for arguments in wrong:
        with pytest.raises(
            dynamo_llm.InvalidRequestError, match=r'the call "load_adapter" of the engine .*name'
        ):
            runtime.call("load_adapter", **arguments)
    with pytest.raises(dynamo_llm.InvalidArgumentError, match="arguments"):
        runtime.call("echo", a=float("nan"))
    with pytest.raises(dynamo_llm.InvalidArgumentError, match="timeout"):
        runtime.call("echo", timeout=-1)


def test_errors_keep_their_details(runtime: Runtime) -> None:
    with pytest.raises(dynamo_llm.EngineFailedError, match="it is broken") as failed:
        runtime.call("fail")
    assert failed.value.details["python"]["type"] == "ValueError"
    with pytest.raises(dynamo_llm.OverloadedError, match="requests are running") as busy:
        runtime.call("busy")
    assert busy.value.details["running"] == 7
    assert busy.value.details["fatal"] is False and busy.value.details["retriable"] is True
    with pytest.raises(dynamo_llm.EngineFailedError, match=r'the call "set".* did not return a JSON value'):
        runtime.call("set")


def test_details_that_an_engine_gives(runtime: Runtime) -> None:
    """They reach the caller as JSON values, beside those of the library, which they do not replace."""
    with pytest.raises(dynamo_llm.OverloadedError, match="see the details") as error:
        runtime.call("explain", kind="object")
    details = error.value.details
    assert (details["path"], details["halves"]) == ("/models", ["\\udc80"])
    assert details["engine"] == "controlled:Controlled" and details["python"]["type"].endswith(
        "OverloadedError"
    )
    for kind in ("endless", "number"):
        with pytest.raises(dynamo_llm.OverloadedError, match="see the details") as error:
            runtime.call("explain", kind=kind)
        assert "are not JSON values" in error.value.details["details_problem"]
        assert "traceback" in error.value.details["python"]


def test_an_unknown_call_is_refused_by_name(runtime: Runtime) -> None:
    with pytest.raises(dynamo_llm.NotSupportedError, match=r'the call "sleep"; .*Its calls: block, busy'):
        runtime.call("sleep")


def test_a_timeout_cancels_the_coroutine(runtime: Runtime) -> None:
    with pytest.raises(
        dynamo_llm.DeadlineExceededError, match=r'the call "stall" did not end within its timeout of 1 s'
    ):
        runtime.call("stall", timeout=1)
    deadline = time.monotonic() + patience
    while not runtime.call("was_cancelled") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runtime.call("was_cancelled")


def test_calls_do_not_count_as_requests(runtime: Runtime) -> None:
    before = runtime.statistics()
    runtime.call("echo")
    assert runtime.statistics() == before


def test_a_shutdown_ends_a_call() -> None:
    runtime = Runtime(engine("controlled:Controlled"))
    errors: list[BaseException] = []

    def call() -> None:
        try:
            runtime.call("stall")
        except dynamo_llm.DynamoError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    runtime.close()
    thread.join(patience)
    (error,) = errors
    assert isinstance(error, (dynamo_llm.CancelledError, dynamo_llm.ClosedError))
    with pytest.raises(dynamo_llm.ClosedError):
        runtime.call("echo")


def test_a_function_that_blocks_keeps_the_engine() -> None:
    """The caller stops waiting at its timeout; the engine is stopped after the function has returned."""
    runtime = Runtime(engine("controlled:Controlled"))
    with pytest.raises(dynamo_llm.DeadlineExceededError):
        runtime.call("block", seconds=0.5, timeout=0.05)
    start = time.monotonic()
    runtime.close()
    assert time.monotonic() - start > 0.2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WrongMapping", "calls of WrongMapping must be a mapping, not list"),
        ("WrongName", "has the name 'a-b'; a name has letters, digits, and '_'"),
        ("WrongFunction", r"calls of WrongFunction\['fail'\] must be a function, not int"),
    ],
)
def test_wrong_calls_are_refused_at_the_start(name: str, message: str) -> None:
    with pytest.raises(dynamo_llm.EngineFailedError, match=message):
        Runtime(engine(f"controlled:{name}"))


def test_engines_without_calls() -> None:
    for name in ("echo", "scripted"):
        with Runtime(engine=name) as runtime:
            with pytest.raises(dynamo_llm.NotSupportedError, match=f'the engine "{name}" has no calls'):
                runtime.call("sleep")
            assert "calls" not in runtime.models()[0]

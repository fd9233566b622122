# SPDX-License-Identifier: Apache-2.0
"""Runtimes, requests, and whole answers in Python."""

import gc
import json
import math
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import engine, run
from dynamo_llm import Completion, Response, Runtime, Usage
from dynamo_llm._core import STATUSES

question = "What is a KV cache?"
STALL = [{"text": "first"}, {"stall": True}]


@pytest.fixture(scope="module")
def demo() -> Runtime:
    """The demo model."""
    return Runtime()


def scripted(*script: dict[str, Any], **keys: Any) -> Runtime:
    """An engine that plays a script for every request."""
    return Runtime(engine="scripted", options={"script": list(script)}, **keys)


def test_five_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the package's documentation."""
    with Runtime() as runtime:
        for response in runtime.chat("What is a KV cache?"):
            print(response.text, end="", flush=True)
    assert capsys.readouterr().out.startswith("A KV cache keeps the attention keys and values")


def test_responses_add_up(demo: Runtime) -> None:
    """The responses add up to the whole answer, and the last one has finish reason and usage."""
    responses = list(demo.chat(question))
    whole = demo.chat([{"role": "user", "content": question}]).result()
    assert "".join(response.text for response in responses) == whole.text
    assert [response.finish_reason for response in responses[:-1]] == [None] * (len(responses) - 1)
    assert responses[-1].finish_reason == whole.finish_reason == "stop"
    usage = responses[-1].usage
    assert isinstance(usage, Usage)
    assert usage.json() == whole.usage.json() if whole.usage else False
    assert usage.completion_tokens > 10
    assert f"prompt_tokens={usage.prompt_tokens}" in repr(usage)


def test_keywords_reach_the_engine(demo: Runtime) -> None:
    """Keywords are keys of OpenAI's body; None means absent."""
    short = demo.chat(question, max_tokens=3, temperature=0, stop=None).result()
    assert short.finish_reason == "length"
    assert short.usage is not None and short.usage.completion_tokens == 3
    several = demo.chat(question, max_tokens=3, n=2).result()
    assert [choice.text for choice in several.choices] == [short.text] * 2
    assert [choice.index for choice in several.choices] == [0, 1]
    assert [choice.finish_reason for choice in several.choices] == ["length"] * 2
    assert several.usage is not None and several.usage.completion_tokens == 6
    assert several.usage.prompt_tokens == short.usage.prompt_tokens


def test_completion_and_body() -> None:
    """A prompt, token IDs, and a body as JSON."""
    with Runtime(engine="echo") as runtime:
        assert runtime.complete("one two").result().text == "one two"
        request = runtime.request({"prompt": "one two", "stream": False})
        assert [response.text for response in request] == ["one two"]
        assert request.body == {"prompt": "one two", "stream": False}
    with Runtime(engine("giving:Giving")) as runtime:
        result = runtime.complete((7, 9)).result()
        assert (result.text, result.token_ids, result.finish_reason) == ("", [7, 9], "stop")


def test_embedding() -> None:
    """Vectors in the order of the inputs, as numbers or as base64."""
    data = [{"index": 1, "embedding": [0.25, -2.0]}, {"index": 0, "embedding": "AACAPwAAAMA="}]
    with Runtime(engine("giving:Giving", options={"chunks": [{"delta": {"data": data}}]})) as runtime:
        result = runtime.embed(["a", "b"], encoding_format="base64").result()
        assert isinstance(result, dynamo_llm.Embeddings)
        assert result.vectors == [[1.0, -2.0], [0.25, -2.0]]
        assert result.json()["data"] == data
        assert repr(result) == "Embeddings(2 of 2 dimensions)"
        assert runtime.request({"input": "a"}).result().vectors == result.vectors


def test_json_of_whole_answers() -> None:
    """Streamed responses are joined to the same JSON as an answer that was not streamed."""
    call = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    other = {"index": 1, "id": "call-2", "function": {"name": "g", "arguments": ""}}
    script: list[dict[str, Any]] = [
        {"text": "Hé"},
        {"logprobs": {"content": [{"token": "a", "logprob": -1.0}]}},
        {"delta": {"reasoning_content": "hm", "tool_calls": [call]}},
        {"delay_ms": 5},
        {"delta": {"reasoning_content": "m", "tool_calls": [rest, other]}},
        {"logprobs": {"content": [{"token": "b", "logprob": -2.0}]}},
        {"text": "llo"},
        {"finish": "tool_calls"},
    ]

    def without_identity(answer: dict[str, Any]) -> dict[str, Any]:
        assert answer.pop("id").startswith("chatcmpl-")
        assert answer.pop("created") > 1.7e9
        return answer

    with scripted(*script) as runtime:
        whole = without_identity(runtime.chat("x", stream=False).result().json())
        for _ in range(20):  # the boundaries of responses depend on timing
            assert without_identity(runtime.chat("x").result().json()) == whole
    message = whole["choices"][0]["message"]
    assert message["content"] == "Héllo"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (whole["object"], whole["choices"][0]["finish_reason"]) == ("chat.completion", "tool_calls")
    assert Completion([]).json() == {} and Completion([]).text == ""


def test_config_forms(tmp_path: Path) -> None:
    """A dictionary, its JSON, keywords, and keywords that override either."""
    for runtime in (
        Runtime({"engine": "echo", "options": {"repeat": 2}}),
        Runtime('{"engine": "echo", "options": {"repeat": 2}}'),
        Runtime(engine="echo", options={"repeat": 2}),
        Runtime({"engine": "echo", "options": {"repeat": 1}}, options={"repeat": 2}),
        Runtime('{"engine": "scripted", "options": {"repeat": 2}}', engine="echo"),
    ):
        with runtime:
            assert runtime.complete("a ").result().text == "a a "
    with pytest.raises(dynamo_llm.ModelNotFoundError, match="nowhere"):
        Runtime(model=tmp_path / "nowhere")
    for bad in ("{", '{"engine"', "[]"):
        with pytest.raises((dynamo_llm.InvalidJsonError, dynamo_llm.InvalidConfigError)):
            Runtime(bad, engine="echo")
    assert set(dynamo_llm.config_schema()["properties"]) == {
        "engine",
        "model",
        "offline",
        "device",
        "options",
        "pipeline",
        "name",
        "models",
        "cluster",
        "limits",
        "stream",
        "python",
        "media",
        "templates",
        "trust_request_chat_template",
        "tool_call_parser",
        "reasoning_parser",
        "isolation",
        "isolation_options",
    }


def test_engines_in_python() -> None:
    """A program's own engines answer, and their exceptions arrive with a traceback."""
    with Runtime(engine("echoes:Async")) as runtime:
        assert runtime.complete("a b").result().text == "a b "
    with Runtime(engine("failing:Async")) as runtime:
        request = runtime.complete("after value")
        responses = []
        with pytest.raises(dynamo_llm.EngineFailedError, match="a bad value") as caught:
            responses.extend(request)
            pytest.fail("ended well")
        assert caught.value.details["python"]["type"] == "ValueError"
        assert "failing.py" in caught.value.details["python"]["traceback"]
        assert caught.value.details["request_id"] == request.id
        with pytest.raises(dynamo_llm.ContextLengthError, match="too long by 7 tokens"):
            runtime.complete("context").result()


def test_mistakes_have_no_traceback() -> None:
    """A mistake that the library finds is explained by its message alone."""
    for keys in ({"model": "/no/such/model"}, {"options": {"max_seqs": "many"}}):
        with pytest.raises(dynamo_llm.DynamoError) as caught:
            Runtime(**keys)  # type: ignore[arg-type]
        assert caught.value.details["python"]["type"].startswith("dynamo_llm.errors.")
        assert "traceback" not in caught.value.details["python"]


@pytest.mark.parametrize("kind", [Runtime, dynamo_llm.Tokenizer])
def test_model_in_place_of_the_configuration(kind: Any) -> None:
    """The first argument is the configuration: the error says how to give a model."""
    hint = rf'a model is given as {kind.__name__}\(model="/models/a"\)'
    with pytest.raises(dynamo_llm.InvalidJsonError, match=f"line 1, column 1.*{hint}") as caught:
        kind("/models/a")
    assert caught.value.details["message"] == caught.value.message == str(caught.value)
    with pytest.raises(dynamo_llm.InvalidConfigError, match=f"is a path; .*{hint}"):
        kind(Path("/models/a"))
    with pytest.raises(dynamo_llm.InvalidJsonError) as other:
        kind('{"model": ')
    assert "first argument" not in str(other.value)


def test_seconds_in_messages() -> None:
    """The unit of messages is that of Python's arguments."""
    with scripted(*STALL) as runtime:
        with pytest.raises(
            dynamo_llm.DeadlineExceededError, match=r"to the end passed: 0\.02 s after"
        ) as caught:
            runtime.complete("x", timeout=0.02).result()
        assert caught.value.details["timeout_ms"] == 20
        assert "0.02 s after" in caught.value.details["message"]
    for name in ("timeout", "first_token_timeout"):
        with pytest.raises(
            dynamo_llm.InvalidArgumentError, match=f"{name} must be None or a number of seconds, more than 0"
        ):
            scripted().complete("x", **{name: 0})


def test_receive() -> None:
    """Waiting with a timeout, polling, the end, and receiving after the end."""
    with scripted(*STALL) as runtime:
        request = runtime.complete("x")
        first = request.receive(30)
        assert isinstance(first, Response) and first.text == "first"
        for timeout in (0, 0.02):
            with pytest.raises(TimeoutError, match=f"in {timeout} seconds"):
                request.receive(timeout)
        assert request.status == STATUSES["DYNAMO_PENDING"]
        for bad in (-1, math.nan):
            with pytest.raises(dynamo_llm.InvalidArgumentError, match="timeout"):
                request.receive(bad)
    with Runtime(engine="echo") as runtime:
        request = runtime.complete("x")
        assert request.result().text == "x" and request.result() is request.result()
        assert request.receive() is None and request.receive(0) is None and list(request) == []
        assert request.status == STATUSES["DYNAMO_END"]
        assert request.id in repr(request) and "END" in repr(request)


def test_tokens_are_counted_whatever_ends_the_request() -> None:
    """After a cancel or a timeout, ``usage`` and ``timing`` of the request say what was generated."""
    runtime = scripted(*STALL)
    request = runtime.complete("x")
    assert request.usage.completion_tokens <= 1 and next(request).text == "first"
    request.cancel()
    with pytest.raises(dynamo_llm.CancelledError):
        request.result()
    expired = runtime.complete("x", timeout=0.05)
    with pytest.raises(dynamo_llm.DeadlineExceededError):
        expired.result()
    for ended in request, expired:
        assert ended.usage.json() == {"prompt_tokens": 0, "completion_tokens": 1, "cached_tokens": 0}
        assert ended.timing.first_token is not None and ended.timing.total is not None
    with scripted({"text": "a"}) as runtime:
        request = runtime.complete("x")
        whole = request.result().usage
        assert whole is not None and request.usage.json() == whole.json()


def test_cancel() -> None:
    """Explicitly, by another thread, by ``with``, by dropping the request, by closing the runtime."""
    runtime = scripted(*STALL)
    request = runtime.complete("x")
    assert next(request).text == "first"
    request.cancel()
    request.cancel()
    for _ in range(2):
        with pytest.raises(dynamo_llm.CancelledError):
            next(request)

    request = runtime.complete("x")
    next(request)
    thread = threading.Timer(0.05, request.cancel)
    thread.start()
    with pytest.raises(dynamo_llm.CancelledError):
        next(request)
    thread.join()

    with runtime.complete("x") as request:
        next(request)
    assert request.status == STATUSES["DYNAMO_ERROR_CANCELLED"]

    cancelled = runtime.statistics()["requests"]["cancelled"]
    request = runtime.complete("x")
    del request
    gc.collect()
    assert runtime.statistics()["requests"]["cancelled"] == cancelled + 1

    request = runtime.complete("x")
    runtime.close()
    with pytest.raises(dynamo_llm.CancelledError):
        request.result()
    with pytest.raises(dynamo_llm.ClosedError):
        runtime.complete("x")
    runtime.close()
    assert "scripted, 0 requests" in repr(runtime)


def test_deadlines() -> None:
    """A deadline for the first token, and one for the end."""
    with scripted({"stall": True}) as runtime, scripted(*STALL) as begun:
        with pytest.raises(dynamo_llm.DeadlineExceededError):
            runtime.complete("x", first_token_timeout=0.02).result()
        with pytest.raises(dynamo_llm.DeadlineExceededError):
            begun.request({"prompt": "x"}, first_token_timeout=30, timeout=0.05).result()
        for bad in (0, -3):
            with pytest.raises(dynamo_llm.InvalidArgumentError):
                runtime.chat("x", timeout=bad)
        infinite = begun.chat("x", timeout=math.inf)
        assert next(infinite).text == "first"


def test_shutdown() -> None:
    """It lets requests complete; after a timeout it cancels them and reports that."""
    runtime = scripted({"text": "a"}, {"delay_ms": 50}, {"text": "b"})
    request = runtime.complete("x")
    runtime.shutdown()
    assert request.result().text == "ab"
    runtime = scripted(*STALL)
    request = runtime.complete("x")
    with pytest.raises(dynamo_llm.DeadlineExceededError, match="cancelled"):
        runtime.shutdown(timeout=0.05)
    assert request.status == STATUSES["DYNAMO_ERROR_CANCELLED"]


def test_shutdown_does_not_wait_for_garbage() -> None:
    """An unreachable request in a reference cycle does not delay shutdown."""
    runtime = Runtime(engine="scripted", options={"script": [{"text": "a"}, {"stall": True}]})
    gc.disable()
    try:
        cycle: list[Any] = [runtime.complete("x")]
        cycle.append(cycle)
        del cycle
        runtime.shutdown(100)
    finally:
        gc.enable()
    assert runtime.statistics()["requests"]["cancelled"] == 1


def test_a_request_outlives_its_runtime(demo: Runtime) -> None:
    """A request that was sent continues when the runtime is dropped."""
    runtime = scripted({"delay_ms": 20}, {"text": "late"})
    request = runtime.complete("x")
    del runtime
    gc.collect()
    assert request.result().text == "late"


def test_many_threads(demo: Runtime) -> None:
    """Threads share a runtime, and some share a request: each response goes to one of them."""
    expected = demo.chat(question, max_tokens=5).result().text
    answers: list[str] = []

    def ask() -> None:
        answers.append(demo.chat(question, max_tokens=5).result().text)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    with scripted(*[{"text": "x"}, {"delay_ms": 1}] * 50) as runtime:
        shared, pieces = runtime.complete("x"), list[str]()
        threads += [
            threading.Thread(target=lambda: pieces.extend(response.text for response in shared))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [expected] * 16
    assert "".join(pieces) == "x" * 50


def test_bad_input() -> None:
    """Errors name what is wrong, and change nothing."""
    with Runtime(engine="echo") as runtime:
        with pytest.raises(dynamo_llm.InvalidRequestError, match='"max_tokens"'):
            runtime.chat("x", max_tokns=3)
        with pytest.raises(dynamo_llm.InvalidRequestError, match="messages"):
            runtime.request({})
        with pytest.raises(dynamo_llm.InvalidRequestError, match="empty"):
            runtime.chat([])
        with pytest.raises(TypeError, match="set"):
            runtime.chat("x", stop={"a"})
        with pytest.raises(dynamo_llm.InvalidJsonError, match="surrogate"):
            runtime.complete("\udc80")
        with pytest.raises(TypeError):
            runtime.chat()  # type: ignore[call-arg]
        assert runtime.complete("a\0b").result().text == "a\0b"
        assert runtime.statistics()["requests"]["sent"] == 1
    with pytest.raises(dynamo_llm.InvalidArgumentError, match="NUL"):
        Runtime("{}\0")
    with pytest.raises(dynamo_llm.InvalidConfigError, match='"engine"'):
        Runtime({"engin": "echo"})
    with pytest.raises(dynamo_llm.InvalidConfigError):
        Runtime(json.dumps({"engine": 3}))


def test_the_program_ends_while_threads_ask(tmp_path: Path) -> None:
    """Daemon threads that wait, send, fail, or load when the program exits do not disturb its exit."""
    program = """
        import threading, time
        import dynamo_llm

        def for_ever(function):
            while True:
                try:
                    function()
                except dynamo_llm.DynamoError:
                    pass

        demo = dynamo_llm.Runtime()
        echo = dynamo_llm.Runtime(engine="echo")
        bad = dynamo_llm.Runtime(engine="scripted", options={"script": [{"error": {"message": "x"}}]})
        for function in (
            lambda: demo.chat("What is a KV cache?").result().json(),
            lambda: echo.complete("a b c").result().json(),
            lambda: bad.complete("a b c").result(),
            lambda: dynamo_llm.Runtime(engine="echo").shutdown(),
            lambda: dynamo_llm.Runtime(engine="scripted").complete('[{"stall": true}]').result(),
        ):
            for _ in range(2):
                threading.Thread(target=for_ever, args=(function,), daemon=True).start()
        time.sleep(0.3)
        print("end")
    """
    for _ in range(5):
        result = run([sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)])
        assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")

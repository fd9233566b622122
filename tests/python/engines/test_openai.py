# SPDX-License-Identifier: Apache-2.0
"""The engine ``openai`` against a server that does on demand what a correct one does not."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import patience
from dynamo_llm import (
    CancelledError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    Runtime,
    UnavailableError,
)
from dynamo_llm.runtime.engine import EngineConfig
from dynamo_llm.runtime.engines.openai import OpenAIEngine
from pictures import audio_part, data_url, image_part, message, noise
from wire import Call, Reply, Wire

pytest.importorskip("httpx2", reason="needs the extra: pip install '.[openai]'")


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The server."""
    server = Wire()
    yield server
    server.close()


def runtime(wire: Wire, **options: Any) -> Runtime:
    """Returns a runtime that uses the server, with short pauses before retries."""
    model = options.pop("model", None)
    options = {"base_url": wire.url, "retry_delay": 0.001, **options}
    return Runtime(engine="openai", model=model, options=options)


def delta(index: int = 0, reason: str | None = None, **content: Any) -> dict[str, Any]:
    """Returns a chunk of a chat."""
    return {"choices": [{"index": index, "delta": content, "finish_reason": reason}]}


def whole(status: int, body: Any, kind: str = "application/json", **headers: str) -> Reply:
    """Returns a reply with a complete body."""

    async def reply(call: Call) -> None:
        await call.whole(status, body, kind, **headers)

    return reply


def stream(*events: Any, end: bool = True) -> Reply:
    """Returns a reply that streams events; then it ends properly, or hangs up."""

    async def reply(call: Call) -> None:
        await call.begin()
        await call.events(*events)
        if end:
            await call.end()
        else:
            call.hang_up()

    return reply


def bits(*content: bytes) -> Reply:
    """Returns a reply that streams bytes in small pieces, each in its own packet."""

    async def reply(call: Call) -> None:
        await call.begin()
        for bit in content:
            await call.bit(bit)
            await asyncio.sleep(0.005)
        await call.end()

    return reply


good = stream(
    delta(role="assistant"), delta(content="Hi"), delta(content="!"), delta(reason="stop"), "[DONE]"
)


def received(request: Any) -> tuple[str, DynamoError]:
    """Returns what arrived before the error of an answer, and the error."""
    text = ""
    with pytest.raises(DynamoError) as caught:
        for response in request:
            text += response.text
    return text, caught.value


def test_a_chat(wire: Wire) -> None:
    """The request that the server gets, and the answer that the caller gets."""
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    wire.replies = [
        stream(
            delta(role="assistant", content=""),
            delta(content="Grüße"),
            delta(content="!"),
            delta(reason="length"),
            {"choices": [], "usage": usage},
            "[DONE]",
        )
    ]
    with runtime(wire, api_key="secret", organization="org", headers={"X-More": "yes"}) as engine:
        result = engine.chat(
            "hello",
            max_tokens=5,
            top_k=3,
            min_p=0.1,
            guided_regex="a+",
            nvext={"cache_salt": "s"},
            stop=None,
        ).result()
        again = engine.chat("hello", model="other", adapter="lora").result()
    assert (result.text, result.finish_reason) == ("Grüße!", "length") and again.text == result.text
    answer = result.json()
    assert answer["usage"]["prompt_tokens"] == 7 and answer["usage"]["completion_tokens"] == 2
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    first, second = wire.calls
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert first.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "top_k": 3,
        "min_p": 0.1,
        "guided_regex": "a+",
        "structured_outputs": {"regex": "a+"},
        "nvext": {"cache_salt": "s"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert first.headers["authorization"] == "Bearer secret"
    assert first.headers["openai-organization"] == "org" and first.headers["x-more"] == "yes"
    assert second.body["model"] == "lora" and "adapter" not in second.body
    assert wire.connections == 1  # also used again after [DONE]


def test_a_delta_has_more_than_text(wire: Wire) -> None:
    """Tool calls, reasoning, refusals, and log-probs are passed on unchanged, for each choice."""
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    logprob = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    with_logprobs = delta(1, content="x")
    with_logprobs["choices"][0]["logprobs"] = {"content": [logprob]}
    wire.replies = [
        stream(
            delta(reasoning_content="think", content=None),
            delta(tool_calls=[call]),
            delta(tool_calls=[rest]),
            with_logprobs,
            delta(1, refusal="no"),
            delta(1, "content_filter"),
            delta(reason="tool_calls"),
            "[DONE]",
        )
    ]
    with runtime(wire) as engine:
        answer = engine.chat("x", n=2, stream=False).result().json()
    first, second = answer["choices"]
    assert first["message"]["reasoning_content"] == "think" and first["finish_reason"] == "tool_calls"
    function = {"name": "f", "arguments": '{"a": 1}'}
    assert first["message"]["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert second["message"]["content"] == "x" and second["message"]["refusal"] == "no"
    assert second["finish_reason"] == "content_filter"
    assert second["logprobs"] == {"content": [logprob], "refusal": None}


def test_several_prompts(wire: Wire) -> None:
    """A server gets the list as it is; the answer has "n" choices for each prompt."""
    events = [{"choices": [{"index": index, "text": str(index)}]} for index in (3, 0, 2, 1)]
    ends = [{"choices": [{"index": index, "text": "", "finish_reason": "stop"}]} for index in range(4)]
    wire.replies = [stream(*events, *ends, "[DONE]"), stream(*events, *ends[:3], "[DONE]")]
    with runtime(wire) as engine:
        answer = engine.request({"prompt": ["a", [1, 2]], "n": 2}).result()
        with pytest.raises(EngineFailedError, match="without a finish_reason for choice 3"):
            engine.request({"prompt": [[1], [2, 3]], "n": 2}).result()
    assert [choice.text for choice in answer.choices] == ["0", "1", "2", "3"]
    assert [call.body["prompt"] for call in wire.calls] == [["a", [1, 2]], [[1], [2, 3]]]


_call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("events", "text", "reasoning", "calls"),
    [
        ([delta(content=[{"type": "text", "text": "a"}]), delta(content="b", reason="stop")], "ab", "", 0),
        ([delta(content=[_thinking, {"type": "text", "text": "a"}], reason="stop")], "a", "hm", 0),
        ([{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}], "a", "", 0),
        ([{"choices": [{"message": {"tool_calls": [_call]}, "finish_reason": "tool_calls"}]}], "", "", 1),
        # The whole message again at the end.
        (
            [delta(content="a"), {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}],
            "a",
            "",
            0,
        ),
        ([delta(tool_calls=_call, reason="tool_calls")], "", "", 1),
        ([delta(content="a", tool_calls=[None]), delta(tool_calls=[], reason="stop")], "a", "", 0),
    ],
)
def test_other_shapes(wire: Wire, events: list[Any], text: str, reasoning: str, calls: int) -> None:
    """Content in parts, whole messages, and calls outside of a list, as some servers stream them."""
    wire.replies = [stream(*events, "[DONE]")]
    with runtime(wire) as one:
        answer = one.chat("Hi").result()
    assert (answer.text, answer.reasoning_content, len(answer.tool_calls)) == (text, reasoning, calls)
    assert answer.json()["choices"][0]["message"]["content"] == (text or None)


def test_a_completion(wire: Wire) -> None:
    """Text of completions; token IDs if a server sends them; prompts of token IDs."""
    logprobs = {"tokens": ["b"], "token_logprobs": [-1.0], "top_logprobs": [{"b": -1.0}], "text_offset": [0]}
    event = {"choices": [{"index": 0, "text": "b", "token_ids": [5], "logprobs": logprobs}]}
    wire.replies = [stream(event, {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}, "[DONE]")]
    with runtime(wire) as engine:
        result = engine.complete("a", logprobs=1).result()
        engine.complete([1, 2]).result()
    assert (result.text, result.token_ids, result.finish_reason) == ("b", [5], "stop")
    assert result.json()["choices"][0]["logprobs"] == logprobs
    assert [(call.path, call.body["prompt"]) for call in wire.calls] == [
        ("/v1/completions", "a"),
        ("/v1/completions", [1, 2]),
    ]


def test_embeddings(wire: Wire) -> None:
    """Vectors and token counts; nothing is streamed."""
    data = [{"object": "embedding", "index": i, "embedding": [i + 0.5, 1]} for i in range(2)]
    wire.replies = [
        whole(200, {"data": data, "model": "e", "usage": {"prompt_tokens": 4, "total_tokens": 4}})
    ]
    with runtime(wire) as engine:
        result = engine.embed(["a", "b"], dimensions=2).result()
        wire.replies = [whole(200, {"data": "none"})]
        with pytest.raises(EngineFailedError, match='no list in "data"'):
            engine.embed("a").result()
    assert result.vectors == [[0.5, 1], [1.5, 1]] and result.json()["usage"]["prompt_tokens"] == 4
    assert wire.calls[0].path == "/v1/embeddings"
    assert wire.calls[0].body == {"input": ["a", "b"], "dimensions": 2, "model": "m"}


@pytest.mark.parametrize("asked", [None, "float", "base64"])
@pytest.mark.parametrize("sent", [[0.5, -2.0], "AAAAPwAAAMA="])
def test_encodings_of_embeddings(wire: Wire, asked: str | None, sent: Any) -> None:
    """The answer has the encoding that the request asks for, whatever the server sends; Python decodes it."""
    wire.replies = [whole(200, {"data": [{"index": 0, "embedding": sent}]})]
    with runtime(wire) as engine:
        result = engine.embed([[1, 2]], encoding_format=asked).result()
    assert wire.calls[0].body.get("encoding_format") == asked
    assert wire.calls[0].body["input"] == [[1, 2]]
    assert result.vectors == [[0.5, -2.0]]
    expected = "AAAAPwAAAMA=" if asked == "base64" else [0.5, -2.0]
    assert result.json()["data"][0]["embedding"] == expected


@pytest.mark.parametrize(
    ("data", "kind", "match"),
    [
        ([], EngineFailedError, "sent 0 embeddings for 1 inputs"),
        ([5], EngineFailedError, "an embedding that is not valid"),
        ([{"embedding": 5}], EngineFailedError, "neither an array nor a string"),
        ([{"embedding": "AAA="}], EngineFailedError, "2 bytes, which are not numbers of 4 bytes"),
        ([{"embedding": "?"}], EngineFailedError, "an embedding that is not valid"),
        ([{"embedding": ["x", 1]}], EngineFailedError, "not a vector of numbers"),
        ([{"embedding": [1e300, 1]}], EngineFailedError, "not a vector of numbers"),
        ([{"embedding": [1.0]}], NotSupportedError, r'"dimensions" .* it sent 1 numbers, not 2'),
        ([{"embedding": "AAAAPw=="}], NotSupportedError, r'"dimensions" .* it sent 1 numbers, not 2'),
    ],
)
def test_wrong_embeddings(wire: Wire, data: Any, kind: type[DynamoError], match: str) -> None:
    """A server that ignores a key, or sends something else than vectors, is an error."""
    wire.replies = [whole(200, {"data": data})]
    with runtime(wire) as engine, pytest.raises(kind, match=match):
        engine.embed("a", dimensions=2, encoding_format="base64").result()


def test_trace_context(wire: Wire) -> None:
    """W3C trace context goes into headers, not into the body."""
    wire.replies = [good]
    headers = {"traceparent": f"00-{1:032x}-{2:016x}-01", "tracestate": "a=b"}

    with runtime(wire) as engine:
        engine.chat("x", **headers).result()
    (call,) = wire.calls
    assert headers.items() <= call.headers.items() and not headers.keys() & call.body.keys()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "bad top_p", "code": None}}, InvalidRequestError, "bad top_p"),
        (422, {"detail": [{"loc": ["x"], "msg": "missing"}]}, InvalidRequestError, "missing"),
        (
            400,
            {"error": {"message": "too long", "code": "context_length_exceeded"}},
            ContextLengthError,
            "too long",
        ),
        (
            400,
            {"message": "This model's maximum context length is 64 tokens", "code": 400},
            ContextLengthError,
            "64 tokens",
        ),
        (401, {"error": {"message": "no key"}}, EngineFailedError, 'no key.*"options.api_key"'),
        (403, "", EngineFailedError, '"options.api_key_env"'),
        (404, {"message": "Model not found", "code": 404}, ModelNotFoundError, "not found.*models are: m"),
        (408, {}, DeadlineExceededError, "408"),
        (429, {"error": "slow down"}, OverloadedError, "slow down"),
        (500, "<html>oops</html>", UnavailableError, "oops"),
        (501, {}, NotSupportedError, "501"),
        (503, {"message": "not ready", "code": 503}, UnavailableError, "not ready"),
        (504, {}, DeadlineExceededError, "504"),
    ],
)
def test_statuses(wire: Wire, status: int, body: Any, kind: type[DynamoError], words: str) -> None:
    """Each HTTP status becomes the library's corresponding status, with the server's message."""
    wire.replies = [whole(status, body)]
    with runtime(wire, max_retries=0) as engine, pytest.raises(kind, match=f"(?s){words}") as caught:
        engine.chat("x").result()
    assert type(caught.value) is kind and f"HTTP {status}" in str(caught.value)
    assert caught.value.retriable == (kind in (OverloadedError, UnavailableError, DeadlineExceededError))


def test_redirects_are_not_followed(wire: Wire) -> None:
    """They would send the key to another server."""
    wire.replies = [whole(307, "", location="http://127.0.0.1:9/")]
    with runtime(wire) as engine, pytest.raises(EngineFailedError, match=r"redirects to http://127.0.0.1:9/"):
        engine.chat("x").result()


def test_tries_again(wire: Wire) -> None:
    """Overload, failures, lost connections, and errors before the first event are retried."""

    async def hang_up(call: Call) -> None:
        call.hang_up(reset=True)

    failures: list[Reply] = [
        whole(429, {}, retry_after="0"),
        whole(500, {}),
        hang_up,
        stream({"error": {"message": "busy", "code": 503}}, "[DONE]"),
        stream(end=False),
    ]
    wire.replies = [*failures, good]
    with runtime(wire, max_retries=5) as engine:
        assert engine.chat("x").result().text == "Hi!"
        assert len(wire.calls) == 6
    with runtime(wire, max_retries=1) as engine:
        wire.replies = [whole(500, {}), whole(503, {"message": "the second"}), good]
        wire.calls.clear()
        with pytest.raises(UnavailableError, match="the second"):
            engine.chat("x").result()
        assert len(wire.calls) == 2


def test_a_pause_that_is_too_long_is_not_made(wire: Wire) -> None:
    """If a server asks for a pause of an hour, the request is not retried."""
    wire.replies = [whole(429, {}, retry_after="3600"), good]
    with runtime(wire) as engine, pytest.raises(OverloadedError):
        engine.chat("x").result()
    assert len(wire.calls) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (stream(delta(content="Hi"), end=False), UnavailableError, "connection .* was lost"),
        (stream(delta(content="Hi")), EngineFailedError, "without a finish_reason for choice 0"),
        (stream(delta(content="Hi"), "[DONE]"), EngineFailedError, "without a finish_reason for choice 0"),
        (
            stream(delta(content="Hi"), {"choices": {"a": 1}}),
            EngineFailedError,
            'a value of "choices" that is not valid in OpenAI',
        ),
        (
            stream(delta(content="Hi"), {"choices": [{"delta": "Hi"}]}),
            EngineFailedError,
            '"delta" that is not',
        ),
        (
            stream(delta(content="Hi"), {"choices": [{"index": "0"}]}),
            EngineFailedError,
            '"index" that is not',
        ),
        (
            stream(delta(content="Hi"), {"choices": [{"finish_reason": 5}]}),
            EngineFailedError,
            '"finish_reason" that is not',
        ),
        (stream(delta(content="Hi"), delta(content=5)), EngineFailedError, '"content" that is not'),
        (
            stream(delta(content="Hi"), delta(content=[{"type": "image"}])),
            EngineFailedError,
            '"content" that is not',
        ),
        (stream(delta(content="Hi"), delta(tool_calls="f")), EngineFailedError, '"tool_calls" that is not'),
        (stream(delta(content="Hi"), {"usage": [1]}), EngineFailedError, '"usage" that is not'),
        (
            stream(delta(content="Hi"), {"usage": {"prompt_tokens": "3"}}),
            EngineFailedError,
            '"prompt_tokens" that is not',
        ),
        (
            stream(
                delta(content="Hi"),
                {"error": {"message": "gone", "type": "service_unavailable", "code": 503}},
            ),
            UnavailableError,
            "aborted the answer: gone",
        ),
        (
            stream(delta(content="Hi"), {"error": {"message": "full", "type": "overloaded_error"}}),
            OverloadedError,
            "full",
        ),
        (stream(delta(content="Hi"), {"error": "what"}), EngineFailedError, "aborted the answer: what"),
        (
            bits(
                b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n',
                b'event: error\ndata: {"message": "e"}\n\n',
            ),
            EngineFailedError,
            "aborted the answer: e",
        ),
        (stream(delta(content="Hi"), "{garbage"), EngineFailedError, "not valid JSON: '{garbage'"),
        (stream(delta(content="Hi"), "[1]"), EngineFailedError, "not a JSON object"),
        (stream(delta(content="Hi"), delta(7, content="x")), EngineFailedError, "choice 7"),
    ],
)
def test_broken_streams(wire: Wire, reply: Reply, kind: type[DynamoError], words: str) -> None:
    """Earlier text is delivered, then the error: an answer never ends silently, and no text is repeated."""
    wire.replies = [reply]
    with runtime(wire) as engine:
        text, error = received(engine.chat("x"))
    assert text == "Hi" and type(error) is kind, error
    with pytest.raises(kind, match=words):
        raise error
    assert len(wire.calls) == 1


@pytest.mark.parametrize(
    "reply",
    [
        bits(b"\xff\xfe garbage\n\n", b"more: of it\n\n"),
        bits(b""),
        whole(200, "", "text/event-stream"),
    ],
)
def test_streams_without_events(wire: Wire, reply: Reply) -> None:
    """A stream without events is an error, not an empty answer."""
    wire.replies = [reply]
    with runtime(wire) as engine, pytest.raises(EngineFailedError, match="finish_reason"):
        engine.chat("x").result()


def test_wrong_content_type(wire: Wire) -> None:
    """The error for a server that does not stream says so."""
    wire.replies = [whole(200, "<p>login</p>", "text/html; charset=utf-8")]
    with runtime(wire) as engine, pytest.raises(EngineFailedError, match=r'"text/html".*login'):
        engine.chat("x").result()


def test_events_in_small_pieces(wire: Wire) -> None:
    """Split code points, CR LF, comments, events of several lines, empty events."""
    text = json.dumps(delta(content="é🙂\u2028"), ensure_ascii=False).encode()
    middle = text.index("🙂".encode()) + 2
    wire.replies = [
        bits(
            b": ping\r\n\r\n",
            b"data: " + text[:middle],
            text[middle:] + b"\r",
            b'\n\r\ndata:\n\ndata: {"choices":\ndata: [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
        )
    ]
    with runtime(wire) as engine:
        result = engine.chat("x").result()
    assert (result.text, result.finish_reason) == ("é🙂\u2028", "stop")


def test_a_server_that_continues_after_the_end(wire: Wire) -> None:
    """[DONE] is the end, whatever follows: an open connection, more bytes, or a reset."""

    async def stays(call: Call) -> None:
        await call.begin()
        await call.events(delta(content="Hi!", reason="stop"), "[DONE]")
        await call.gone()

    async def resets(call: Call) -> None:
        await call.begin()
        await call.events(delta(content="Hi!", reason="stop"), "[DONE]")
        call.hang_up(reset=True)

    wire.replies = [stays, resets, good]
    with runtime(wire) as engine:
        assert [engine.chat("x").result().text for _ in range(3)] == ["Hi!"] * 3


def test_time_limits(wire: Wire) -> None:
    """A server that sends no first byte in time, or pauses between two, and an answer that takes too long."""

    async def silent(call: Call) -> None:
        await call.gone()

    async def stalls(call: Call) -> None:
        await call.begin()
        await call.events(delta(content="Hi"))
        await call.gone()

    async def drips(call: Call) -> None:
        await call.begin()
        while True:
            await call.events(delta(content="."))
            await asyncio.sleep(0.01)

    asks_nothing = {"check_server": False, "model": "m"}  # the limits are for requests only
    with runtime(wire, read_timeout=0.2, **asks_nothing) as engine:
        for reply, wanted in ((silent, ""), (stalls, "Hi")):
            wire.replies = [reply]
            text, error = received(engine.chat("x"))
            assert text == wanted and isinstance(error, DeadlineExceededError)
            assert '"options.read_timeout"' in str(error)
        assert len(wire.calls) == 2  # the server may still process the first, so it is not sent again
    wire.replies = [drips]
    with runtime(wire, timeout=0.5, **asks_nothing) as engine:
        text, error = received(engine.chat("x"))
        assert "." in text and isinstance(error, DeadlineExceededError) and '"options.timeout"' in str(error)
    wire.replies = [whole(503, {}), silent]
    with runtime(wire, timeout=0.5, retry_delay=20, **asks_nothing) as engine:
        _, error = received(engine.chat("x"))
        assert isinstance(error, DeadlineExceededError)  # pauses count


def test_a_cancel_closes_the_connection(wire: Wire) -> None:
    """Then the server stops, too; before the first chunk and after it."""
    seen: list[str] = []

    async def waits(call: Call) -> None:
        if call.body["messages"][0]["content"] == "after":
            await call.begin()
            await call.events(delta(content="Hi"))
        await call.gone()
        seen.append(call.body["messages"][0]["content"])

    wire.replies = [waits]
    with runtime(wire, read_timeout=patience) as engine:
        request = engine.chat("after")
        assert next(request).text == "Hi"
        request.cancel()
        with pytest.raises(CancelledError):
            request.result()
        _wait_for(lambda: seen == ["after"])
        request = engine.chat("before")
        _wait_for(lambda: len(wire.calls) == 2)
        request.cancel()
        _wait_for(lambda: seen == ["after", "before"])
        wire.replies = [good]
        assert engine.chat("x").result().text == "Hi!"


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def test_many_at_once(wire: Wire) -> None:
    """More requests than connections: the excess is queued, and none is lost."""

    async def count(call: Call) -> None:
        await call.begin()
        for _ in range(20):
            await call.events(delta(content=call.body["messages"][0]["content"]))
            await asyncio.sleep(0)
        await call.events(delta(reason="stop"), "[DONE]")
        await call.end()

    wire.replies = [count]
    with runtime(wire, max_connections=4) as engine:
        requests = [engine.chat(f"{i} ") for i in range(40)]
        assert [request.result().text for request in requests] == [f"{i} " * 20 for i in range(40)]
    assert wire.connections <= 4


def test_models(wire: Wire) -> None:
    """The server's list determines the models, and the default."""
    wire.replies = [good]
    with pytest.raises(ModelNotFoundError, match='has no model "n"; it has: m'):
        runtime(wire, model="n")
    wire.models = {"data": [{"id": "a"}, {"id": "b"}]}
    with runtime(wire) as engine:
        with pytest.raises(InvalidRequestError, match=r'"model" is missing .* has: a, b'):
            engine.chat("x").result()
        assert engine.chat("x", model="b").result().text == "Hi!"
    with runtime(wire, model="a") as engine:
        engine.chat("x").result()
    assert [call.body["model"] for call in wire.calls] == ["b", "a"]
    wire.models = {"data": []}
    with pytest.raises(UnavailableError, match="no model yet"):
        runtime(wire)
    wire.models = {"object": "list"}
    with pytest.raises(EngineFailedError, match='no list in "data"'):
        runtime(wire)
    with runtime(wire, check_server=False) as engine, pytest.raises(InvalidRequestError, match="missing"):
        engine.chat("x").result()
    with runtime(wire, check_server=False, model="z") as engine:
        engine.chat("x").result()
    assert wire.calls[-1].body["model"] == "z"


def test_names_of_the_runtime(wire: Wire) -> None:
    """A model with another name in the configuration has the server's name in requests to it."""
    wire.models = {"data": [{"id": "a"}, {"id": "b"}]}
    wire.replies = [good]
    models = [
        {"name": f"my-{name}", "engine": "openai", "model": name, "options": {"base_url": wire.url}}
        for name in "ab"
    ]
    with Runtime({"models": models}) as engine:
        for name in ("my-b", "my-a"):
            engine.chat("x", model=name).result()
        with pytest.raises(ModelNotFoundError):
            engine.chat("x", model="b")
    assert [call.body["model"] for call in wire.calls] == ["b", "a"]


def test_describes_itself(wire: Wire) -> None:
    """The server's description of the default model."""

    async def ask(model: str | None) -> Any:
        engine = OpenAIEngine(EngineConfig("openai", model, {"base_url": wire.url}))
        await engine.start()
        await engine.stop()
        return engine.describe()

    single = asyncio.run(ask(None))
    wire.models = {"data": [{"id": "a"}, {"id": "b", "context_window": 9}]}
    several, named = asyncio.run(ask(None)), asyncio.run(ask("b"))
    assert (single["models"], single["context_length"]) == (["m"], 64)
    assert several["models"] == ["a", "b"] and "context_length" not in several
    assert named["context_length"] == 9 and "chat" in named["capabilities"]


def test_no_server() -> None:
    """The start fails with an error; without the check, the request does."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening
        options = {"base_url": f"http://127.0.0.1:{unused.getsockname()[1]}/v1", "retry_delay": 0.001}
        with pytest.raises(UnavailableError, match="cannot be reached") as caught:
            Runtime(engine="openai", options=options)
        assert caught.value.retriable
        later = Runtime(engine="openai", model="m", options={**options, "check_server": False})
        with later as engine, pytest.raises(UnavailableError, match="cannot be reached"):
            engine.chat("x").result()


def test_not_an_api(wire: Wire) -> None:
    """A base URL without /v1, a frequent mistake."""
    wire.models = None
    with pytest.raises(InvalidConfigError, match=r'"options.base_url".*page not found.*"/v1"'):
        runtime(wire)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": None}, '"options.base_url" .* is missing'),
        ({"base_url": "127.0.0.1:8000"}, '"options.base_url" .* must be a URL such as'),
        ({"base_url": "ftp://x/v1"}, '"options.base_url" .* must be a URL such as'),
        ({"base_url": "http://me:pass@x/v1"}, "must not contain a user or a password"),
        ({"api_key": "a", "api_key_env": "B"}, "give one of them"),
        ({"api_key_env": "DYNAMO_TEST_NOT_SET"}, "DYNAMO_TEST_NOT_SET.* is not set"),
        ({"timeout": 0}, '"options.timeout"'),
        ({"max_connections": 0}, '"options.max_connections"'),
        ({"max_retries": -1}, '"options.max_retries"'),
        ({"headers": {"a": 1}}, '"options.headers.a"'),
        ({"headers": {"a": "line\nbreak"}}, 'header "a", which "options.headers".*one line'),
        ({"headers": {"a b": "x"}}, 'header "a b"'),
        ({"api_key": "clé"}, 'header "Authorization"'),
        ({"proxy": "nonsense"}, '"options.proxy"'),
        ({"ca_file": "/no/such/file.pem"}, '"options.ca_file"'),
        ({"apikey": "x"}, 'did you mean "options.api_key"'),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    """The error names each mistake."""
    options = {"base_url": "http://127.0.0.1:1/v1", "max_retries": 0, **options}
    options = {key: value for key, value in options.items() if value is not None}
    with pytest.raises(InvalidConfigError, match=words):
        Runtime(engine="openai", options=options)


def test_the_key_stays_secret(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is read from the environment, sent only to the server, and is in no log record and no error; other
    variables have no effect.
    """
    monkeypatch.setenv("DYNAMO_TEST_KEY", "very-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    monkeypatch.delenv("NO_PROXY", raising=False)
    wire.replies = [whole(401, {"error": {"message": "no"}})]
    with caplog.at_level(logging.DEBUG), runtime(wire, api_key_env="DYNAMO_TEST_KEY") as engine:
        with pytest.raises(EngineFailedError) as caught:
            engine.chat("x").result()
        wire.replies = [good]
        engine.chat("x").result()
    assert {call.headers["authorization"] for call in wire.calls} == {"Bearer very-secret"}
    assert "very-secret" not in caplog.text + str(caught.value) + json.dumps(caught.value.details)
    with runtime(wire) as engine:
        engine.chat("x").result()
    assert "authorization" not in wire.calls[-1].headers


def test_a_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured one, or the environment's; the server's name need not be resolvable here."""
    wire.replies = [good]
    options = {"base_url": "http://server.invalid/v1", "check_server": False}
    with runtime(wire, model="m", proxy=f"http://127.0.0.1:{wire.port}", **options) as engine:
        assert engine.chat("x").result().text == "Hi!"
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{wire.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with runtime(wire, model="m", proxy="environment", **options) as engine:
        assert engine.chat("x").result().text == "Hi!"
    assert [call.path for call in wire.calls] == ["http://server.invalid/v1/chat/completions"] * 2


schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
as_format = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": schema, "strict": True},
}


@pytest.mark.parametrize("owner", [None, "vllm", "nvidia"])
def test_structured_output(wire: Wire, owner: str | None) -> None:
    """It is sent under the keys that the server knows, whichever key the request has."""
    if owner is not None:
        wire.models = {"object": "list", "data": [{"id": "m", "owned_by": owner}]}
    cases: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ({"guided_json": schema}, {"response_format": as_format}, {"guided_json": schema}),
        ({"structured_outputs": {"json": schema}}, {"response_format": as_format}, {"guided_json": schema}),
        (
            {"guided_choice": ["a", "b"]},
            {"structured_outputs": {"choice": ["a", "b"]}, "guided_choice": ["a", "b"]},
            {"guided_choice": ["a", "b"]},
        ),
        (
            {"structured_outputs": {"regex": "a+"}},
            {"structured_outputs": {"regex": "a+"}, "guided_regex": "a+"},
            {"guided_regex": "a+"},
        ),
        ({"response_format": as_format}, {"response_format": as_format}, {"response_format": as_format}),
    ]
    keys = {"response_format", "structured_outputs"} | {
        f"guided_{kind}" for kind in ("json", "regex", "grammar", "choice")
    }
    with runtime(wire) as engine:
        for body, sent, sent_to_dynamo in cases:
            wire.replies = [good]
            engine.chat("x", **body).result()
            got = {key: value for key, value in wire.calls[-1].body.items() if key in keys}
            assert got == (sent_to_dynamo if owner == "nvidia" else sent)
        with pytest.raises(InvalidRequestError, match="give only one of them"):
            engine.chat("x", guided_regex="a", structured_outputs={"regex": "b"}).result()


def test_extra(wire: Wire) -> None:
    """It is added to the body of all kinds of requests; a key that is already set is an error."""
    wire.replies = [good]
    with runtime(wire) as engine:
        engine.chat("x", extra={"top_a": 0.25, "deep": {"a": [None]}}).result()
        assert wire.calls[-1].body["top_a"] == 0.25 and wire.calls[-1].body["deep"] == {"a": [None]}
        assert "extra" not in wire.calls[-1].body
        wire.replies = [whole(200, {"data": [{"index": 0, "embedding": [1.0]}]})]
        engine.embed("x", extra={"truncate": "END"}).result()
        assert wire.calls[-1].body["truncate"] == "END"
        for key in ("model", "stream", "messages", "temperature"):
            with pytest.raises(InvalidRequestError, match=f'"extra.{key}"'):
                engine.chat("x", temperature=0.5, extra={key: 1}).result()


def test_keys_of_clients_reach_the_server(wire: Wire) -> None:
    """The server decides what to do with them."""
    keys: dict[str, Any] = {
        "web_search_options": {},
        "audio": {"voice": "alloy", "format": "wav"},
        "modalities": ["text", "audio"],
        "functions": [{"name": "f"}],
        "function_call": "auto",
        "store": True,
        "metadata": {"a": "b"},
        "prompt_cache_retention": "24h",
        "bad_words": ["x"],
        "truncate_prompt_tokens": 5,
        "min_tokens": 2,
        "tool_choice": {"type": "custom", "custom": {"name": "x"}},
    }
    wire.replies = [good]
    with runtime(wire) as engine:
        engine.chat("x", **keys, user=None).result()
    assert {key: wire.calls[-1].body[key] for key in keys} == keys and "user" not in wire.calls[-1].body


red = noise(1)


@pytest.mark.parametrize(
    "part",
    [
        image_part(red),
        image_part(red, detail="high"),
        image_part(data_url(b"<svg/>", "image/svg+xml")),  # what only the server knows
        audio_part(b"RIFF\0\0\0\0WAVEfmt "),
        audio_part(b"fLaC", "flac"),
        {"type": "file", "file": {"file_id": "x"}},
    ],
    ids=str,
)
def test_media_is_passed_on(wire: Wire, part: dict[str, Any]) -> None:
    """Images and audio reach the server as they are."""
    wire.replies = [stream(delta(content="a"), delta(reason="stop"), "[DONE]")]
    messages = [message("what is it?", part), message("and?")]
    with runtime(wire, model="m", check_server=False) as one:
        assert one.request({"messages": messages}).result().text == "a"
    assert wire.calls[0].body["messages"] == messages


def test_urls_of_media(wire: Wire, tmp_path: Path) -> None:
    """Allowed files are sent as data: a server would read its own. The server downloads allowed URLs."""
    (tmp_path / "red.png").write_bytes(red)
    wire.replies = [stream(delta(content="a"), delta(reason="stop"), "[DONE]")]
    media = {"allow_files": [str(tmp_path)], "allow_hosts": ["example.com"]}
    options = {"base_url": wire.url, "check_server": False}
    parts = [
        image_part((tmp_path / "red.png").as_uri(), detail="low"),
        image_part("https://example.com/x.png?y=1"),
    ]
    with Runtime(engine="openai", model="m", options=options, media=media) as one:
        one.request({"messages": [message(*parts)]}).result()
        with pytest.raises(InvalidRequestError, match=r"a file URL of a folder that is not allowed"):
            one.request({"messages": [message(image_part("file:///etc/passwd"))]}).result()
    sent = wire.calls[0].body["messages"][0]["content"]
    assert sent == [image_part(red, detail="low"), parts[1]]


@pytest.mark.parametrize(
    ("part", "match"),
    [
        (image_part("https://example.com/x.png"), '"example.com", from which nothing .*"media.allow_hosts"'),
        (image_part("file:///etc/passwd"), r'allowed are none \("media.allow_files"'),
        (image_part("data:image/png;base64,QQ"), r"content\[0\].image_url.url.* base64: Incorrect padding"),
        (image_part("data:image/png;base64,@@@@"), "not valid base64"),
        (image_part("data:text/html;base64,QUJD"), '"text/html"; it must be an image'),
        (image_part("ftp://example.com/x"), "has the scheme 'ftp'"),
        (image_part(bytes(101)), 'has 101 bytes; at most 100 are allowed .*"media.max_bytes"'),
        (audio_part("QUJ"), r"content\[0\].input_audio.data.* base64"),
        (audio_part(b"fLaC"), 'is not a WAV file, which "format" declares'),
        (audio_part(b"x", ""), r'input_audio.format" of the request must be a non-empty string'),
        ({"type": "image_url", "image_url": "x"}, "must be an object, as in"),
    ],
    ids=str,
)
def test_media_that_is_refused(wire: Wire, part: dict[str, Any], match: str) -> None:
    """The configuration's limits hold for what a server would read, too; nothing is sent."""
    options = {"base_url": wire.url, "check_server": False}
    with (
        Runtime(engine="openai", model="m", options=options, media={"max_bytes": 100}) as one,
        pytest.raises(InvalidRequestError, match=match),
    ):
        one.request({"messages": [message(part)]}).result()
    assert wire.calls == []

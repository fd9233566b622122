# SPDX-License-Identifier: Apache-2.0
"""The engine ``openai`` against malicious servers: what one answer costs is bounded, in bytes and in time."""

import asyncio
import gzip
import itertools
import json
import resource
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from dynamo_llm import DeadlineExceededError, DynamoError, EngineFailedError, Runtime, UnavailableError
from dynamo_llm.runtime import untrusted_json
from dynamo_llm.runtime.cluster.client.model_cards import model_cards
from dynamo_llm.runtime.cluster.settings import Settings
from reliability import reliability
from wire import Call, Reply, Wire

pytest.importorskip("httpx2", reason="needs the extra: pip install '.[openai]'")

#: MiB that one hostile answer may cost, and seconds: far less than what the server would send, and far more
#: than what is needed on a busy machine.
_memory, _time = 200, 60

_heads = {
    "json": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
    "error": b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\n",
    "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n",
    "stream": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n",
}


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The server."""
    server = Wire()
    yield server
    server.close()


def bomb(content: bytes, mebibytes: int) -> Iterator[bytes]:
    """Returns a text many times, compressed with gzip."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    yield squeeze.compress(b"") + squeeze.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block is independent of earlier ones, and can be repeated.
    block = squeeze.compress(content * (2**20 // len(content))) + squeeze.flush(zlib.Z_FULL_FLUSH)
    for _ in range(0, mebibytes, 50):
        yield block * 50


def endless(piece: bytes) -> Iterator[bytes]:
    """Yields 3 GB of a text; a client must stop after a few MB."""
    return itertools.repeat(piece * max(1, 65536 // len(piece)), 3 * 2**30 // max(65536, len(piece)))


def sends(head: bytes, pieces: Any, pause: float = 0) -> Reply:
    """Sends bytes until the client hangs up."""

    async def reply(call: Call) -> None:
        await call.send(head)
        for piece in pieces() if callable(pieces) else pieces:
            await call.send(piece)
            await asyncio.sleep(pause)
        call.hang_up()

    return reply


def ask(wire: Wire, reply: Reply, kind: str = "chat", **options: Any) -> DynamoError:
    """Returns the error that ends a request; it must come soon, and take little memory."""
    wire.replies = [reply]
    options = {"base_url": wire.url, "check_server": False, "max_retries": 0, **options}
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DynamoError) as caught, Runtime(engine="openai", model="m", options=options) as engine:
        (engine.embed("x") if kind == "embed" else engine.chat("x")).result()
    assert time.monotonic() - start < _time
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _memory * 1024
    assert len(str(caught.value)) < 1500 and len(json.dumps(caught.value.details)) < 100_000
    assert wire.url in str(caught.value)
    return caught.value


_zip = b"Content-Encoding: gzip\r\n\r\n"
_bodies: dict[str, tuple[str, bytes, Any, str]] = {
    "a gzip bomb in a stream": ("stream", _zip, lambda: bomb(b"\0", 3000), "event"),
    "a gzip bomb of empty events": ("stream", _zip, lambda: bomb(b"data:\n\n", 3000), "10000 empty events"),
    "a gzip bomb of events without content": (
        "stream",
        _zip,
        lambda: bomb(b"data: {}\n\n", 3000),
        "100000 consecutive events without content",
    ),
    "a gzip bomb of comments": ("stream", _zip, lambda: bomb(b": x\n", 3000), "max_response_bytes"),
    "gzip of nothing without an end": (
        "stream",
        _zip,
        lambda: itertools.chain([gzip.compress(b"")[:10]], endless(b"\0\0\0\xff\xff")),
        "max_response_bytes",
    ),
    "garbage after gzip": (
        "stream",
        _zip,
        lambda: itertools.chain([gzip.compress(b": x\n")], endless(b"x")),
        "max_response_bytes",
    ),
    "gzip that is none": ("stream", _zip, [b"x" * 1000], "not valid gzip"),
    "an unknown compression": ("stream", b"Content-Encoding: br\r\n\r\n", [b"x" * 1000], '"br"'),
    "compression of compression": ("stream", b"Content-Encoding: gzip, gzip\r\n\r\n", [b"x"], '"gzip, gzip"'),
    "a gzip bomb in an error": ("error", _zip, lambda: bomb(b"x", 3000), "HTTP 500: xxx"),
    "an endless error": ("error", b"\r\n", lambda: endless(b"x"), "HTTP 500: xxx"),
    "an endless page": ("page", b"\r\n", lambda: endless(b"<p>"), '"text/html"'),
    "an endless line": ("stream", b"\r\n", lambda: endless(b"x"), "event"),
    "an endless event": ("stream", b"\r\n", lambda: endless(b"data: x\n"), "event"),
    "endless headers": ("stream", b"", lambda: (b"X-%d: x\r\n" % i * 1000 for i in range(10**6)), "was lost"),
    "an endless header": ("stream", b"X: ", lambda: endless(b"x"), "was lost"),
    "endless trailers": (
        "stream",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
        lambda: endless(b"X: x\r\n"),
        "was lost|finish_reason",
    ),
    "an endless size of a chunk": (
        "stream",
        b"Transfer-Encoding: chunked\r\n\r\n",
        lambda: endless(b"0"),
        "was lost",
    ),
}


@pytest.mark.many(4)
@pytest.mark.parametrize("what", _bodies)
def test_endless_bodies(wire: Wire, what: str) -> None:
    head, rest, body, words = _bodies[what]
    error = ask(wire, sends(_heads[head] + rest, body), max_response_bytes=16 << 20)
    with pytest.raises(type(error), match=words):
        raise error
    reliability(f"a server sends {what}", 1, f"an error after some MB at most: {error.status_name}")


@pytest.mark.parametrize("kind", ["gzip bomb", "endless JSON", "JSON too deep", "huge integer"])
@pytest.mark.parametrize("where", ["models", "embeddings"])
def test_endless_objects(wire: Wire, kind: str, where: str) -> None:
    """Answers that are not streamed."""
    deep = b'{"data": ' + b"[" * 200_000
    replies = {
        "gzip bomb": sends(_heads["json"] + _zip, lambda: bomb(b" ", 3000)),
        "endless JSON": sends(_heads["json"] + b"\r\n", lambda: endless(b' {"data": [')),
        "JSON too deep": sends(_heads["json"] + b"\r\n", [deep]),
        "huge integer": sends(_heads["json"] + b"\r\n", [b'{"data": [' + b"9" * 10**6 + b"]}"]),
    }
    if where == "models":
        wire.at_models = replies[kind]
    error = ask(wire, replies[kind], "embed", check_server=where == "models")
    assert isinstance(error, EngineFailedError)
    assert {
        "gzip bomb": "bytes",
        "endless JSON": "bytes",
        "JSON too deep": "nested",
        "huge integer": "digits",
    }[kind] in str(error)
    reliability(f"a server's {where}: {kind}", 1, "ENGINE_FAILED, after some MB at most")


def _for_ever(piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece, 100_000)


_drips: dict[str, tuple[str, bytes, bytes]] = {
    "a header, byte by byte": ("stream", b"X: ", b"x"),
    "comments": ("stream", b"\r\n", b": ping\n\n"),
    "events without anything": ("stream", b"\r\n", b"data: {}\n\n"),
    "events without text": (
        "stream",
        b"\r\n",
        b'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}\n\n',
    ),
    "token counts": ("stream", b"\r\n", b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n'),
    "an error, byte by byte": ("error", b"\r\n", b"x"),
    "a page, byte by byte": ("page", b"\r\n", b"x"),
}


@pytest.mark.parametrize("what", _drips)
def test_slow_drips(wire: Wire, what: str) -> None:
    """Bytes that do not advance the answer do not count as progress."""
    head, rest, piece = _drips[what]
    error = ask(wire, sends(_heads[head] + rest, lambda: _for_ever(piece), 0.02), read_timeout=0.5)
    assert isinstance(error, DeadlineExceededError) and '"options.read_timeout"' in str(error)
    reliability(f"a server drips {what}", 1, "DEADLINE_EXCEEDED after read_timeout")


def test_floods_of_1xx(wire: Wire) -> None:
    """Endless interim responses, slow and fast."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    for pieces, pause in ((lambda: _for_ever(interim), 0.02), (lambda: endless(interim), 0)):
        error = ask(wire, sends(b"", pieces, pause), read_timeout=0.5)
        assert isinstance(error, DeadlineExceededError)
    reliability("a server floods with interim answers (HTTP 103)", 2, "DEADLINE_EXCEEDED after read_timeout")


def test_total_timeout_and_deadlines(wire: Wire) -> None:
    """An endless answer ends with ``options.timeout``, or the request's own deadline."""
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
    drip = sends(_heads["stream"] + b"\r\n", lambda: _for_ever(event), 0.02)
    error = ask(wire, drip, timeout=0.5)
    assert isinstance(error, DeadlineExceededError) and '"options.timeout"' in str(error)
    wire.replies = [drip]
    options = {"base_url": wire.url, "check_server": False}
    with Runtime(engine="openai", model="m", options=options) as engine, pytest.raises(DeadlineExceededError):
        engine.chat("x", timeout=0.5).result()
    fast = sends(_heads["stream"] + b"\r\n", lambda: endless(event))
    error = ask(wire, fast, max_response_bytes=1 << 20)
    assert isinstance(error, EngineFailedError) and '"options.max_response_bytes"' in str(error)


def test_a_flood_does_not_block_other_engines(wire: Wire) -> None:
    """Another Python engine answers while a server floods."""
    floods = [
        sends(_heads["stream"] + b"\r\n", lambda: endless(b"data:\n\n")),
        sends(_heads["stream"] + _zip, lambda: bomb(b"\n", 3000)),
    ]
    other = Wire()
    try:
        for flood in floods:
            wire.replies = [flood]

            async def good(call: Call) -> None:
                await call.begin()
                choice = {"delta": {"content": "x"}, "finish_reason": "stop"}
                await call.events({"choices": [choice]}, "[DONE]")
                await call.end()

            other.replies = [good]
            options = {"check_server": False, "max_retries": 0, "max_response_bytes": 1 << 30}
            with (
                Runtime(engine="openai", model="m", options={"base_url": wire.url, **options}) as flooded,
                Runtime(engine="openai", model="m", options={"base_url": other.url, **options}) as engine,
            ):
                request = flooded.chat("x")
                for _ in range(5):
                    assert engine.chat("x", timeout=20).result().text == "x"
                request.cancel()
    finally:
        other.close()


def test_redirects_carry_no_key(wire: Wire) -> None:
    """Wherever they lead, even to the server itself."""
    other = Wire()
    try:
        for status, target in itertools.product((301, 302, 303, 307, 308), (other.url, wire.url, "/v1")):
            head = f"HTTP/1.1 {status} Moved\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
            wire.calls.clear()
            error = ask(wire, sends(head.encode(), []), api_key="k3y-of-this-server")
            assert "which is not followed" in str(error) and len(wire.calls) == 1
        assert other.connections == 0
    finally:
        other.close()


def test_cookies_are_not_kept(wire: Wire) -> None:
    """Otherwise each answer could add some."""

    async def reply(call: Call) -> None:
        cookie = f"c{len(wire.calls)}=x"
        await call.whole(429, {}, set_cookie=cookie)

    wire.replies = [reply]
    options = {"base_url": wire.url, "check_server": False, "max_retries": 3, "retry_delay": 0.001}
    with Runtime(engine="openai", model="m", options=options) as engine, pytest.raises(DynamoError):
        engine.chat("x").result()
    assert len(wire.calls) == 4 and not any("cookie" in call.headers for call in wire.calls)


_tool_call = {"function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("choice", "kind", "words"),
    [
        ({"index": 10**9}, EngineFailedError, "choice 1000000000"),
        ({"index": -1}, EngineFailedError, '"index"'),
        ({"index": 10**30}, EngineFailedError, '"index"'),
        ({"index": 1.5}, EngineFailedError, '"index"'),
        ({"index": "0"}, EngineFailedError, '"index"'),
        ({"delta": {"tool_calls": 5}}, EngineFailedError, '"tool_calls"'),
        ({"token_ids": [-1]}, EngineFailedError, '"token_ids"'),
        ({"token_ids": [2**40]}, EngineFailedError, '"token_ids"'),
        ({"token_ids": "abc"}, EngineFailedError, '"token_ids"'),
        ({"logprobs": 5, "delta": {"content": "x"}}, EngineFailedError, '"logprobs"'),
        ({"finish_reason": ["stop"]}, EngineFailedError, '"finish_reason"'),
    ],
)
def test_absurd_choices(wire: Wire, choice: Any, kind: type[DynamoError], words: str) -> None:
    """Numbers and types that no correct server sends."""
    body = f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
    error = ask(wire, sends(_heads["stream"] + b"\r\n", [body]))
    assert type(error) is kind and words in str(error), error


@pytest.mark.parametrize("count", [-5, 10**30, 2**60, 0.5, "x", [1]])
def test_absurd_counts(wire: Wire, count: Any) -> None:
    body = f"data: {json.dumps({'choices': [], 'usage': {'prompt_tokens': count}})}\n\n".encode()
    error = ask(wire, sends(_heads["stream"] + b"\r\n", [body]))
    assert isinstance(error, EngineFailedError) and '"prompt_tokens"' in str(error)


def test_absurd_indexes_of_tool_calls(wire: Wire) -> None:
    """Indexes only distinguish the calls; no list is as long as they say."""
    indexes: list[Any] = [10**9, 2**62, -7, 1e300, "x", [1], {"a": 1}, None]
    calls = [{"index": index, "id": f"id{i}", **_tool_call} for i, index in enumerate(indexes)]
    event = {"choices": [{"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    body = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()
    wire.replies = [sends(_heads["stream"] + b"\r\n", [body])]
    options = {"base_url": wire.url, "check_server": False}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Runtime(engine="openai", model="m", options=options) as engine:
        answer = engine.chat("x").result()
    assert [call.id for call in answer.tool_calls] == [f"id{i}" for i in range(len(indexes))]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _memory * 1024


def test_absurd_many_tool_calls(wire: Wire) -> None:
    """Each piece of a call is compared with all calls of its choice."""
    options = {"base_url": wire.url, "check_server": False}
    for calls, words in (
        ([_tool_call] * 2000, "1024 tool calls"),
        (
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{" + "x" * 2**16}}],
            "finish_reason",
        ),
    ):
        body = f"data: {json.dumps({'choices': [{'delta': {'tool_calls': calls}}]})}\n\n".encode()
        wire.replies = [sends(_heads["stream"] + b"\r\n", [body])]
        runtime = Runtime(engine="openai", model="m", options=options)
        with runtime as engine, pytest.raises(EngineFailedError, match=words):
            engine.chat("x").result()


def test_absurd_models(wire: Wire) -> None:
    """Invalid entries are omitted, and so are names with control sequences."""
    names = ["good", 5, ["x"], {"a": 1}, None, "", "esc\x1b]0;x\x07", "line\nbreak", "c1\x9b", "b\u202eidi"]
    more = {"owned_by": ["x"], "max_model_len": 10**30}
    wire.models = {"data": [5, None, *({"id": name, **more} for name in [*names, "x" * 1000])]}
    with Runtime(engine="openai", options={"base_url": wire.url}) as engine:
        listed = json.dumps(engine.models())
        assert '"good"' in listed and "esc" not in listed and "xxxx" not in listed
        assert "\\u001b" not in engine.metrics()


def test_a_compressed_answer(wire: Wire) -> None:
    """gzip is requested for answers that are not streamed, and decompressed."""
    body = gzip.compress(json.dumps({"data": [{"index": 0, "embedding": [1.0] * 2000}]}).encode())
    head = _heads["json"] + _zip.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body))
    wire.replies = [sends(head, [body])]
    with Runtime(engine="openai", model="m", options={"base_url": wire.url}) as engine:
        assert engine.embed("x").result().vectors == [[1.0] * 2000]
    assert wire.calls[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 101, "deeper than 100"),
        ('{"a":' * 101, "deeper than 100"),
        ("[" * 10**6, "deeper than 100"),
        ('["' + "[" * 1000 + '", ' + "[" * 101, "deeper than 100"),
        ("9" * 41, "41 digits"),
        ('"' + "\\" * 10**6, "Unterminated|Invalid"),
        ('"' + '\\"' * 10**6 + "[" * 200, "Unterminated"),
    ],
)
def test_untrusted_json(text: str, words: str) -> None:
    """Depth and digits are bounded, in linear time, and errors do not repeat the text."""
    start = time.monotonic()
    with pytest.raises(ValueError, match=words):
        untrusted_json.parse(text)
    assert time.monotonic() - start < _time
    assert untrusted_json.parse("[" * 100 + "]" * 100) and untrusted_json.parse('["' + "[" * 1000 + '"]')
    assert untrusted_json.parse("[-12345678901234567890, 1e3, true]") == [-12345678901234567890, 1000.0, True]


# ------------------------------------------------------------------------------ what only seems to be etcd


@pytest.mark.parametrize("kind", ["endless", "deep", "page", "redirect", "silent", "garbage", "long head"])
def test_a_malicious_etcd(kind: str) -> None:
    """The list of a cluster's models, from a malicious server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head)
            ok = b"HTTP/1.0 200 OK\r\n\r\n"
            many = {
                "endless": [ok, *itertools.repeat(b' {"kvs": [' * 6000, 5000)],
                "deep": [ok, b'{"kvs": ' + b"[" * 10**6],
                "page": [ok, b"<html>"],
                "redirect": [b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n"],
                "silent": [],
                "garbage": [b"\x16\x03\x01" * 100],
                "long head": itertools.repeat(b"X: x\r\n" * 10_000, 10_000),
            }
            for piece in many[kind]:
                writer.write(piece)
                await writer.drain()
            if kind == "silent":
                await reader.read(1)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def look() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await model_cards(Settings.read({"etcd": [url]}))

    seen: list[bytes] = []
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="etcd does not list the models") as caught:
        asyncio.run(look())
    assert time.monotonic() - start < _time and len(str(caught.value)) < 1000
    assert len(seen) == 1

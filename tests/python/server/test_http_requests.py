# SPDX-License-Identifier: Apache-2.0
"""Requests that no correct client sends, byte for byte."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from conftest import patience
from served import Served, read_until, scripted, serve, stalling
from waiting import wait_until

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

chat = "/v1/chat/completions"
#: Seconds; longer than the timeouts of the server below, and shorter than the usual ones.
soon = 8


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server that is short of patience."""
    limits = ["--max-body", "100000", "--header-timeout", "1", "--body-timeout", "1", "--idle-timeout", "1"]
    with serve(scripted, *limits) as one:
        yield one


@pytest.fixture(scope="module")
def demo() -> Iterator[Served]:
    """A server of the demo model."""
    with serve({}) as one:
        yield one


def read_all(connection: socket.socket) -> str:
    """Returns what the server sends until it closes the connection."""
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
    except ConnectionResetError:
        pass
    return received.decode()


def test_not_json(served: Served) -> None:
    """The position of the mistake."""
    reply = served.ask("POST", chat, b'{"messages": [}')
    assert (reply.status, reply.error()["code"]) == (400, "invalid_json")
    assert "line 1 column 15" in reply.error()["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"", "line 1 column 1"),
        (b'{"messages": "\xff"}', "not UTF-8 at byte 14"),
        (b'{"messages": NaN}', "not JSON compliant"),
        (b"[" * 5000, "nested deeper than"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "5000 digits"),
    ],
)
def test_not_an_object(served: Served, body: bytes, words: str) -> None:
    """JSON that is not a body, or that is not JSON."""
    reply = served.ask("POST", chat, body)
    assert reply.status == 400
    assert words in reply.error()["message"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (chat, {"prompt": "x"}, '"messages" is missing'),
        ("/v1/completions", {"messages": []}, '"prompt" is missing'),
        ("/v1/embeddings", {}, '"input" is missing'),
        ("/v1/embeddings", {"input": "x", "task": "respond"}, '"task" of the request must be left out'),
        ("/v1/responses", {"instructions": "x"}, '"input" is missing'),
        ("/v1/responses", {"input": "x", "max_tokens": 1}, 'unknown key "max_tokens"'),
        ("/v1/responses", {"input": "x", "stream": 1}, '"stream" of the request must be'),
        ("/rerank", {"documents": ["x"]}, '"query" is missing'),
        ("/v1/score", {"text_2": ["x"]}, '"text_1" is missing'),
        ("/classify", {"text": "x"}, '"input" is missing'),
        (chat, {"messages": [], "temprature": 1}, 'did you mean "temperature"'),
        (chat, {"messages": [], "stream": "yes"}, '"stream" of the request must be'),
        ("/tokenize", {"messages": 5}, '"messages" of the request must be an array'),
        ("/tokenize", {"messages": [], "self": 5}, 'unknown key "self"'),
        (chat, {"messages": "x"}, '"messages" of the request must be an array'),
        ("/tokenize", {}, '"prompt" is missing'),
        ("/tokenize", {"prompt": 1}, '"prompt" of the request must be a string'),
        ("/tokenize", {"prompt": "x", "promt": "y"}, 'unknown key "promt"'),
        ("/detokenize", {"tokens": "x"}, '"tokens" of the request must be an array'),
    ],
)
def test_wrong_keys(served: Served, demo: Served, path: str, body: object, words: str) -> None:
    """The message names the key and what would be right, in the words of the library."""
    reply = (demo if path.endswith("tokenize") else served).ask("POST", path, body)
    assert (reply.status, reply.error()["type"]) == (400, "invalid_request_error")
    assert words in reply.error()["message"]


def test_paths_and_methods(served: Served) -> None:
    """Unknown ones."""
    reply = served.ask("POST", "/v1/completion", {})
    assert reply.status == 404
    assert '"/v1/completion"' in reply.error()["message"]
    reply = served.ask("GET", chat)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    assert "use POST" in reply.error()["message"]
    assert served.ask("PUT", "/v1/models").status == 405
    assert served.ask("HEAD", "/v1/models").status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_content_type(served: Served, kind: str) -> None:
    """A page of another site can send these from a browser without asking."""
    reply = served.ask("POST", chat, b'{"messages": []}', Content_Type=kind)
    assert reply.status == 415
    assert "application/json" in reply.error()["message"]
    assert served.ask("POST", chat, b"[]", Content_Type="Application/JSON; charset=utf-8").status == 400
    assert served.ask("POST", chat, b"[]", Content_Encoding="gzip").status == 415


def test_long_body(served: Served) -> None:
    """The declared length is enough to refuse a body; without one, the limit is."""
    words = "longer than 100000 bytes"
    with served.connect() as connection:
        head = f"POST {chat} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
        answer = read_all(connection)  # it ends within the timeout, although the body never comes
        assert answer.startswith("HTTP/1.1 413 ") and words in answer
    with served.connect() as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"186a1\r\n" + b" " * 100001 + b"\r\n0\r\n\r\n")
        assert connection.recv(65536).decode().startswith("HTTP/1.1 413 ")
    longest = b'{"messages": [' + b" " * (100000 - 16) + b"]}"
    assert "100000" not in served.ask("POST", chat, longest).text


def test_slow_body(served: Served) -> None:
    """A body that does not arrive in time."""
    with served.connect() as connection:
        head = f"POST {chat} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        start = time.monotonic()
        assert connection.recv(65536).decode().startswith("HTTP/1.1 408 ")
        assert 0.5 < time.monotonic() - start < soon
    wait_until(lambda: served.metric("dynamo_llm_http_requests_in_flight") == 0)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /health",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        # The second request of a connection is not different from the first.
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_slow_header(served: Served, start: bytes) -> None:
    """A connection whose header does not come, and one that is idle, are closed."""
    with served.connect() as connection:
        began = time.monotonic()
        connection.sendall(start)
        answer = read_all(connection)
        assert 0.5 < time.monotonic() - began < soon
    assert answer.count("HTTP/1.1 200 OK") == start.endswith(b"\r\n\r\n") + start.endswith(b"/hea")


def test_dripping_header(served: Served) -> None:
    """A byte now and then does not keep a connection open."""
    with served.connect() as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < patience:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < soon


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),  # TLS
        b"GET / FTP/1.1\r\n\r\n",
        b"POST " + chat.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST " + chat.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 200_000,
        b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)),
    ],
)
def test_not_http(served: Served, garbage: bytes) -> None:
    """What is not HTTP is refused, and the server lives."""
    with served.connect() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(garbage)
        answer = read_all(connection)
    # A client that still sends may not see the answer.
    assert answer.startswith("HTTP/1.1 400 ") or (not answer and len(garbage) > 65536)
    assert served.ask("GET", "/health").status == 200


def test_too_many_requests() -> None:
    """More requests than the limit get HTTP 429; looking at the server stays possible."""
    with serve(scripted, "--max-requests", "2") as served:
        connections = [served.connect() for _ in range(2)]
        for connection in connections:
            served.send_chat(connection, stalling)
            read_until(connection, "one")
        reply = served.chat(stalling)
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
        assert reply.error()["code"] == "rate_limit_exceeded"
        assert served.ask("GET", "/health").status == 200
        assert served.metric("dynamo_llm_http_requests_in_flight") == 2
        for connection in connections:
            connection.close()
        wait_until(lambda: served.metric("dynamo_llm_http_requests_in_flight") == 0)
        assert served.chat(json.dumps([{"text": "x"}])).status == 200


def test_queue_of_the_runtime() -> None:
    """The limits of the configuration are reported in the same way."""
    limits = {"max_concurrent": 1, "max_queued": 0}
    with serve({**scripted, "limits": limits}) as served, served.connect() as connection:
        served.send_chat(connection, stalling)
        read_until(connection, "one")
        reply = served.chat(stalling)
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")


def test_request_id(served: Served) -> None:
    """The client's, or that of the library; never a line of its own in somebody's log."""
    assert served.ask("GET", "/health", X_Request_Id="abc-1").headers["X-Request-Id"] == "abc-1"
    given = served.chat(json.dumps([{"text": "x"}]))
    assert given.headers["X-Request-Id"].startswith("req-")
    assert given.headers["X-Request-Id"].removeprefix("req-") in given.json()["id"]
    for bad in ("", "a b", "x" * 129, "é"):
        name = served.ask("GET", "/health", X_Request_Id=bad).headers["X-Request-Id"]
        assert len(name) == 32 and name != bad


def test_metrics(served: Served) -> None:
    """Prometheus' own parser reads them; what the library counts and what the server counts."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs the package prometheus-client")
    served.ask("GET", "/secret/of/a/client")
    reply = served.ask("GET", "/metrics")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in parser.text_string_to_metric_families(reply.text)}
    assert {
        "dynamo_llm_requests",
        "dynamo_llm_http_answers",
        "dynamo_llm_requests_in_flight",
    } <= families.keys()
    paths = {sample.labels["path"] for sample in families["dynamo_llm_http_answers"].samples}
    assert "other" in paths and "/secret/of/a/client" not in paths


def test_tokens(served: Served, demo: Served) -> None:
    """The endpoints of vLLM's server for tokens."""
    messages = [{"role": "user", "content": "What is a KV cache?"}]
    chat_tokens = demo.ask("POST", "/tokenize", {"model": "m", "messages": messages}).json()
    usage = demo.chat("What is a KV cache?", max_tokens=1).json()["usage"]
    assert chat_tokens["count"] == len(chat_tokens["tokens"]) == usage["prompt_tokens"]
    assert chat_tokens["max_model_len"] == 1024
    text = demo.ask("POST", "/detokenize", {"tokens": chat_tokens["tokens"]}).json()["prompt"]
    assert text == "<|begin|><|user|>What is a KV cache?<|end|><|assistant|>"
    plain = demo.ask("POST", "/tokenize", {"prompt": "é 語", "add_special_tokens": False}).json()
    assert demo.ask("POST", "/detokenize", {"tokens": plain["tokens"]}).json() == {"prompt": "é 語"}
    assert demo.ask("POST", "/tokenize", {"messages": messages, "tol": 1}).status == 400
    assert demo.ask("POST", "/detokenize", {"tokens": [-1]}).status == 400
    reply = served.ask("POST", "/tokenize", {"prompt": "x"})
    assert (reply.status, reply.error()["code"]) == (501, "not_supported")


def test_no_model() -> None:
    """A server whose engine has no model at present is not healthy."""
    config = {"engine": "openai", "options": {"base_url": "http://127.0.0.1:9/v1", "check_server": False}}
    with serve(config) as served:
        assert served.ask("GET", "/health").status in (200, 503)
        reply = served.chat("x")
        assert (reply.status, reply.error()["code"]) == (503, "unavailable")


def test_pipelining(served: Served) -> None:
    """Two requests that are sent together are answered in order."""
    with served.connect() as connection:
        served.send_chat(connection, json.dumps([{"text": "one"}]), stream=False)
        served.send_chat(connection, json.dumps([{"text": "two"}]), stream=False)
        received = read_until(connection, "two")
    assert received.count("HTTP/1.1 200 OK") == 2
    assert received.index("one") < received.index("two")


def test_prompts_of_a_completion(demo: Served) -> None:
    """Several prompts are answered with as many choices."""
    prompts = ["A KV cache", "Prefill"]
    body = {"prompt": prompts, "max_tokens": 3}
    choices = demo.ask("POST", "/v1/completions", body).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    for prompt, choice in zip(prompts, choices, strict=True):
        alone = demo.ask("POST", "/v1/completions", {**body, "prompt": prompt}).json()
        assert alone["choices"][0]["text"] == choice["text"]


def test_many_values() -> None:
    """A small body can take much memory; commas in texts do not count."""
    config = {**scripted, "limits": {"request": {"values": 100}}}
    with serve(config) as served:
        for values in ([1] * 101, [[]] * 101, [{}] * 101, {str(i): 1 for i in range(101)}):
            reply = served.ask("POST", chat, {"messages": [], "x": values})
            assert (reply.status, reply.error()["code"]) == (400, "invalid_request")
            assert '"limits.request.values"' in reply.error()["message"]
        words = json.dumps([{"text": 'a, [b], {c}, "d\\\\", ' * 50}])
        assert served.chat(words).status == 200
        assert served.ask("POST", chat, b'{"messages": "' + b"," * 200).error()["code"] == "invalid_json"
    limits = {"limits": {"request": {"values": 2_000_000}}}
    with serve({**scripted, **limits}, "--max-body", "10000000") as served:
        reply = served.ask("POST", chat, {"messages": [], "x": [1] * 1_500_000})
        assert 'unknown key "x"' in reply.error()["message"]

# SPDX-License-Identifier: Apache-2.0
"""How a server ends."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from conftest import patience
from served import Served, command, events, read_until, scripted, serve, stalling
from waiting import wait_until

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

#: Takes about six seconds.
steady = json.dumps([{"text": "one "}, {"text": "more ", "delay_ms": 200, "repeat": 30}])
drained = (0, {"ended": "drained"}, "")


def begin(served: Served, text: str) -> socket.socket:
    """Begins to read a stream."""
    connection = served.connect()
    served.send_chat(connection, text)
    read_until(connection, "one")
    return connection


def finish(connection: socket.socket) -> str:
    """Returns the rest of a stream, up to the end of HTTP's last chunk."""
    return read_until(connection, "\r\n0\r\n\r\n")


def test_nothing_to_do() -> None:
    """SIGTERM, and an idle connection that is still open."""
    with serve(scripted) as served, served.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(connection, "ok")
        start = time.monotonic()
        served.signal()
        assert served.end() == drained
        assert time.monotonic() - start < patience / 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_run_to_their_end(number: int) -> None:
    """Requests in flight are answered in full; meanwhile the server is not healthy, and takes no new ones."""
    with serve(scripted) as served, begin(served, steady) as connection:
        served.signal(number)
        wait_until(lambda: served.ask("GET", "/health").status == 503)
        reply = served.chat(steady)
        assert (reply.status, reply.error()["message"]) == (503, "the server is shutting down")
        assert served.ask("GET", "/metrics").status == 200
        rest = finish(connection)
        assert rest.count("more ") == 30 and "data: [DONE]" in rest
        assert served.end() == drained


def test_time_is_up() -> None:
    """Requests that do not end are cancelled after --drain seconds, and their clients get an error."""
    with serve(scripted, "--drain", "1") as served, begin(served, stalling) as connection:
        with served.connect() as whole:
            served.send_chat(whole, stalling, stream=False)
            wait_until(lambda: served.metric("dynamo_llm_requests_in_flight") == 2)
            start = time.monotonic()
            served.signal()
            error = json.loads(events(finish(connection).rpartition("data: ")[2].partition("\n")[0])[0])
            assert error["error"]["message"] == "the server is shutting down"
            assert read_until(whole, "shutting down").startswith("HTTP/1.1 503 ")
            assert time.monotonic() - start > 1
        code, last, errors = served.end()
    assert (code, last["ended"], errors) == (1, "failed", "")
    assert "after 1 seconds" in last["error"]["message"]


def test_second_signal() -> None:
    """Cancels at once."""
    with serve(scripted, "--drain", "1000") as served, begin(served, stalling) as connection:
        served.signal(signal.SIGINT)
        wait_until(lambda: served.ask("GET", "/health").status == 503)
        served.signal(signal.SIGINT)
        assert "shutting down" in finish(connection)
        assert served.end() == (130, {"ended": "interrupted"}, "")


def test_clients_that_hold_on() -> None:
    """Neither a client that does not read nor one that does not send its body keeps the server."""
    flood = json.dumps([{"text": "word " * 200, "repeat": 1_000_000}])
    with (
        serve(scripted, "--drain", "0.5") as served,
        served.connect(4096) as silent,
        served.connect() as slow,
    ):
        served.send_chat(silent, flood)
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        wait_until(lambda: served.metric("dynamo_llm_http_requests_in_flight") == 2)
        start = time.monotonic()
        served.signal()
        code, last, errors = served.end()
        assert (code, last["ended"], errors) == (1, "failed", "")
        assert time.monotonic() - start < patience / 2


def test_end_after_tokenizing() -> None:
    """Tokenizers that were loaded do not keep the process."""
    with serve({}) as served:
        assert served.ask("POST", "/tokenize", {"prompt": "x"}).status == 200
        served.signal()
        assert served.end() == drained


def test_signal_while_the_model_is_loaded(tmp_path: Path) -> None:
    """Ends the process at once, with the exit code of the signal."""
    (tmp_path / "sleeping.py").write_text(
        "import time\n"
        "class Sleeping:\n"
        "    def __init__(self, config): print('loading', flush=True)\n"
        f"    def start(self): time.sleep({2 * patience})\n"
        "    def stop(self): pass\n"
        "    def generate(self, request): yield {}\n"
    )
    config = {"engine": "sleeping:Sleeping", "python": {"path": [str(tmp_path)]}}
    words = command("--config", json.dumps(config), "--http", "127.0.0.1:0")
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"loading\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(patience / 2) == 143
        finally:
            process.kill()

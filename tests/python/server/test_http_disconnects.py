# SPDX-License-Identifier: Apache-2.0
"""Clients that go away, or that do not read."""

import json
import socket
import time

import pytest
from served import Served, read_until, scripted, serve, stalling
from waiting import wait_until

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

cancelled = 'dynamo_llm_requests_total{status="cancelled"}'
#: More than the operating system keeps for both sides of a connection.
flood = json.dumps([{"text": "word " * 200, "repeat": 1_000_000}])


def seconds_to_cancel(served: Served, connection: socket.socket) -> float:
    """Closes a connection. Returns how long its request lived on, as the metrics show it."""
    before = served.metric(cancelled)
    start = time.monotonic()
    connection.close()
    wait_until(lambda: served.metric(cancelled) > before)
    return time.monotonic() - start


def test_disconnect() -> None:
    """The engine's request is cancelled within 100 ms: in a stream, before its first token, and when the
    answer is not streamed. (The best of several, because other tests may run meanwhile.)
    """
    silent = json.dumps([{"stall": True}])
    with serve(scripted) as served:
        times: dict[str, list[float]] = {"stream": [], "prompt": [], "whole": []}
        for _ in range(4):
            for name, text, is_streamed in (
                ("stream", stalling, True),
                ("prompt", silent, True),
                ("whole", stalling, False),
            ):
                connection = served.connect()
                served.send_chat(connection, text, stream=is_streamed)
                if name == "stream":
                    read_until(connection, "one")
                wait_until(lambda: served.metric("dynamo_llm_requests_in_flight") == 1)
                times[name].append(seconds_to_cancel(served, connection))
        assert all(min(some) < 0.1 for some in times.values()), times
        assert served.metric("dynamo_llm_requests_in_flight") == 0
        assert served.metric("dynamo_llm_http_requests_in_flight") == 0


def test_disconnect_while_sending_the_body() -> None:
    """Nothing is left, and nothing is written to the log."""
    with serve(scripted) as served:
        with served.connect() as connection:
            head = (
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            )
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            wait_until(lambda: served.metric("dynamo_llm_http_requests_in_flight") == 1)
        wait_until(lambda: served.metric("dynamo_llm_http_requests_in_flight") == 0)
        served.signal()
        assert served.end() == (0, {"ended": "drained"}, "")


def test_slow_reader_makes_the_engine_wait() -> None:
    """While a client does not read, the engine makes no more tokens, and memory does not grow."""
    with serve({**scripted, "stream": {"capacity": 64}}) as served, served.connect(4096) as connection:
        served.send_chat(connection, flood)
        wait_until(lambda: served.metric("dynamo_llm_streams_full_total") > 0)

        def made() -> float:
            return served.metric("dynamo_llm_completion_tokens_total")

        def is_steady() -> bool:
            before = made()
            time.sleep(0.3)
            return made() == before

        wait_until(is_steady)
        before = made()
        assert before < 100_000
        for _ in range(100):  # it goes on where it stopped
            connection.recv(65536)
        wait_until(lambda: made() > before)
        assert served.chat(json.dumps([{"text": "x"}])).status == 200


def test_client_that_stops_reading() -> None:
    """It is cancelled after a time; a client that reads slowly is not."""
    with serve(scripted, "--write-timeout", "1") as served:
        with served.connect(4096) as connection:
            start = time.monotonic()
            served.send_chat(connection, flood)
            wait_until(lambda: served.metric(cancelled) == 1)
            assert time.monotonic() - start > 1
        with served.connect(4096) as connection:
            served.send_chat(connection, flood)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                assert connection.recv(4096)
                time.sleep(0.02)
            assert served.metric(cancelled) == 1

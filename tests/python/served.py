# SPDX-License-Identifier: Apache-2.0
"""Runs ``dynamo-llm serve --http``, and talks to it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conftest import patience

#: Answers a chat with the script that is its prompt.
scripted = {"engine": "scripted"}
stalling = json.dumps([{"text": "one "}, {"stall": True}])


class Reply:
    """An answer that was read to its end."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.text = reply.read().decode()

    def json(self) -> Any:
        return json.loads(self.text)

    def error(self) -> dict[str, Any]:
        """Returns the error, in the form that clients of OpenAI expect."""
        body = self.json()
        assert body.keys() == {"error"}
        error: dict[str, Any] = body["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error


class Served:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname and parts.port
        self.address = (parts.hostname, parts.port)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Sends a request, and reads the answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=patience)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if content is not None:
            headers = {"Content-Type": "application/json", **headers}
        try:
            connection.request(method, path, content, {k.replace("_", "-"): v for k, v in headers.items()})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def chat(self, text: str, **more: Any) -> Reply:
        """Sends a chat with one message of the user."""
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
        return self.ask("POST", "/v1/chat/completions", body)

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """Opens a connection.

        :param receive_buffer: bytes that the operating system may keep for this side.
        """
        made = socket.socket()
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(patience)
        made.connect(self.address)
        return made

    def send_chat(self, connection: socket.socket, text: str, **more: Any) -> None:
        """Sends a chat on a connection, without reading the answer."""
        body = {"messages": [{"role": "user", "content": text}], "stream": True, **more}
        content = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)

    def metric(self, name: str) -> float:
        """Returns the sum of the metrics with a name and, in braces, some labels; 0 if there is none."""
        name, _, labels = name.partition("{")
        wanted = set(labels.rstrip("}").split(",")) if labels else set()
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", self.ask("GET", "/metrics").text, re.M)
        return sum(float(value) for some, value in found if wanted <= set(some.split(",")))

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, dict[str, Any], str]:
        """Waits for the process. Returns its exit code, its last line, and what it wrote to stderr."""
        output, errors = self.process.communicate(timeout=patience)
        return self.process.returncode, json.loads(output.splitlines()[-1]), errors


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "dynamo_llm", "serve", *options]


@contextmanager
def serve(config: Any, *options: str, **env: str) -> Iterator[Served]:
    """Serves at a free port of the loopback interface until the end of the block."""
    words = command("--config", json.dumps(config), "--http", "127.0.0.1:0", "--json", *options)
    with subprocess.Popen(
        words,
        env={"PATH": os.environ["PATH"], **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        watchdog = threading.Timer(3 * patience, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            started = json.loads(line) if line else {}
            assert "url" in started, f"{line}{process.stderr.read()}"
            yield Served(process, started["url"].removesuffix("/v1"))
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()


def read_until(connection: socket.socket, text: str) -> str:
    """Reads until a text has come. Returns all that has come."""
    received = b""
    while text.encode() not in received:
        more = connection.recv(65536)
        assert more, f"the server closed the connection after {received!r}"
        received += more
    return received.decode()


def events(text: str) -> list[str]:
    """Returns the data of server-sent events."""
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]

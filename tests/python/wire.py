# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that does, byte for byte, what a test says: also what no good server does."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from conftest import patience

Reply = Callable[["Call"], Awaitable[None]]


class Call:
    """One request that came in, and the answer to it."""

    def __init__(
        self, method: str, path: str, headers: dict[str, str], body: Any, reader: Any, writer: Any
    ) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self._reader: asyncio.StreamReader = reader
        self._writer: asyncio.StreamWriter = writer

    async def whole(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
        """Send a whole answer."""
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {kind}", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + content)

    async def begin(self, kind: str = "text/event-stream") -> None:
        """Begin a stream."""
        await self.send(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )

    async def bit(self, content: bytes) -> None:
        """Send some bytes of a stream."""
        await self.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def events(self, *events: Any) -> None:
        """Send events."""
        for event in events:
            text = event if isinstance(event, str) else json.dumps(event)
            await self.bit(f"data: {text}\n\n".encode())

    async def end(self) -> None:
        """End a stream as it should end."""
        await self.send(b"0\r\n\r\n")

    async def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(content)
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        assert await asyncio.wait_for(self._reader.read(1), patience) == b""

    def hang_up(self, reset: bool = False) -> None:
        """Close the connection."""
        if reset:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort() if reset else self._writer.close()


class Wire:
    """The server, on a port of its own of the loopback, in a thread of its own."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """What came in, but for questions for models."""
        self.models: Any = {"object": "list", "data": [{"id": "m", "max_model_len": 64}]}
        """What those are answered with; None: HTTP 404."""
        self.replies: list[Reply] = []
        """What to do with each call; the last one goes on."""
        self.connections = 0
        self.failures: list[BaseException] = []
        """Assertions of replies that failed."""
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """What the engine's ``base_url`` should be."""
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Stop serving; a reply that failed fails the test."""

        async def stop() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(patience)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patience)
        self._loop.close()
        assert not self.failures, self.failures

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                text = await reader.readexactly(int(headers.get("content-length", 0)))
                call = Call(method, path, headers, json.loads(text) if text else None, reader, writer)
                if path.endswith("/models"):
                    await call.whole(404 if self.models is None else 200, self.models or "page not found")
                    continue
                self.calls.append(call)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                await reply(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        except Exception as error:
            self.failures.append(error)
        finally:
            writer.close()

# SPDX-License-Identifier: Apache-2.0
"""An HTTP server whose behavior a test controls byte for byte, to do even what correct servers never do."""

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
    """A received request, and the methods to answer it."""

    def __init__(
        self, method: str, path: str, headers: dict[str, str], body: Any, reader: Any, writer: Any
    ) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self._reader: asyncio.StreamReader = reader
        self._writer: asyncio.StreamWriter = writer

    async def whole(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
        """Sends a complete answer."""
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {kind}", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + content)

    async def begin(self, kind: str = "text/event-stream") -> None:
        """Begins a stream."""
        await self.send(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )

    async def bit(self, content: bytes) -> None:
        """Sends some bytes of a stream."""
        await self.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def events(self, *events: Any) -> None:
        """Sends events."""
        for event in events:
            text = event if isinstance(event, str) else json.dumps(event)
            await self.bit(f"data: {text}\n\n".encode())

    async def end(self) -> None:
        """Ends a stream properly."""
        await self.send(b"0\r\n\r\n")

    async def send(self, content: bytes) -> None:
        """Sends bytes unchanged."""
        self._writer.write(content)
        await self._writer.drain()

    async def gone(self) -> None:
        """Waits until the client has closed the connection."""
        assert await asyncio.wait_for(self._reader.read(1), patience) == b""

    def hang_up(self, reset: bool = False) -> None:
        """Closes the connection."""
        if reset:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort() if reset else self._writer.close()


class Wire:
    """The server, on its own port of the loopback interface, in its own thread."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """The received requests, except those for the list of models."""
        self.models: Any = {"object": "list", "data": [{"id": "m", "max_model_len": 64}]}
        """The answer to requests for the list of models; None: HTTP 404."""
        self.at_models: Reply | None = None
        """Handles requests for the list of models instead of ``models``, if set."""
        self.replies: list[Reply] = []
        """Handlers of the calls, in order; the last one handles all further calls."""
        self.connections = 0
        self.failures: list[BaseException] = []
        """Exceptions raised by the handlers, such as failed assertions."""
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """The value for the engine's ``base_url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Stops serving. Fails the test if a handler failed."""

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
                if path.endswith("/models") and self.at_models is not None:
                    await self.at_models(call)
                    return
                if path.endswith("/models"):
                    await call.whole(404 if self.models is None else 200, self.models or "page not found")
                    continue
                self.calls.append(call)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                await reply(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has disconnected
        except Exception as error:
            self.failures.append(error)
        finally:
            writer.close()

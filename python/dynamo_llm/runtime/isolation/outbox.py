# SPDX-License-Identifier: Apache-2.0
"""Writes frames to a socket without blocking the event loop."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable


class Outbox:
    """Frames that are queued for the other process, on a non-blocking socket. Used on the event loop."""

    #: Queued bytes above which the outbox is full.
    _most = 1 << 18

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: socket.socket) -> None:
        self._loop = loop
        self._channel = channel
        self._waiting: deque[bytes | memoryview] = deque()
        self._size = 0
        self._is_flushing = False
        self._has_writer = False
        self._is_closed = False
        self._listeners: list[Callable[[], None]] = []

    def put(self, frame: bytes) -> None:
        """Queues a frame. Those of one iteration of the event loop are written together. Does not block."""
        if self._is_closed:
            return
        self._waiting.append(frame)
        self._size += len(frame)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    @property
    def is_full(self) -> bool:
        """Whether so many bytes are queued that producers should pause."""
        return self._size > self._most and not self._is_closed

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Calls a function once, when all queued frames were written or the outbox was closed."""
        self._listeners.append(callback)

    def close(self) -> None:
        """Drops the queued frames: the other process has ended."""
        self._is_closed = True
        self._waiting.clear()
        self._size = 0
        self._remove_writer()
        self._wake()

    def _wake(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            self._loop.call_soon(listener)

    def _flush(self) -> None:
        while self._waiting:
            batch = self._take()
            try:
                sent = self._channel.send(batch)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.close()  # the reader of the channel notices the end, too
                return
            self._size -= sent
            if sent < len(batch):
                self._waiting.appendleft(memoryview(batch)[sent:])
                if not self._has_writer:
                    self._has_writer = True
                    self._loop.add_writer(self._channel, self._flush)
                return
        self._remove_writer()
        self._is_flushing = False
        self._wake()

    def _take(self) -> bytes | memoryview:
        """Takes the next frames to write: several small ones, joined, or a large one."""
        count = size = 0
        for one in self._waiting:
            if count and size + len(one) > self._most:
                break
            size += len(one)
            count += 1
        if count == 1:
            return self._waiting.popleft()
        return b"".join(self._waiting.popleft() for _ in range(count))

    def _remove_writer(self) -> None:
        if self._has_writer:
            self._has_writer = False
            self._loop.remove_writer(self._channel)

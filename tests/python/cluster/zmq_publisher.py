# SPDX-License-Identifier: Apache-2.0
"""Publishes KV events like the engine of a worker of a static router: on a ZMQ socket (ZMTP 3.0, RFC 23), in
the format of vLLM.
"""

import socket
import struct
import time
from typing import Any

_greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def _frame(body: bytes, flags: int) -> bytes:
    """Returns a frame; flags: 1 if more follow, 4 for a command."""
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body


class ZmqPublisher:
    """A PUB socket for one subscriber."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._subscriber: socket.socket | None = None
        self._sent = 0

    def wait_for_subscriber(self) -> None:
        """Waits until the router has subscribed."""
        self._subscriber, _ = self._listener.accept()
        self._subscriber.settimeout(30)
        self._subscriber.sendall(_greeting)
        self._read(len(_greeting))
        self._subscriber.sendall(_frame(b"\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB", 4))
        while self._read_frame()[:1] != b"\x01":  # its READY, and then a subscription
            pass

    def stored(self, token_ids: list[int], block_size: int, rank: int = 0) -> None:
        """Publishes that the worker has the blocks of a prompt, the first of its kind."""
        assert self._subscriber is not None
        hashes = [hash((*token_ids[:end],)) for end in range(block_size, len(token_ids) + 1, block_size)]
        event: list[Any] = ["BlockStored", hashes, None, token_ids, block_size, None]
        import msgspec  # of the extra dynamo

        batch = msgspec.msgpack.encode([time.time(), [event], rank])
        parts = (b"", struct.pack(">q", self._sent), batch)
        self._subscriber.sendall(_frame(parts[0], 1) + _frame(parts[1], 1) + _frame(parts[2], 0))
        self._sent += 1

    def close(self) -> None:
        """Closes the connection."""
        self._listener.close()
        if self._subscriber is not None:
            self._subscriber.close()

    def _read(self, size: int) -> bytes:
        assert self._subscriber is not None
        data = b""
        while len(data) < size:
            more = self._subscriber.recv(size - len(data))
            assert more, "the router closed the connection"
            data += more
        return data

    def _read_frame(self) -> bytes:
        flags, size = self._read(2)
        assert not flags & 2
        return self._read(size)

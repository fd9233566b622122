# SPDX-License-Identifier: Apache-2.0
"""The frames that an isolated engine's two processes exchange: length, kind, number of the request, payload.

The parent does not trust the child: a frame that is not valid raises :class:`ProtocolError`.
"""

import json
import struct
from array import array
from collections.abc import Iterator
from typing import Any

_header = struct.Struct("<IBQ")
_chunk = struct.Struct("<IIIHI")
_request = struct.Struct("<Bq")
_count = struct.Struct("<Q")

#: Size limit of a frame in bytes.
_longest = 1 << 30

# Kinds of frames to the child.
REQUEST, CANCEL, CREDIT, PING = range(1, 5)
# Kinds of frames from the child.
READY, REFUSED, CHUNK, ITEM, END, FAIL, PONG, MODELS, METRICS, PROGRESS = range(16, 26)

# Kinds of content of REQUEST.
OPENAI, JSON, BYTES, CALL = range(4)


class ProtocolError(Exception):
    """The other process sent a frame that is not valid."""


def frame(kind: int, number: int = 0, payload: bytes = b"") -> bytes:
    """Packs a frame."""
    return _header.pack(len(payload), kind, number) + payload


def frame_json(kind: int, number: int, value: Any) -> bytes:
    """Packs a frame with a JSON payload."""
    return frame(kind, number, json.dumps(value).encode())


def read_json(payload: memoryview) -> dict[str, Any]:
    """Reads the object in a payload of :func:`frame_json`."""
    try:
        value = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the payload is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("the payload is not a JSON object")
    return value


def request(number: int, kind: int, remaining_ms: int, content: bytes) -> bytes:
    """Packs a request of kind ``OPENAI``, ``JSON``, ``BYTES``, or ``CALL``.

    :param remaining_ms: milliseconds until its deadline; -1 without one.
    """
    return frame(REQUEST, number, _request.pack(kind, remaining_ms) + content)


def read_request(payload: memoryview) -> tuple[int, int, bytes]:
    """Reads a payload of :func:`request`: kind, milliseconds until the deadline, content."""
    kind, remaining_ms = _request.unpack_from(payload)
    return kind, remaining_ms, bytes(payload[_request.size :])


def credit(number: int, tokens: int) -> bytes:
    """Packs credit: so many tokens of a request were pushed to its stream."""
    return frame(CREDIT, number, _count.pack(tokens))


def read_credit(payload: memoryview) -> int:
    """Reads a payload of :func:`credit`: the number of tokens."""
    (tokens,) = _count.unpack(payload)
    return int(tokens)


def chunk(
    number: int,
    index: int,
    text: bytes,
    token_ids: list[int],
    token_count: int,
    finish_reason: str | None,
    more: dict[str, Any],
) -> bytes:
    """Packs a part of an answer, with ``delta`` and ``logprobs`` in ``more``, if any."""
    ids = array("I", token_ids).tobytes()
    reason = (finish_reason or "").encode()
    extra = json.dumps(more).encode() if more else b""
    head = _chunk.pack(index, token_count, len(token_ids), len(reason), len(extra))
    return frame(CHUNK, number, b"".join((head, ids, reason, extra, text)))


def read_chunk(payload: memoryview) -> tuple[dict[str, Any], int]:
    """Reads a payload of :func:`chunk`: a chunk as engines yield it, and its number of tokens."""
    try:
        index, token_count, id_count, reason_size, extra_size = _chunk.unpack_from(payload)
    except struct.error:
        raise ProtocolError("a chunk is cut off") from None
    at = _chunk.size
    ids_end = at + 4 * id_count
    reason_end = ids_end + reason_size
    extra_end = reason_end + extra_size
    if extra_end > len(payload):
        raise ProtocolError("a chunk is cut off")
    result: dict[str, Any] = {"index": index, "token_count": token_count}
    if id_count:
        result["token_ids"] = payload[at:ids_end].cast("I").tolist()
    if reason_size:
        result["finish_reason"] = str(payload[ids_end:reason_end], "utf-8", "replace")
    if extra_size:
        more = read_json(payload[reason_end:extra_end])
        result |= {key: more[key] for key in ("delta", "logprobs") if key in more}
    if extra_end < len(payload):
        result["text"] = bytes(payload[extra_end:])
    return result, max(1, token_count, id_count)


def item(number: int, content: Any) -> bytes:
    """Packs an item of the answer to a raw request: bytes, or a JSON value."""
    if isinstance(content, bytes):
        return frame(ITEM, number, b"\0" + content)
    return frame(ITEM, number, b"\1" + json.dumps(content).encode())


def read_item(payload: memoryview) -> tuple[dict[str, Any], int]:
    """Reads a payload of :func:`item`: a chunk with ``data``, which counts as one token."""
    if not payload:
        raise ProtocolError("an item is cut off")
    content = bytes(payload[1:])
    return {"data": content.decode("utf-8", "replace") if payload[0] else content}, 1


class Reader:
    """Splits the received bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, memoryview]]:
        """Takes more bytes. Yields kind, number, and payload of each complete frame; a payload is valid
        only until the next frame is requested.
        """
        self._buffer += data
        at = 0
        with memoryview(self._buffer) as view:
            while len(view) - at >= _header.size:
                length, kind, number = _header.unpack_from(view, at)
                if length > _longest:
                    raise ProtocolError(f"a frame has {length} bytes; at most {_longest} are allowed")
                end = at + _header.size + length
                if end > len(view):
                    break
                with view[at + _header.size : end] as payload:
                    yield kind, number, payload
                at = end
        del self._buffer[:at]

# SPDX-License-Identifier: Apache-2.0
"""Reads the body of an HTTP response in small pieces and with a size limit, whatever the server sends."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from dynamo_llm.errors import EngineFailedError
from dynamo_llm.runtime.request_timeouts import RequestTimeouts

#: Bytes of one piece: parsing it must not occupy the event loop for long.
_piece = 8192
#: Pieces after which other tasks of the event loop run.
_turn = 64


class TooLongError(EngineFailedError):
    """The body exceeds the size limit."""


async def pieces(
    response: Any, most: int, timeouts: RequestTimeouts, where: str
) -> AsyncGenerator[bytes, None]:
    """Yields the decompressed body in pieces of at most 8 KiB.

    :param response: httpx2's response, opened for streaming.
    :param most: size limit in bytes, for the compressed and for the decompressed body.
    :param where: the URL, for errors.
    :raises TooLongError: the body exceeds the limit.
    :raises EngineFailedError: the content encoding is not one that was requested, or the data is corrupt.
    """
    inflate = _inflater(response, where)
    received = given = count = 0
    async with aclosing(response.aiter_raw()) as chunks:
        while (chunk := await timeouts.wait(anext(chunks, None))) is not None:
            received += len(chunk)
            for piece in inflate(chunk):
                given += len(piece)
                if given > most:
                    break
                yield piece
                count += 1
                if count % _turn == 0 or len(piece) == _piece:
                    await asyncio.sleep(0)
            if max(received, given) > most:
                raise TooLongError(f"{where} sent more than {most} bytes")
            count += 1  # a chunk that yielded nothing took time, too
            if count % _turn == 0:
                await asyncio.sleep(0)


def _inflater(response: Any, where: str) -> Any:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return _slices
    if encoding != "gzip":
        raise EngineFailedError(
            f'{where} sent a body with the content encoding "{encoding[:50]}"; it must be "gzip" or none'
        )
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def inflate(chunk: bytes) -> Iterator[bytes]:
        while not decompressor.eof:  # what follows the end is ignored
            try:
                piece = decompressor.decompress(chunk, _piece)
            except zlib.error:
                raise EngineFailedError(
                    f'{where} sent a body that is not valid gzip, although its content encoding is "gzip"'
                ) from None
            if not piece:
                return
            chunk = decompressor.unconsumed_tail
            yield piece

    return inflate


def _slices(chunk: bytes) -> Iterator[bytes]:
    for start in range(0, len(chunk), _piece):
        yield chunk[start : start + _piece]

# SPDX-License-Identifier: Apache-2.0
"""Wraps the items that a raw engine yields as chunks."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from dynamo_llm.errors import EngineFailedError
from dynamo_llm.runtime.engine import Chunk


def _chunk(item: Any) -> Chunk:
    if isinstance(item, (bytes, bytearray, memoryview)):
        return {"data": bytes(item)}
    try:
        return {"data": json.dumps(item, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise EngineFailedError(
            f"the engine yielded an item that is neither bytes nor a JSON value: {error}"
        ) from error


async def _of_async(items: AsyncIterator[Any]) -> AsyncIterator[Chunk]:
    try:
        async for item in items:
            yield _chunk(item)
    finally:
        if close := getattr(items, "aclose", None):
            await close()


def _of_plain(items: Iterator[Any]) -> Iterator[Chunk]:
    try:
        for item in items:
            yield _chunk(item)
    finally:
        if close := getattr(items, "close", None):
            close()


def payload_chunks(items: Any) -> AsyncIterator[Chunk] | Iterator[Chunk]:
    """Wraps the items of a raw engine's generator as chunks for a stream. Closing the result closes the
    generator.
    """
    if hasattr(items, "__aiter__"):
        return _of_async(cast(AsyncIterator[Any], items))
    return _of_plain(cast(Iterator[Any], items))

# SPDX-License-Identifier: Apache-2.0
"""Items of answers to requests of data."""

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
        raise EngineFailedError(f"an item of the answer is neither bytes nor JSON: {error}") from error


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


def chunks(items: Any) -> AsyncIterator[Chunk] | Iterator[Chunk]:
    """What an engine of data yields, as chunks for a stream. Raises TypeError if it is no iterator."""
    if hasattr(items, "__aiter__"):
        return _of_async(cast(AsyncIterator[Any], items))
    if hasattr(items, "__iter__"):
        return _of_plain(cast(Iterator[Any], items))
    raise TypeError(f"generate() must be a generator, not return {type(items).__qualname__}")

# SPDX-License-Identifier: Apache-2.0
"""Engines that fail at some point; the prompt or the class says where."""

import asyncio
import sys
from typing import Any

from dynamo_llm.errors import ContextLengthError


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _fail(how: str) -> None:
    if how == "value":
        raise ValueError("a bad value: é")
    if how == "surrogate":
        raise ValueError("not UTF-8: \udc80")
    if how == "unprintable":
        raise Unprintable
    if how == "context":
        raise ContextLengthError("too long by 7 tokens")
    if how == "memory":
        raise MemoryError("no memory")
    if how == "exit":
        sys.exit("leaving")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "cancelled":
        raise asyncio.CancelledError("the engine's own")


class Async:
    """The prompt is "<how>" or "after <how>": before the first chunk or after it."""

    def __init__(self, config: Any) -> None: ...

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await asyncio.sleep(0)

    async def generate(self, request: Any) -> Any:
        when, _, how = request.body["prompt"].rpartition(" ")
        if when:
            yield {"text": "first"}
        _fail(how)
        yield {"text": "ok"}


class Threaded(Async):
    """The same in a thread."""

    def generate(self, request: Any) -> Any:
        when, _, how = request.body["prompt"].rpartition(" ")
        if when:
            yield {"text": "first"}
        _fail(how)
        yield {"text": "ok"}


class InInit:
    def __init__(self, config: Any) -> None:
        _fail(config.options.get("how", "value"))


class InStart(Async):
    def __init__(self, config: Any) -> None:
        self.how = config.options.get("how", "value")

    def start(self) -> None:
        _fail(self.how)


class InStop(Async):
    def stop(self) -> None:
        _fail("value")


class InGenerate(Async):
    """generate() itself raises: it is not a generator."""

    def generate(self, request: Any) -> Any:
        _fail(request.body["prompt"])
        return 42

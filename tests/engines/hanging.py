# SPDX-License-Identifier: Apache-2.0
"""Engines that hang in their own ways. All but :class:`OnTheLoop` yield a word first."""

import asyncio
import ctypes
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dynamo_llm.runtime.engine import Chunk


def hang() -> None:
    """Python code that never returns."""
    while True:
        time.sleep(1000)


def hang_in_c() -> None:
    """C code that never returns, without the GIL."""
    ctypes.CDLL(None).pause()


def hang_with_gil() -> None:
    """C code that never returns, with the GIL."""
    ctypes.PyDLL(None).pause()


class Base:
    def __init__(self, config: Any) -> None:
        self.hang = hang_in_c if config.options.get("in_c") else hang

    def start(self) -> None: ...

    def stop(self) -> None: ...


class InGenerator(Base):
    def generate(self, request: Any) -> Iterator[Chunk]:
        yield {"text": "word"}
        self.hang()


class InDefaultExecutor(Base):
    async def generate(self, request: Any) -> AsyncIterator[Chunk]:
        yield {"text": "word"}
        await asyncio.to_thread(self.hang)


class InOwnExecutor(Base):
    def start(self) -> None:
        self.pool = ThreadPoolExecutor(2)

    async def generate(self, request: Any) -> AsyncIterator[Chunk]:
        yield {"text": "word"}
        # With asyncio's names, as vLLM calls it.
        await asyncio.get_running_loop().run_in_executor(executor=self.pool, func=self.hang)


class InPoolOfAThread(Base):
    """A pool that the loop does not know."""

    def generate(self, request: Any) -> Iterator[Chunk]:
        yield {"text": "word"}
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.hang).result()


class InDaemon(Base):
    def generate(self, request: Any) -> Iterator[Chunk]:
        threading.Thread(target=self.hang, daemon=True).start()
        yield {"text": "word"}


class InThread(Base):
    """A thread that says that Python is to wait for it."""

    def generate(self, request: Any) -> Iterator[Chunk]:
        threading.Thread(target=self.hang, daemon=False).start()
        yield {"text": "word"}


class InStart(Base):
    def start(self) -> None:
        self.hang()


class InStop(InGenerator):
    def generate(self, request: Any) -> Iterator[Chunk]:
        yield {"text": "word"}

    def stop(self) -> None:
        self.hang()


class OnTheLoop(Base):
    async def generate(self, request: Any) -> AsyncIterator[Chunk]:
        self.hang()
        yield {"text": "never"}


class WithGil(InStop):
    """Its stop never gives the GIL back."""

    def stop(self) -> None:
        hang_with_gil()

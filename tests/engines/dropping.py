# SPDX-License-Identifier: Apache-2.0
"""An engine that drops objects of the library in reference cycles, and has the collector find them where it
runs."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from dynamo_llm import Runtime, Tokenizer
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest


class Cycle:
    """Holds an object, and itself."""

    def __init__(self, held: Any) -> None:
        self.held, self.me = held, self


class Base:
    def __init__(self, config: EngineConfig) -> None:
        self._python = config.python

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def _make(self, what: str) -> Any:
        """Blocks."""
        makers: dict[str, Callable[[], Any]] = {
            "runtime": lambda: Runtime(engine="dropping:SlowToStop", python=self._python),
            "native runtime": lambda: Runtime(engine="echo"),
            "request": self._asked,
            "tokenizer": Tokenizer,
            "detokenizer": lambda: Tokenizer().detokenizer(),
        }
        return makers[what]()

    def _asked(self) -> Any:
        runtime = Runtime(engine="stalling:Async", python=self._python)
        return runtime, runtime.complete("x")


class SlowToStop(Base):
    def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        yield {"text": "x"}

    def stop(self) -> None:
        time.sleep(9)


def _collect() -> float:
    """Seconds that it takes."""
    start = time.monotonic()
    gc.collect()
    return time.monotonic() - start


class Async(Base):
    """On the loop. The prompt says what; the answer is the time in seconds that the loop stood still."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        gc.disable()
        try:
            Cycle(await asyncio.to_thread(self._make, request.body["prompt"]))
            yield {"text": f"{_collect()}"}
        finally:
            gc.enable()


class Threaded(Base):
    """In a thread of an engine."""

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        gc.disable()
        try:
            Cycle(self._make(request.body["prompt"]))
            yield {"text": f"{_collect()}"}
        finally:
            gc.enable()

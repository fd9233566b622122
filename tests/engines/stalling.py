# SPDX-License-Identifier: Apache-2.0
"""Engines that wait: for ever, or until they are told."""

import asyncio
import threading
import time
from typing import Any


class Base:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Async(Base):
    """Stalls on the loop, after as many words as the prompt has; "go" answers at once."""

    async def generate(self, request: Any) -> Any:
        prompt = request.body["prompt"]
        for word in prompt.split():
            yield {"text": word}
        if prompt != "go":
            await asyncio.Event().wait()


class Threaded(Base):
    """Stalls in a thread; looks whether the caller has gone, as engines that work for long do."""

    max_threads = 2
    running = 0

    def generate(self, request: Any) -> Any:
        prompt = request.body["prompt"]
        Threaded.running += 1
        try:
            for word in prompt.split():
                yield {"text": word}
            while prompt != "go" and not request.is_cancelled():
                time.sleep(0.001)
        finally:
            Threaded.running -= 1

    def stop(self) -> None:
        assert Threaded.running == 0, "stopped while it answers"


class Deaf(Base):
    """Stalls in a thread and does not look, until another request says "go"."""

    gate = threading.Event()

    def generate(self, request: Any) -> Any:
        if request.body["prompt"] == "go":
            self.gate.set()
        else:
            self.gate.clear()
            yield {"text": "stalled"}
            self.gate.wait()


class Sleeping(Base):
    """Stalls in a thread for ever."""

    def generate(self, request: Any) -> Any:
        yield {"text": "stalled"}
        threading.Event().wait()


class Stubborn(Base):
    """Swallows the cancellation and goes on with its answer."""

    async def generate(self, request: Any) -> Any:
        yield {"text": "first"}
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield {"text": "second"}


class GatedStart(Base):
    """Its start blocks until a request of the engine Opener ran."""

    gate = threading.Event()

    def start(self) -> None:
        self.gate.wait()

    def generate(self, request: Any) -> Any:
        yield {"text": "open"}


class Opener(Base):
    async def generate(self, request: Any) -> Any:
        GatedStart.gate.set()
        yield {"text": "opened"}

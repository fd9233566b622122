# SPDX-License-Identifier: Apache-2.0
"""Engines that leave something to the end of the process."""

import atexit
import multiprocessing
import os
import threading
from typing import Any


class Base:
    def __init__(self, config: Any) -> None:
        self.options = config.options

    def start(self) -> None: ...

    def stop(self) -> None: ...


class ExitFunctions(Base):
    """Writes to a file descriptor when Python's exit functions run; leaves semaphores to them."""

    def start(self) -> None:
        fd = self.options["fd"]
        atexit.register(lambda: os.write(fd, b"exit function ran\n"))

    def stop(self) -> None:
        os.write(self.options["fd"], b"engine stopped\n")

    def generate(self, request: Any) -> Any:
        context = multiprocessing.get_context("spawn")
        self.locks = [context.Lock() for _ in range(3)]
        yield {"text": "locks"}


class Spinning(Base):
    """A thread that takes all the Python there is, in steps that keep the GIL for long."""

    def generate(self, request: Any) -> Any:
        def spin() -> None:
            while True:
                sum(range(3_000_000))

        threading.Thread(target=spin, daemon=True).start()
        yield {"text": "spinning"}


class Endless(Base):
    """Streams without an end, on the loop or in a thread."""

    async def generate(self, request: Any) -> Any:
        while True:
            yield {"text": "x"}


class EndlessThreaded(Base):
    def generate(self, request: Any) -> Any:
        while True:
            yield {"text": "x"}

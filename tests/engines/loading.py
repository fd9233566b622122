# SPDX-License-Identifier: Apache-2.0
"""Engines that report the progress of their start, which lasts the option ``seconds``."""

import asyncio
import time
from typing import Any

counts = dict.fromkeys(("starting", "cancelled", "started", "stopped"), 0)


class Asynchronous:
    """Its start is a coroutine, which is cancelled where it waits."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.seconds = config.options.get("seconds", 0)

    async def start(self) -> None:
        counts["starting"] += 1
        self.config.progress("download", bytes_done=1, bytes_total=4)
        self.config.progress("weights")
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            counts["cancelled"] += 1
            raise
        self.config.progress("warmup", fraction=0.5)
        counts["started"] += 1

    async def stop(self) -> None:
        counts["stopped"] += 1

    async def generate(self, request: Any) -> Any:
        yield {"text": "loaded"}


class Threaded(Asynchronous):
    """Its start is a function, which notices a cancel when it reports."""

    def start(self) -> None:  # type: ignore[override]
        counts["starting"] += 1
        self.config.progress("download", bytes_done=1, bytes_total=4)
        end = time.monotonic() + self.seconds
        try:
            self.config.progress("weights")
            while time.monotonic() < end:
                time.sleep(0.01)
                self.config.progress("weights")
        except Exception:
            counts["cancelled"] += 1
            raise
        self.config.progress("warmup", fraction=0.5)
        counts["started"] += 1


class Deaf(Asynchronous):
    """Its start is a function that reports nothing: it is stopped once it has started."""

    def start(self) -> None:  # type: ignore[override]
        counts["starting"] += 1
        time.sleep(self.seconds)
        counts["started"] += 1


class Wrong(Asynchronous):
    """Reports what is refused, as its option ``report`` says."""

    async def start(self) -> None:
        self.config.progress(**self.config.options["report"])

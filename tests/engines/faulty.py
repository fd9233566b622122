# SPDX-License-Identifier: Apache-2.0
"""Engines that harm the process that they run in; the prompt says how."""

import _thread
import asyncio
import threading
import time
from typing import Any

entered = threading.Event()
go_on = threading.Event()


class Base:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


def recurse(depth: int = 0) -> int:
    """Without an end."""
    return recurse(depth + 1) + 1


def take_all_memory() -> None:
    """Until there is none."""
    taken = []
    while True:
        taken.append(bytearray(16 << 20))


class Async(Base):
    """On the loop."""

    async def generate(self, request: Any) -> Any:
        how = request.body["prompt"]
        yield {"text": "first"}
        if how == "blocks the loop":
            entered.set()
            go_on.wait()  # with the loop's thread
        elif how == "recurses":
            recurse()
        elif how == "takes all memory":
            take_all_memory()
        elif how == "never yields":
            await asyncio.Event().wait()
        elif how == "stops the loop":
            asyncio.get_running_loop().stop()
        elif how == "closes the loop":
            asyncio.get_running_loop().close()
        elif how == "cancels all tasks":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)
        elif how == "leaves a thread":
            threading.Thread(target=time.sleep, args=(0.2,)).start()
        elif how == "goes on after its end":
            yield {"finish_reason": "stop"}
            yield {"text": "more"}


class Threaded(Base):
    """In a thread of the request's own."""

    def generate(self, request: Any) -> Any:
        how = request.body["prompt"]
        yield {"text": "first"}
        if how == "ends its thread":
            _thread.exit()
        elif how == "recurses":
            recurse()
        elif how == "takes all memory":
            take_all_memory()
        elif how == "leaves a thread":
            threading.Thread(target=time.sleep, args=(0.2,)).start()
        elif how == "goes on after its end":
            yield {"finish_reason": "stop"}
            yield {"text": "more"}


class Stalling(Base):
    """Says a word and waits for ever."""

    async def generate(self, request: Any) -> Any:
        yield {"text": "word"}
        await asyncio.Event().wait()


class Long(Base):
    """Says as many words as its prompt is a number."""

    async def generate(self, request: Any) -> Any:
        for number in range(int(request.body["prompt"])):
            if number % 100 == 0:
                await asyncio.sleep(0)
            yield {"text": "word "}

# SPDX-License-Identifier: Apache-2.0
"""Engines that harm the process that they run in; the prompt says how."""

import _thread
import asyncio
import threading
import time
import weakref
from typing import Any

from dynamo_llm.paths import demo_model_dir

entered = threading.Event()
go_on = threading.Event()


class Base:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Held:
    """What an engine works with."""


held: "weakref.WeakSet[Held]" = weakref.WeakSet()


def fail_with_something_held() -> None:
    something = Held()
    held.add(something)
    raise ValueError("while it held something")


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
        elif how == "fails":
            fail_with_something_held()
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
        elif how == "fails":
            fail_with_something_held()
        elif how == "leaves a thread":
            threading.Thread(target=time.sleep, args=(0.2,)).start()
        elif how == "goes on after its end":
            yield {"finish_reason": "stop"}
            yield {"text": "more"}


class Choices(Base):
    """Of token ids; each choice fails."""

    kind = "tokens"

    def describe(self) -> Any:
        return {"path": str(demo_model_dir()), "context_length": 1024}

    async def generate(self, request: Any) -> Any:
        await asyncio.sleep(0)
        fail_with_something_held()
        yield


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

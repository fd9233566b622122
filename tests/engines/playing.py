# SPDX-License-Identifier: Apache-2.0
"""Engines that play a script, as the native engine "scripted" does: the prompt, or what the user says.

A script is an array of chunks. Some keys have a meaning of their own: ``repeat``, how often the chunk comes;
``raise``, the name of an exception and its text; ``stall``, nothing more; ``finish``, the reason of the end.
With "n" every chunk comes for each choice, and "max_tokens" cuts the answer.
"""

import asyncio
import builtins
import json
import time
from collections.abc import Iterator
from typing import Any

from dynamo_llm import errors


def _script(body: dict[str, Any]) -> list[dict[str, Any]]:
    text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    script: list[dict[str, Any]] = json.loads(text)
    return script


def _fail(how: list[str]) -> None:
    name, text = how
    kind = getattr(errors, name, None) or getattr(builtins, name)
    raise kind(text)


class Player:
    """One answer: what comes next, and what was said."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.said = 0
        self.is_stalled = False

    def chunks(self) -> Iterator[dict[str, Any]]:
        reason = "stop"
        limit = self.body.get("max_tokens", self.body.get("max_completion_tokens"))
        choices = range(self.body.get("n") or 1)
        for entry in _script(self.body):
            if "raise" in entry:
                _fail(entry["raise"])
            if "stall" in entry:
                self.is_stalled = True
                return
            reason = entry.get("finish", reason)
            chunk = {key: entry[key] for key in ("text", "token_ids") if key in entry}
            if "bytes" in entry:
                chunk["text"] = bytes.fromhex(entry["bytes"])
            for _ in range(entry.get("repeat", 1) if chunk else 0):
                if self.said == limit:
                    break
                self.said += 1
                for index in choices:
                    yield {**chunk, "index": index}
            if self.said == limit:
                reason = "length"
                break
        for index in choices:
            yield {"finish_reason": reason, "index": index}
        yield {"usage": {"prompt_tokens": 7, "completion_tokens": self.said * len(choices)}}


class Base:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Async(Base):
    """On the loop."""

    async def generate(self, request: Any) -> Any:
        player = Player(request.body)
        for chunk in player.chunks():
            await asyncio.sleep(0)
            yield chunk
        if player.is_stalled:
            await asyncio.Event().wait()


class Threaded(Base):
    """In threads, eight at a time."""

    max_threads = 8

    def generate(self, request: Any) -> Any:
        player = Player(request.body)
        yield from player.chunks()
        while player.is_stalled and not request.is_cancelled():
            time.sleep(0.001)

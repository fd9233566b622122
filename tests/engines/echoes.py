# SPDX-License-Identifier: Apache-2.0
"""Engines that answer with their prompt, word by word."""

import asyncio
from typing import Any


def _words(request: Any, repeat: int) -> list[str]:
    words = request.body["prompt"].split()
    return [word + " " for word in words] * repeat


class Base:
    def __init__(self, config: Any) -> None:
        self.repeat = config.options.get("repeat", 1)

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Async(Base):
    """On the loop; every eighth word lets others run."""

    async def generate(self, request: Any) -> Any:
        words = _words(request, self.repeat)
        for number, word in enumerate(words):
            if number % 8 == 0:
                await asyncio.sleep(0)
            yield {"text": word, "token_ids": [number]}
        yield {"finish_reason": "length", "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}}


class Threaded(Base):
    """In a thread of the request's own."""

    def generate(self, request: Any) -> Any:
        words = _words(request, self.repeat)
        for number, word in enumerate(words):
            yield {"text": word, "token_ids": [number]}
        yield {"usage": {"prompt_tokens": 3, "completion_tokens": len(words), "cached_tokens": 1}}


class Plain(Base):
    """No generator, but an iterable: a list."""

    def generate(self, request: Any) -> Any:
        return [{"text": word} for word in _words(request, self.repeat)]

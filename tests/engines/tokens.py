# SPDX-License-Identifier: Apache-2.0
"""Engines of token ids that say what their options tell them, on the demo model's tokenizer."""

import asyncio
import json
import threading
from typing import Any, ClassVar

from dynamo_llm.errors import NotSupportedError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import ExpandedPrompt, TokenRequest
from dynamo_llm.runtime.media.image import Image

everything = ["logprobs", "seed", "json_schema", "regex", "grammar", "priority"]


class Base:
    """Options: "say" ids (default: the prompt's), "step" tokens in a chunk, "reason" at the end, "info" for
    describe(), "cached" tokens."""

    kind = "tokens"
    #: What the engines of this process were asked, and how often an answer was closed.
    requests: ClassVar[list[TokenRequest]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, config: Any) -> None:
        self.options = config.options

    def start(self) -> None: ...

    def stop(self) -> None:
        Base.closed.append("engine")

    def describe(self) -> Any:
        default = {"path": str(demo_model_dir()), "context_length": 1024, "capabilities": everything}
        return {**default, **self.options.get("info", {})}

    def chunks(self, request: Any) -> Any:
        Base.requests.append(request)
        ids = self.options.get("say") or request.token_ids
        step = self.options.get("step", 1)
        for at in range(0, len(ids), step):
            part = ids[at : at + step]
            chunk: dict[str, Any] = {"token_ids": part}
            if request.logprobs is not None:
                top = [(i, -float(i)) for i in range(1, request.logprobs + 1)]
                chunk["logprobs"] = [{"logprob": -0.5, "top": top} for _ in part]
            if at + step >= len(ids):
                if "reason" in self.options:
                    chunk["finish_reason"] = self.options["reason"]
                if "cached" in self.options:
                    chunk["usage"] = {"cached_tokens": self.options["cached"]}
            yield chunk


class Embedding(Base):
    """Makes vectors of the number of tokens and the first id; "also" is a list of other capabilities."""

    def describe(self) -> Any:
        return {**super().describe(), "capabilities": ["embedding", *self.options.get("also", [])]}

    async def embed(self, request: Any) -> Any:
        if request.dimensions is not None:
            raise NotSupportedError('the engine "Embedding" does not support "dimensions" of the request')
        return [[len(ids), ids[0] + 0.5] for ids in request.inputs if ids != [7]]

    async def generate(self, request: Any) -> Any:
        for chunk in self.chunks(request):
            yield chunk


class Async(Base):
    async def generate(self, request: Any) -> Any:
        try:
            for chunk in self.chunks(request):
                await asyncio.sleep(0)
                yield chunk
        finally:
            Base.closed.append(request.id)


class Seeing(Async):
    """Takes images: each becomes as many tokens 5 as its file has bytes, divided by 100."""

    def describe(self) -> Any:
        return {**super().describe(), "capabilities": [*everything, "images"]}

    async def expand(self, token_ids: list[int], images: list[Image]) -> ExpandedPrompt:
        tokens = [5] * sum(len(image.data) // 100 for image in images)
        return ExpandedPrompt([*token_ids, *tokens], (token_ids, images))


class Threaded(Base):
    def generate(self, request: Any) -> Any:
        try:
            yield from self.chunks(request)
        finally:
            Base.closed.append(request.id)


class Asked(Base):
    """Says what it was asked, as JSON, in tokens of the demo model."""

    async def generate(self, request: Any) -> Any:
        from tokenizers import Tokenizer

        fields = {
            "id": request.id,
            "token_ids": request.token_ids,
            "max_tokens": request.max_tokens,
            "min_tokens": request.min_tokens,
            "sampling": {k: v for k, v in vars(request.sampling).items() if v is not None},
            "stop_token_ids": request.stop_token_ids,
            "ignore_eos": request.ignore_eos,
            "guided": request.guided,
            "adapter": request.adapter,
            "priority": request.priority,
            "cache_salt": request.cache_salt,
            "trace": request.trace,
        }
        tokenizer = Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json"))
        yield {"token_ids": tokenizer.encode(json.dumps(fields)).ids, "finish_reason": "eos"}


class Meeting(Base):
    """Each choice waits for all others: they must run at the same time. Then the last fails, if told so."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.met = asyncio.Event()
        self.count = 0

    async def generate(self, request: Any) -> Any:
        self.count += 1
        if self.count == self.options["choices"]:
            self.met.set()
        await asyncio.wait_for(self.met.wait(), 60)
        number = int(request.id.rpartition("-")[2])
        if self.options.get("fails") == number:
            raise ValueError(f"choice {number} fails")
        try:
            for _ in range(number + 1):
                yield {"token_ids": [410]}
            if "fails" in self.options:
                await asyncio.Event().wait()
        finally:
            Base.closed.append(request.id)


class MeetingThreaded(Base):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.barrier = threading.Barrier(self.options["choices"], timeout=60)

    def generate(self, request: Any) -> Any:
        self.barrier.wait()
        number = int(request.id.rpartition("-")[2])
        if self.options.get("fails") == number:
            raise ValueError(f"choice {number} fails")
        for _ in range(number + 1):
            yield {"token_ids": [410]}
        while "fails" in self.options:
            yield {"token_ids": [410]}

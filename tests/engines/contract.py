# SPDX-License-Identifier: Apache-2.0
"""Classes of Dynamo's LLMEngine contract, which remember what was done to them."""

import argparse
import asyncio
import logging
import signal
from typing import Any, ClassVar

from dynamo.common.backend import EngineConfig, LLMEngine, LlmRegistration, WorkerConfig
from dynamo.llm import exceptions


class Recording(LLMEngine):
    """Answers as the first token id of the prompt says."""

    engines: ClassVar[list["Recording"]] = []

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.requests: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.context: Any = None
        Recording.engines.append(self)

    @classmethod
    async def from_args(cls, argv: list[str] | None = None) -> tuple[LLMEngine, WorkerConfig]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--model", required=True)
        parser.add_argument("--fail", default="")
        return cls(parser.parse_args(argv)), WorkerConfig(namespace="test")

    async def start(self, worker_id: int) -> EngineConfig:
        assert worker_id >= 0
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        if self.given.fail:
            raise getattr(exceptions, self.given.fail)("it has no memory")
        return EngineConfig(
            model=self.given.model, served_model_name="served", llm=LlmRegistration(context_length=128)
        )

    async def generate(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.context = context
        try:
            async for chunk in self.answers[request["token_ids"][0]](self, context):
                yield chunk
        finally:
            self.events.append("closed")

    async def abort(self, context: Any) -> None:
        assert context is self.context and context.is_stopped()
        self.events.append("aborted")

    async def cleanup(self) -> None:
        self.events.append("cleaned up")

    async def _good(self, context: Any) -> Any:
        yield {"token_ids": [], "index": 0}
        yield {"token_ids": [7, 8], "index": 0}
        details = {"prompt_tokens_details": {"cached_tokens": 2}}
        yield {"token_ids": [9], "index": 0, "finish_reason": "eos", "completion_usage": details}

    async def _stalls(self, context: Any) -> Any:
        yield {"token_ids": [7], "index": 0}
        assert await context.async_killed_or_stopped()

    async def _sudden(self, context: Any) -> Any:
        yield {"token_ids": [7], "index": 0}

    async def _lopsided(self, context: Any) -> Any:
        yield {"token_ids": [7, 8], "index": 0, "log_probs": [-1.0]}

    @staticmethod
    def _raises(error: Exception, late: bool = False) -> Any:
        async def answer(self: Any, context: Any) -> Any:
            if late:
                yield {"token_ids": [7], "index": 0}
            raise error

        return answer

    @staticmethod
    def _finishes(reason: Any) -> Any:
        async def answer(self: Any, context: Any) -> Any:
            yield {"token_ids": [], "index": 0, "finish_reason": reason}

        return answer

    answers: ClassVar[dict[int, Any]] = {1: _good, 2: _stalls, 3: _sudden, 4: _lopsided}


def answer(error: Exception | None = None, reason: Any = None, late: bool = False) -> int:
    """A token id that is answered with an error or a finish reason."""
    number = len(Recording.answers) + 1
    made = Recording._finishes(reason) if error is None else Recording._raises(error, late)
    Recording.answers[number] = made
    return number


class Deaf(Recording):
    """Its abort fails."""

    async def abort(self, context: Any) -> None:
        self.events.append("aborted")
        raise RuntimeError("cannot abort")


class Writing(Recording):
    """Says something on stderr while it is made."""

    @classmethod
    async def from_args(cls, argv: list[str] | None = None) -> Any:
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": "a warning of the engine"}))
        return await super().from_args(argv)


class NotOne:
    """Has nothing of the contract but a method."""

    def generate(self) -> None: ...

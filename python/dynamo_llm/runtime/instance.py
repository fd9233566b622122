# SPDX-License-Identifier: Apache-2.0
"""A started engine and the requests in it."""

import asyncio
import functools
import inspect
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dynamo_llm import _core
from dynamo_llm.errors import NotSupportedError
from dynamo_llm.runtime import registry, trace
from dynamo_llm.runtime.engine import EngineConfig, EngineRequest, ModelInfo
from dynamo_llm.runtime.pusher import Answer
from dynamo_llm.runtime.run import Opened, Run
from dynamo_llm.runtime.sink import Sink

if TYPE_CHECKING:
    from dynamo_llm.runtime.pipeline.pipeline import Pipeline

_CLOSED = _core.STATUSES["DYNAMO_ERROR_CLOSED"]

#: Requests that an engine of plain generators answers at once; more wait. An attribute
#: ``max_threads`` of the engine overrides it.
_default_threads = 32

#: Tokens that a stream must have room for, so that chunks are pushed together.
_gathering = 1024

#: Attribute of a model that comes and goes, with its pipelines by instance.
_pipelines = "_dynamo_llm_pipelines"


class Instance:
    """One engine of one runtime. Its methods run on the loop.

    :param config: the runtime's configuration.
    :param report: gets what the engine says of its models when that changes.
    """

    def __init__(
        self, config: dict[str, Any], report: Callable[[ModelInfo], None] = lambda info: None
    ) -> None:
        self._report = report
        self._config = EngineConfig(
            engine=config.get("engine", "mistralrs"),
            model=config.get("model"),
            options=config.get("options", {}),
            python=config.get("python", {}),
            name=config.get("name"),
            cluster=config.get("cluster", {}),
            changed=self._changed,
        )
        self.info: ModelInfo = {}
        """What the engine said of its model."""
        self._engine: Any = None
        self._kind = "text"
        self._pipeline: Pipeline | None = None
        self._has_text = config.get("pipeline", "auto") != "off"
        self._threads: ThreadPoolExecutor | None = None
        self._runs: dict[int, Run | Sink] = {}
        # A reader that got many chunks at once would find a small stream full.
        self._may_gather = config.get("stream", {}).get("capacity", _gathering) >= _gathering

    async def start(self) -> None:
        """Load the engine; raises what it raises."""
        loop = asyncio.get_running_loop()
        kind = await loop.run_in_executor(None, registry.find, self._config.engine)
        engine = self._engine = kind(self._config)
        self._threads = ThreadPoolExecutor(
            max_workers=getattr(engine, "max_threads", _default_threads),
            thread_name_prefix="dynamo-engine",
        )
        await self._call(engine.start)
        try:
            if hasattr(engine, "describe"):
                self.info = engine.describe()
            self._kind = getattr(engine, "kind", "text")
            if self._kind == "tokens":
                self._pipeline = await loop.run_in_executor(None, self._open_pipeline, engine, self.info)
                self.info = self._pipeline.info
        except BaseException:
            await self._call(engine.stop)
            raise

    def _open_pipeline(self, engine: Any, info: ModelInfo) -> "Pipeline":
        """Blocks: it loads libraries and the tokenizer."""
        # Only engines of token ids need its libraries.
        from dynamo_llm.runtime.pipeline.pipeline import Pipeline

        return Pipeline(engine, info, self._has_text)

    async def _pipeline_of(self, model: Any) -> "Pipeline":
        """The pipeline around one of an engine's models, which is made for its first request."""
        # With the model, and not here: a pipeline refers to its model, and both would stay for ever.
        pipelines = vars(model).setdefault(_pipelines, WeakKeyDictionary())
        opening = pipelines.get(self)
        if opening is None or (opening.done() and opening.exception() is not None):
            loop = asyncio.get_running_loop()

            async def open_it() -> "Pipeline":
                return await loop.run_in_executor(None, self._open_pipeline, model, model.describe())

            opening = pipelines[self] = loop.create_task(open_it())
        return await asyncio.shield(opening)

    def _changed(self) -> None:
        if self._engine is not None:
            self.info = self._engine.describe()
            self._report(self.info)

    async def stop(self, may_use_threads: bool = True) -> None:
        """Free the engine. Requests are in flight only if Python shuts down under them.

        :param may_use_threads: False while Python shuts down: from 3.12 on it starts no thread then.
        """
        if self._runs:
            runs = list(self._runs.items())
            for stream, run in runs:
                # A thread that is in there notices, for its stream is gone when it pushes.
                _core.stream_fail(stream, _CLOSED, "Python in this process is shutting down", "")
                run.cancel()
            await asyncio.gather(*(run.ended() for _, run in runs))
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await self._call(engine.stop, may_use_threads)
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    @staticmethod
    async def _call(function: Any, may_use_threads: bool = True) -> None:
        if inspect.iscoroutinefunction(function) or not may_use_threads:
            result = function()
        else:
            result = await asyncio.get_running_loop().run_in_executor(None, function)
        if inspect.isawaitable(result):
            await result

    def generate(self, stream: int, request_id: str, text: str | bytes, is_data: bool = False) -> None:
        """Answer a request in a task of its own.

        :param text: OpenAI's body as JSON; or, if ``is_data``, data: bytes, or JSON.
        """
        assert self._threads is not None
        if self._kind == "steps" and not is_data:
            self._start_sink(stream, request_id, text)
            return
        run = Run(stream, request_id, text, self._threads, self._runs)
        if is_data != (self._kind == "data"):
            opening = self._refuse()
        elif is_data:
            opening = run.open_data(self._engine.generate)
        else:
            opening = run.open(self._ask, self._trace)
        run.start(opening, self._may_gather)

    def _start_sink(self, stream: int, request_id: str, text: str | bytes) -> None:
        body = json.loads(text)
        context = copy_context()
        span = self._trace(body, request_id)
        if span is not None:
            context.run(span.enter)
        sink = Sink(stream, request_id, self._engine, span, functools.partial(self._runs.pop, stream, None))
        self._runs[stream] = sink
        sink.start(body, context)

    def cancel(self, stream: int) -> None:
        """The caller has gone."""
        if run := self._runs.get(stream):
            run.cancel()

    def space(self, stream: int) -> None:
        """A stream that was full has room again."""
        if run := self._runs.get(stream):
            run.space()

    async def _refuse(self) -> Opened:
        takes, other = ("requests of data", "OpenAI bodies")[:: 1 if self._kind == "data" else -1]
        raise NotSupportedError(f'the engine "{self._config.engine}" takes {takes}, and no {other}')

    def _trace(self, body: dict[str, Any], request_id: str) -> trace.Span | None:
        return trace.start(body, request_id, self._config.engine, self.info)

    async def _ask(self, request: EngineRequest) -> Sequence[Answer]:
        """The choices of the answer to a request; those of a text engine come together."""
        if self._pipeline is not None:
            return await self._pipeline.answer(request)
        engine = self._engine
        if getattr(engine, "kind", "text") == "models":
            engine = await engine.find(request)
            if getattr(engine, "kind", "text") == "tokens":
                return await (await self._pipeline_of(engine)).answer(request)
        answer = engine.generate(request)
        if hasattr(answer, "__aiter__") or hasattr(answer, "__iter__"):
            return [answer]
        raise TypeError(
            f"generate() of {type(engine).__qualname__} must be a generator, "
            f"not return {type(answer).__qualname__}"
        )

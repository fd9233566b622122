# SPDX-License-Identifier: Apache-2.0
"""A started engine and the requests in it."""

import asyncio
import inspect
import json
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from dynamo_llm import _core
from dynamo_llm.errors import DynamoError, NotSupportedError
from dynamo_llm.runtime import data, registry, trace
from dynamo_llm.runtime.engine import DataRequest, EngineConfig, EngineRequest, ModelInfo, Usage
from dynamo_llm.runtime.pusher import Answer, Pusher

if TYPE_CHECKING:
    from dynamo_llm.runtime.pipeline.pipeline import Pipeline

_ENGINE_FAILED = _core.STATUSES["DYNAMO_ERROR_ENGINE_FAILED"]
_CLOSED = _core.STATUSES["DYNAMO_ERROR_CLOSED"]
_OUT_OF_MEMORY = _core.STATUSES["DYNAMO_ERROR_OUT_OF_MEMORY"]

#: Requests that an engine of plain generators answers at once; more wait. An attribute
#: ``max_threads`` of the engine overrides it.
_default_threads = 32

#: Attribute of a model that comes and goes, with its pipelines by instance.
_pipelines = "_dynamo_llm_pipelines"


def as_text(text: str) -> str:
    """A text without lone surrogates, which are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def describe(error: BaseException) -> tuple[int, str, str]:
    """Status, message and details (JSON) that a caller gets for an exception. Does not raise."""
    kind = type(error)
    try:
        text = str(error)
    except Exception:
        text = "(an exception that cannot say what it is)"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, DynamoError):
        status = error.status
    else:
        status = _OUT_OF_MEMORY if isinstance(error, MemoryError) else _ENGINE_FAILED
        text = f"{name}: {text}"
    trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    details: dict[str, Any] = {"python": {"type": name, "traceback": as_text(trace)}}
    if isinstance(error, DynamoError):  # what an engine knows better than its status
        details |= {key: error.details[key] for key in ("retriable", "fatal") if key in error.details}
    return status, as_text(text), json.dumps(details)


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
        self._takes_data = False
        self._pipeline: Pipeline | None = None
        self._has_text = config.get("pipeline", "auto") != "off"
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._pushers: dict[int, Pusher] = {}

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
            self._takes_data = getattr(engine, "kind", "text") == "data"
            if getattr(engine, "kind", "text") == "tokens":
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
        if self._tasks:
            for stream, task in self._tasks.items():
                # A thread that is in there notices, for its stream is gone when it pushes.
                _core.stream_fail(stream, _CLOSED, "Python in this process is shutting down", "")
                task.cancel()
            await asyncio.wait(self._tasks.values())
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
        task = asyncio.get_running_loop().create_task(self._run(stream, request_id, text, is_data))
        self._tasks[stream] = task

        def done(task: asyncio.Task[None]) -> None:
            del self._tasks[stream]
            if task.cancelled():  # before it ran at all
                _core.stream_fail(stream, *describe(asyncio.CancelledError()))

        task.add_done_callback(done)

    def cancel(self, stream: int) -> None:
        """The caller has gone."""
        if task := self._tasks.get(stream):
            task.cancel()

    def space(self, stream: int) -> None:
        """A stream that was full has room again."""
        if pusher := self._pushers.get(stream):
            pusher.space()

    async def _run(self, stream: int, request_id: str, text: str | bytes, is_data: bool) -> None:
        try:
            if is_data != self._takes_data:
                takes, other = ("requests of data", "OpenAI bodies")[:: 1 if self._takes_data else -1]
                raise NotSupportedError(f'the engine "{self._config.engine}" takes {takes}, and no {other}')
            usage = None
            if is_data:
                await self._answer_data(stream, request_id, text)
            else:
                usage = await self._answer(stream, request_id, text)
            _core.stream_finish(stream, "", cast("dict[str, Any] | None", usage))
            return
        except BaseException as error:  # SystemExit, too: the host's process is not the engine's
            # After a cancel nobody hears of it. An engine may also raise CancelledError by itself.
            failure = describe(error)
        # Here the exception has gone, and with it all that the engine held: the caller may need the memory.
        _core.stream_fail(stream, *failure)

    async def _answer_data(self, stream: int, request_id: str, given: str | bytes) -> None:
        assert self._threads is not None
        pusher = Pusher(stream, self._threads)
        self._pushers[stream] = pusher
        try:
            content = given if isinstance(given, bytes) else json.loads(given)
            request = DataRequest(request_id, content, pusher.is_cancelled, pusher.remaining)
            await pusher.push([data.chunks(self._engine.generate(request))])
        finally:
            del self._pushers[stream]

    async def _answer(self, stream: int, request_id: str, text: str | bytes) -> Usage | None:
        body = json.loads(text)
        assert self._threads is not None
        with trace.span(body, request_id, self._config.engine, self.info) as span:
            pusher = Pusher(stream, self._threads, span)
            self._pushers[stream] = pusher
            try:
                usage = await pusher.push(
                    await self._ask(EngineRequest(request_id, body, pusher.is_cancelled, pusher.remaining))
                )
            finally:
                del self._pushers[stream]
            if span is not None:
                span.finish(usage)
        return usage

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

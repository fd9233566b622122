# SPDX-License-Identifier: Apache-2.0
"""An engine of a runtime, with its running requests."""

import asyncio
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dynamo_llm import _core
from dynamo_llm.errors import CancelledError, NotSupportedError
from dynamo_llm.runtime import registry, scoring
from dynamo_llm.runtime.control_calls import ControlCalls
from dynamo_llm.runtime.engine import EngineConfig, EngineRequest, FrontendTarget, ModelInfo, TemplateSettings
from dynamo_llm.runtime.hub import hub_name, lookup
from dynamo_llm.runtime.isolation import frames
from dynamo_llm.runtime.isolation.relay import Relay, RelayedRequest
from dynamo_llm.runtime.media.media_settings import MediaSettings
from dynamo_llm.runtime.model_parsers import ModelParsers
from dynamo_llm.runtime.parser_names import ParserNames
from dynamo_llm.runtime.pusher import Answer, require_generator
from dynamo_llm.runtime.request_task import Opened, RequestTask
from dynamo_llm.runtime.sink import Sink
from dynamo_llm.runtime.span import Span, start_span
from dynamo_llm.runtime.threads import DaemonThreads, in_thread, in_thread_to_its_end

if TYPE_CHECKING:
    from dynamo_llm.runtime.pipeline.answer_parser import AnswerParsers
    from dynamo_llm.runtime.pipeline.pipeline import Pipeline

_CLOSED = _core.STATUSES["DYNAMO_ERROR_CLOSED"]

#: Requests that an engine with plain generators answers at once; further ones are queued. The engine's
#: attribute ``max_threads`` overrides it.
_default_threads = 32

#: Capacity in tokens from which on a stream may get several chunks in one push.
_gathering = 1024

#: Bytes of the name of a phase, as the library accepts it.
_longest_phase = 256

#: Attribute of a model of a :class:`ModelsEngine` that has its pipelines by instance.
_pipelines = "_dynamo_llm_pipelines"


class Instance:
    """One engine of one runtime. Its methods run on the event loop.

    :param report: called with the engine's description when it changes.
    :param report_metrics: called with the metrics of an isolated engine when they change.
    :param report_progress: called with phase, bytes done, bytes in total (0 if unknown), and fraction (-1 if
        unknown) while the engine starts; returns whether it should go on.
    :param set_frontend: see :attr:`EngineConfig.set_frontend`.
    """

    def __init__(
        self,
        config: dict[str, Any],
        report: Callable[[ModelInfo], None] = lambda info: None,
        report_metrics: Callable[[str], None] = lambda lines: None,
        report_progress: Callable[[str, int, int, float], bool] = lambda phase, done, total, fraction: True,
        set_frontend: Callable[[FrontendTarget | None], None] | None = None,
    ) -> None:
        self._has_text = config.get("pipeline", "auto") != "off"
        self._parser_names = ParserNames.of(config)
        self._report = report
        self._report_progress = report_progress
        self._report_metrics = report_metrics
        self._config = EngineConfig(
            engine=config.get("engine", "mistralrs"),
            model=config.get("model"),
            options=config.get("options", {}),
            python=config.get("python", {}),
            name=config.get("name"),
            cluster=config.get("cluster", {}),
            device=config.get("device", "auto"),
            templates=TemplateSettings.of(config),
            media=MediaSettings.of(config),
            changed=self._changed,
            progress=self._progress,
            set_frontend=set_frontend if self._leaves_text_to_others(config) else None,
        )
        self._is_offline: bool = config.get("offline", False)
        self.info: ModelInfo = {}
        """The engine's description of its model."""
        self._engine: Any = None
        self._kind = "text"
        self._pipeline: Pipeline | None = None
        self._calls: ControlCalls | None = None  # None for an isolated engine, whose child has them
        self._parsers = ModelParsers(self._parser_names)
        self._threads: DaemonThreads | None = None
        self._runs: dict[int, RequestTask | Sink | Relay] = {}
        # Several chunks at once would overflow a small stream.
        self._may_gather = config.get("stream", {}).get("capacity", _gathering) >= _gathering

    def _leaves_text_to_others(self, config: dict[str, Any]) -> bool:
        """Whether the configuration asks for nothing that only the library's own pipeline does."""
        return self._has_text and not self._parser_names.are_given and "templates" not in config

    async def start(self) -> None:
        """Loads the engine; raises what the engine raises."""
        try:
            await self._start()
        except BaseException:
            await self._parsers.close()
            raise

    async def _start(self) -> None:
        kind = await in_thread(registry.find, self._config.engine)
        engine = self._engine = kind(await in_thread(self._with_path, kind))
        self._kind = getattr(engine, "kind", "text")
        if self._kind != "relay":
            self._parser_names.check_engine(self._config.engine, self._kind, self._has_text)
        if self._kind == "tokens":
            await self._parsers.open_configured()
        threads = getattr(engine, "max_threads", _default_threads)
        self._threads = DaemonThreads(threads, "dynamo-engine")
        if inspect.iscoroutinefunction(engine.start):
            await engine.start()
        else:
            started = await in_thread_to_its_end(engine.start, functools.partial(self._call, engine.stop))
            if inspect.isawaitable(started):
                await started
        try:
            if hasattr(engine, "describe"):
                self.info = engine.describe()
            if self._kind == "relay":
                self._engine.report_metrics = self._report_metrics
            if self._kind == "tokens":
                self._progress("tokenizer")
                parsers = (
                    await self._parsers.of(self._config.engine, self.info, engine) if self._has_text else None
                )
                self._pipeline = await in_thread(self._open_pipeline, engine, self.info, parsers)
                self.info = self._pipeline.info
            if self._kind == "models":  # only now: the engine's settings for sockets apply to the process
                await self._parsers.open_configured()
            if self._kind != "relay":
                self._calls = ControlCalls(engine, self._config.engine)
                self._add_calls()
        except BaseException:
            await self._call(engine.stop)
            raise

    def _with_path(self, engine: type) -> EngineConfig:
        """Returns the configuration for an engine, with a path in place of a name of the Hugging Face Hub.
        Blocks while the model is downloaded.
        """
        config = self._config
        formats = lookup.formats_of(engine, config.options)
        if config.model is None or not formats or not hub_name.is_hub_name(config.model):
            return config

        def report(phase: str, done: int, total: int) -> None:
            self._progress(phase, bytes_done=done, bytes_total=total)

        path = lookup.find(config.model, formats, offline=self._is_offline, progress=report)
        return dataclasses.replace(config, model=str(path))

    def _open_pipeline(self, engine: Any, info: ModelInfo, parsers: "AnswerParsers | None") -> "Pipeline":
        """Blocks while libraries and the tokenizer are loaded."""
        # Not at the top: only token-level engines need these libraries.
        from dynamo_llm.runtime.engines.native import NativeTokens
        from dynamo_llm.runtime.pipeline.pipeline import Pipeline

        name = engine.name if isinstance(engine, NativeTokens) else self._config.engine
        return Pipeline(
            engine, info, self._has_text, name, self._config.templates, parsers, self._config.media
        )

    async def _pipeline_of(self, model: Any) -> "Pipeline":
        """Returns the pipeline around a model of a :class:`ModelsEngine`; its first request creates it."""
        # Stored with the model, not here: a pipeline refers to its model, so neither would ever be freed.
        pipelines = vars(model).setdefault(_pipelines, WeakKeyDictionary())
        opening = pipelines.get(self)
        if opening is None or (opening.done() and opening.exception() is not None):
            loop = asyncio.get_running_loop()

            async def open_it() -> "Pipeline":
                info = model.describe()
                name = info.get("path") or self._config.engine
                parsers = await self._parsers.of(name, info, model) if self._has_text else None
                return await in_thread(self._open_pipeline, model, info, parsers)

            opening = pipelines[self] = loop.create_task(open_it())
        return await asyncio.shield(opening)

    def _progress(
        self, phase: str, *, bytes_done: int = 0, bytes_total: int = 0, fraction: float | None = None
    ) -> None:
        if not 0 < len(phase.encode()) <= _longest_phase:
            raise ValueError(f"phase must be a text of 1 to {_longest_phase} bytes, not {phase!r}")
        for name, value in ("bytes_done", bytes_done), ("bytes_total", bytes_total):
            if not 0 <= value < 1 << 64:
                raise ValueError(f"{name} must be 0 or greater, and fit into 64 bits, not {value}")
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, or None, not {fraction}")
        known = -1.0 if fraction is None else float(fraction)
        if not self._report_progress(phase, bytes_done, bytes_total, known):
            raise CancelledError("the creation of the runtime was cancelled")

    def _changed(self) -> None:
        if self._engine is not None:
            self.info = self._engine.describe()
            if self._pipeline is not None:
                self._pipeline.describe_again(self.info)
                self.info = self._pipeline.info
            self._add_calls()
            self._report(self.info)

    def _add_calls(self) -> None:
        if self._calls is None:
            return
        info = self.info.copy()
        info.pop("calls", None)
        if self._calls.names:
            info["calls"] = self._calls.names
        self.info = info

    @property
    def kind(self) -> type:
        """The engine's class."""
        return type(self._engine)

    def end_requests(self, is_exiting: bool) -> None:
        """Ends all requests for their callers: Python is shutting down. Any thread.

        :param is_exiting: whether the process exits without finalizing Python.
        """
        detail = '{"exiting": true}' if is_exiting else ""
        for stream in list(self._runs):
            # A thread that still works on the request notices when it pushes: the stream has ended.
            _core.stream_fail(stream, _CLOSED, "Python in this process is shutting down", detail)

    async def stop(self, may_use_threads: bool = True) -> None:
        """Stops the engine. Requests are in flight only if Python is shutting down.

        :param may_use_threads: False during finalization of Python, when no thread can be started (since
            Python 3.12).
        """
        if self._runs:
            self.end_requests(may_use_threads)
            runs = list(self._runs.values())
            for run in runs:
                run.cancel()
            await asyncio.gather(*(run.ended() for run in runs))
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await self._call(engine.stop, may_use_threads)
        await self._parsers.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    @staticmethod
    async def _call(function: Any, may_use_threads: bool = True) -> None:
        if inspect.iscoroutinefunction(function) or not may_use_threads:
            result = function()
        else:
            result = await in_thread(function)
        if inspect.isawaitable(result):
            await result

    def generate(self, stream: int, request_id: str, text: str | bytes, is_data: bool = False) -> None:
        """Starts to answer a request.

        :param text: the OpenAI body as JSON; of a raw request the payload, bytes or JSON.
        :param is_data: whether it is a raw request.
        """
        assert self._threads is not None
        if self._kind == "steps" and not is_data:
            self._start_sink(stream, request_id, text)
            return
        if self._kind == "relay":
            self._start_relay(stream, request_id, text, is_data)
            return
        run = RequestTask(stream, request_id, text, self._threads, self._runs, self.kind)
        if is_data != (self._kind == "data"):
            opening = self._refuse()
        elif is_data:
            opening = run.open_data(self._engine.generate)
        else:
            opening = run.open(self._ask, self._trace)
        run.start(opening, self._may_gather)

    def call(self, stream: int, call_id: str, command: str) -> None:
        """Starts a control call.

        :param command: ``{"name": name, "arguments": {...}}``, with a name that the description lists.
        """
        if self._calls is None:
            self._relay(
                RelayedRequest(stream, call_id, command.encode(), frames.CALL, None, self._on_end(stream))
            )
            return
        assert self._threads is not None
        run = RequestTask(stream, call_id, command, self._threads, self._runs, self.kind)
        run.start(run.open_call(functools.partial(self._run_call, self._calls)), may_gather=False)

    async def _run_call(self, calls: ControlCalls, command: str) -> str:
        result = await calls.run(command)
        if hasattr(self._engine, "describe"):
            self._changed()  # it may have loaded an adapter
        return result

    def execute(self, calls: list[Any]) -> None:
        """Executes calls of a router, as ``_core.router_take()`` returns them."""
        self._engine.execute(calls)

    def _start_sink(self, stream: int, request_id: str, text: str | bytes) -> None:
        body = json.loads(text)
        kind = scoring.kind_of(body)
        if kind is not None and kind not in self.info.get("capabilities", ()):
            assert self._threads is not None
            run = RequestTask(stream, request_id, text, self._threads, self._runs, self.kind)
            run.start(self._refuse_kind(kind), self._may_gather)
            return
        context = copy_context()
        span = self._trace(body, request_id)
        if span is not None:
            context.run(span.enter)
        sink = Sink(stream, request_id, self._engine, span, functools.partial(self._runs.pop, stream, None))
        self._runs[stream] = sink
        sink.start(body, context)

    def _start_relay(self, stream: int, request_id: str, text: str | bytes, is_data: bool) -> None:
        span = None
        if not is_data and '"traceparent"' in str(text):
            span = self._trace(json.loads(text), request_id)
        kind = frames.OPENAI if not is_data else frames.JSON if isinstance(text, str) else frames.BYTES
        content = text.encode() if isinstance(text, str) else text
        self._relay(RelayedRequest(stream, request_id, content, kind, span, self._on_end(stream)))

    def _on_end(self, stream: int) -> Callable[[], Any]:
        return functools.partial(self._runs.pop, stream, None)

    def _relay(self, request: RelayedRequest) -> None:
        relay = self._runs[request.stream] = self._engine.relay(request)
        if relay.has_ended:
            request.on_end()

    def cancel(self, stream: int) -> None:
        """Cancels a request."""
        if run := self._runs.get(stream):
            run.cancel()

    def on_writable(self, stream: int) -> None:
        """Resumes a request whose stream was full and is writable again."""
        if run := self._runs.get(stream):
            run.on_writable()

    async def _refuse(self) -> Opened:
        takes, other = ("raw requests", "OpenAI bodies")[:: 1 if self._kind == "data" else -1]
        raise NotSupportedError(f'the engine "{self._config.engine}" accepts {takes} only, not {other}')

    async def _refuse_kind(self, kind: scoring.Kind) -> Opened:
        scoring.refuse(kind, (), self._config.engine)
        raise AssertionError("unreachable")

    def _trace(self, body: dict[str, Any], request_id: str) -> Span | None:
        return start_span(body, request_id, self._config.engine, self.info)

    async def _ask(self, request: EngineRequest) -> Sequence[Answer]:
        """Passes a request to the engine. Returns the choices of the answer; a text engine answers all
        choices with one generator.
        """
        engine, info, pipeline = self._engine, self.info, self._pipeline
        if getattr(engine, "kind", "text") == "models":
            engine = await engine.find(request)
            if getattr(engine, "kind", "text") == "tokens":
                pipeline = await self._pipeline_of(engine)
            else:
                info = engine.describe()
        if pipeline is not None:
            return await scoring.answer(request, pipeline.info, self._config.engine, pipeline.answer)
        ask = functools.partial(self._ask_text_engine, engine)
        return await scoring.answer(request, info, self._config.engine, ask)

    @staticmethod
    async def _ask_text_engine(engine: Any, request: EngineRequest) -> Sequence[Answer]:
        answer = engine.generate(request)
        if inspect.iscoroutine(answer):
            answer = await answer
        return [require_generator(answer, type(engine))]

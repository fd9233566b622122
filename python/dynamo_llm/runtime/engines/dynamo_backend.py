# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo-backend``: an engine class of NVIDIA Dynamo's ``LLMEngine`` contract, in the process.

Dynamo's own ``Worker`` is not used: it takes over signals and logging, and serves a cluster. Here its part,
to start the class, to hand it requests, to tell it of cancels, and to clean up, is played by the library.
"""

import asyncio
import contextlib
import importlib
import io
import logging
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from dynamo_llm.errors import (
    CancelledError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidConfigError,
    NotSupportedError,
    OverloadedError,
    UnavailableError,
)
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import noise
from dynamo_llm.runtime.cluster.request import from_dynamo, to_dynamo
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from dynamo_llm.runtime.http_status import error_of_http

_log = logging.getLogger("dynamo_llm.dynamo_backend")

#: Methods that the contract demands.
_methods = ("from_args", "start", "generate", "cleanup")


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    class_: str | None = None
    """The class, as ``module:Class``. Needed."""
    args: list[str] = field(default_factory=list)
    """Its command line, for ``from_args``; ``{model}`` stands for the configuration's ``model``."""
    tokenizer: str | None = None
    """Folder with ``tokenizer.json`` and ``tokenizer_config.json``; default: the model that the class says it
    has loaded."""
    context_length: int | None = None
    """Tokens of prompt and answer together, if the class does not say it, or for less than it says."""
    capabilities: list[str] = field(default_factory=lambda: ["chat", "completion", "logprobs", "seed"])
    """What the class can do, which the contract does not tell: add ``json_schema``, ``regex``, ``grammar``,
    ``priority`` where it can."""
    adapters: list[str] = field(default_factory=list)
    """Names of LoRA adapters that the class has loaded; add ``lora`` to ``capabilities``."""


def _import_class(name: str | None) -> type[Any]:
    if name is None:
        raise InvalidConfigError(
            '"options.class" of the configuration is missing: a class of Dynamo\'s LLMEngine contract, such '
            'as "dynamo.common.backend.sample_engine:SampleLLMEngine"'
        )
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise InvalidConfigError(f'"options.class" of the configuration must be "module:Class", not "{name}"')
    try:
        noise.prepare()
        importlib.import_module("dynamo.llm")
        importlib.import_module("dynamo.common.backend")
    except ImportError as error:
        raise EngineUnavailableError(
            f'the engine "dynamo-backend" needs the Python packages of NVIDIA Dynamo ({error}); run: '
            f"python -m pip install 'dynamo-llm[dynamo]' && python -m pip install --no-deps ai-dynamo==1.6.1"
        ) from error
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise EngineUnavailableError(
            f'"options.class" of the configuration: the module {module_name} cannot be imported: {error}'
        ) from error
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        raise InvalidConfigError(
            f'"options.class" of the configuration: the module {module_name} has no class "{class_name}"'
        )
    if missing := [method for method in _methods if not callable(getattr(kind, method, None))]:
        raise InvalidConfigError(
            f'"options.class" of the configuration: {name} is no class of the LLMEngine contract; it lacks '
            f"{', '.join(missing)}"
        )
    if issubclass(kind, importlib.import_module("dynamo.common.backend.engine").RawEngine):
        raise NotSupportedError(
            f"{name} makes images, videos or audio; only classes that make tokens can be used"
        )
    return kind


class _Listener(io.TextIOBase):
    """Takes what one thread writes; what others write goes on to where it went."""

    def __init__(self, target: Any) -> None:
        self._thread = threading.get_ident()
        self._target = target
        self._text = ""

    def write(self, text: str) -> int:
        """Keep it, or pass it on."""
        if threading.get_ident() == self._thread:
            self._text += text
        elif self._target is not None:
            self._target.write(text)
        return len(text)

    def take(self) -> str:
        """What was kept."""
        text, self._text = self._text, ""
        return text


@contextlib.contextmanager
def _command_line() -> Iterator[None]:
    """Inside, a command line that is refused is an error, in place of a message on stderr and an exit."""
    listener = _Listener(sys.stderr)
    try:
        with contextlib.redirect_stderr(listener):
            yield
    except SystemExit as error:
        said = listener.take().strip().rsplit("error: ", 1)[-1] or f"it exits with {error}"
        raise InvalidConfigError(f'"options.args" of the configuration is refused: {said}') from error
    finally:
        if (text := listener.take()) and sys.stderr is not None:
            sys.stderr.write(text)


@contextlib.contextmanager
def _without_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Inside, the loop takes no signal handlers: signals are the program's. Dynamo's worker does so, too."""
    original = loop.add_signal_handler

    def refuse(signal: int, callback: Any, *arguments: Any) -> None:
        _log.debug("the engine's handler of signal %s is not installed", signal)

    loop.add_signal_handler = refuse  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        loop.add_signal_handler = original  # type: ignore[method-assign]


class DynamoBackendEngine:
    """Runs a class of Dynamo's contract. See :class:`Options` for its options."""

    kind: Literal["tokens"] = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        for name in ("args", "capabilities", "adapters"):
            if not all(isinstance(word, str) for word in getattr(self._options, name)):
                raise InvalidConfigError(f'"options.{name}" of the configuration must be strings')
        self._model = config.model
        self._name = ""
        self._info: ModelInfo = {}
        self._engine: Any = None
        self._context_kind: Any = None
        self._errors: Any = None

    async def start(self) -> None:
        """Make the engine of its command line, and start it."""
        loop = asyncio.get_running_loop()
        kind = await loop.run_in_executor(None, _import_class, self._options.class_)
        self._context_kind = importlib.import_module("dynamo._core").Context
        self._errors = importlib.import_module("dynamo.llm.exceptions")
        arguments = [self._argument(word) for word in self._options.args]
        with _without_signals(loop):
            with _command_line():
                engine, worker = await kind.from_args(arguments)
            mode = getattr(getattr(worker, "disaggregation_mode", None), "name", "AGGREGATED")
            if mode != "AGGREGATED":
                raise InvalidConfigError(
                    f'"options.args" of the configuration make a worker for a part of a request '
                    f"({mode.lower()}); here an engine answers whole requests: without --disaggregation-mode"
                )
            try:
                loaded = await engine.start(secrets.randbits(63))
            except BaseException as error:
                # The contract: cleanup() after a start that failed, too.
                await self._clean_up(engine)
                if isinstance(error, Exception) and (known := self._translate(error)):
                    raise known from error
                raise
        self._engine = engine
        self._name = loaded.served_model_name or loaded.model
        self._info = self._describe(loaded)

    def _argument(self, word: str) -> str:
        if "{model}" not in word:
            return word
        if self._model is None:
            raise InvalidConfigError(
                '"model" of the configuration is missing, but "options.args" has "{model}" in it'
            )
        return word.replace("{model}", self._model)

    def _describe(self, loaded: Any) -> ModelInfo:
        info: ModelInfo = {
            "path": self._model or loaded.model,
            "capabilities": list(self._options.capabilities),
            "adapters": list(self._options.adapters),
        }
        if self._options.tokenizer is not None:
            info["tokenizer"] = self._options.tokenizer
        said = getattr(loaded.llm, "context_length", None)
        lengths = [length for length in (self._options.context_length, said) if length]
        if lengths:
            info["context_length"] = min(lengths)
        return info

    def describe(self) -> ModelInfo:
        """What the class says of its model, and the options."""
        return self._info

    async def stop(self) -> None:
        """Clean the engine up."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.cleanup()

    @staticmethod
    async def _clean_up(engine: Any) -> None:
        try:
            await engine.cleanup()
        except Exception:
            _log.exception("cleanup() failed after a start() that failed")

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answer one choice. When it is left early, the engine's abort() is called."""
        context = self._context_kind(id=request.id, metadata=request.trace)
        chunks = self._engine.generate(to_dynamo(request, request.adapter or self._name), context)
        has_ended = has_begun = False
        try:
            async for given in chunks:
                chunk = from_dynamo(given, request.logprobs)
                has_ended = "finish_reason" in chunk
                if not (has_ended or chunk["token_ids"]):
                    continue
                has_begun = True
                yield chunk
                if has_ended:
                    return
            raise EngineFailedError("the engine ended the answer without a finish_reason")
        except Exception as error:
            if known := self._translate(error, has_begun):
                raise known from error
            raise
        finally:
            if not has_ended:
                await self._abort(context)
            await chunks.aclose()

    async def _abort(self, context: Any) -> None:
        """The order of Dynamo's worker: the context, then the engine, then its generator."""
        context.stop_generating()
        abort = getattr(self._engine, "abort", None)
        if abort is None:
            return
        try:
            await abort(context)
        except Exception:  # the request has ended; what ended it matters more
            _log.exception("abort() failed")

    def _translate(self, error: Exception, has_begun: bool = False) -> DynamoError | None:
        """The library's error for one of Dynamo's; None for those that stay as they are."""
        if isinstance(error, DynamoError):
            return None
        kinds = self._errors
        text = str(error) or type(error).__name__
        if isinstance(error, kinds.HttpError):
            return error_of_http(error.code, error.message)
        # Dynamo's worker says of a ValueError, too, that the request is wrong.
        if isinstance(error, kinds.InvalidArgument) or (isinstance(error, ValueError) and not has_begun):
            return error_of_http(400, text)
        table: tuple[tuple[tuple[type[BaseException], ...], type[DynamoError]], ...] = (
            ((kinds.RouterQueueLimitExceeded,), OverloadedError),
            ((kinds.ConnectionTimeout, TimeoutError, asyncio.TimeoutError), DeadlineExceededError),
            ((kinds.Cancelled,), CancelledError),
            (
                (
                    kinds.CannotConnect,
                    kinds.Disconnected,
                    kinds.EngineShutdown,
                    kinds.StreamIncomplete,
                    kinds.WorkerUnavailable,
                ),
                UnavailableError,
            ),
        )
        return next((kind(text) for given, kind in table if isinstance(error, given)), None)

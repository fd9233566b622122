# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo-backend``: an engine class of NVIDIA Dynamo's ``LLMEngine`` contract, in this process.

Dynamo's own ``Worker`` is not used: it takes over signals and logging, and serves a cluster. The library does
its work instead: it starts the class, passes it requests and cancellations, and cleans up.
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
from dynamo_llm.runtime import extras, options
from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.cluster.token_protocol import from_dynamo, to_dynamo
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from dynamo_llm.runtime.http_status import error_of_http
from dynamo_llm.runtime.threads import in_thread

_log = logging.getLogger("dynamo_llm.dynamo_backend")

#: Methods that the contract requires.
_methods = ("from_args", "start", "generate", "cleanup")


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    class_: str | None = None
    """The class, as ``module:Class``. Required."""
    args: list[str] = field(default_factory=list)
    """Its command line, for ``from_args``; ``{model}`` is replaced by the configuration's ``model``."""
    tokenizer: str | None = None
    """Folder with ``tokenizer.json`` and ``tokenizer_config.json``; default: the model that the class reports
    to have loaded."""
    context_length: int | None = None
    """Maximum tokens of prompt and answer together, if the class does not report it, or to lower it."""
    capabilities: list[str] = field(default_factory=lambda: ["chat", "completion", "logprobs", "seed"])
    """Capabilities of the class, which the contract does not report: add ``json_schema``, ``regex``,
    ``grammar``, ``priority`` if it has them."""
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
        dynamo_import.import_core()
        importlib.import_module("dynamo.llm")
        importlib.import_module("dynamo.common.backend")
    except ImportError as error:
        raise EngineUnavailableError(
            f'the engine "dynamo-backend" needs the Python packages of NVIDIA Dynamo ({error}); run: '
            f"{extras.install_command('dynamo')} && python -m pip install --no-deps 'ai-dynamo>=1.6.1,<1.8'"
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
            f'"options.class" of the configuration: {name} does not implement the LLMEngine contract; it '
            f"lacks {', '.join(missing)}"
        )
    if issubclass(kind, importlib.import_module("dynamo.common.backend.engine").RawEngine):
        raise NotSupportedError(
            f"{name} generates images, videos, or audio; only classes that generate tokens can be used"
        )
    return kind


class _Listener(io.TextIOBase):
    """Captures the output of one thread; that of other threads passes through."""

    def __init__(self, target: Any) -> None:
        self._thread = threading.get_ident()
        self._target = target
        self.text = ""

    def write(self, text: str) -> int:
        """Captures a text, or passes it on."""
        if threading.get_ident() == self._thread:
            self.text += text
        elif self._target is not None:
            self._target.write(text)
        return len(text)


@contextlib.contextmanager
def _command_line() -> Iterator[None]:
    """Turns the rejection of a command line, a message on stderr and an exit, into an error."""
    listener = _Listener(sys.stderr)
    try:
        with contextlib.redirect_stderr(listener):
            yield
    except SystemExit as error:
        reason = listener.text.strip().rsplit("error: ", 1)[-1] or f"it exits with {error}"
        listener.text = ""
        raise InvalidConfigError(f'"options.args" of the configuration is rejected: {reason}') from error
    finally:
        if listener.text and sys.stderr is not None:
            sys.stderr.write(listener.text)


@contextlib.contextmanager
def _without_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keeps signal handlers out of the event loop, like Dynamo's worker: signals belong to the host."""
    original = loop.add_signal_handler

    def refuse(signal: int, callback: Any, *arguments: Any) -> None:
        _log.debug("the engine's handler of signal %s is not installed", signal)

    loop.add_signal_handler = refuse  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        loop.add_signal_handler = original  # type: ignore[method-assign]


class DynamoBackendEngine:
    """Runs a class of the contract. See :class:`Options` for its options."""

    kind: Literal["tokens"] = "tokens"

    model_formats = ("safetensors",)
    """What the engine loads of a repository of the Hugging Face Hub."""

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        self._model = config.model
        self._name = ""
        self._info: ModelInfo = {}
        self._engine: Any = None
        self._context_kind: Any = None
        self._errors: Any = None

    async def start(self) -> None:
        """Creates the engine from its command line, and starts it."""
        loop = asyncio.get_running_loop()
        kind = await in_thread(_import_class, self._options.class_)
        self._context_kind = importlib.import_module("dynamo._core").Context
        self._errors = importlib.import_module("dynamo.llm.exceptions")
        arguments = self._options.args
        if any("{model}" in word for word in arguments):
            if self._model is None:
                raise InvalidConfigError(
                    '"model" of the configuration is missing, but "options.args" contains "{model}"'
                )
            arguments = [word.replace("{model}", self._model) for word in arguments]
        with _without_signals(loop):
            with _command_line():
                engine, worker = await kind.from_args(arguments)
            mode = getattr(getattr(worker, "disaggregation_mode", None), "name", "AGGREGATED")
            if mode != "AGGREGATED":
                raise InvalidConfigError(
                    f'"options.args" of the configuration select the role {mode.lower()}; this engine '
                    f"answers complete requests: omit --disaggregation-mode"
                )
            try:
                loaded = await engine.start(secrets.randbits(63))
            except BaseException as error:
                try:  # the contract requires it after a failed start, too
                    await engine.cleanup()
                except Exception:
                    _log.exception("cleanup() failed after a failed start()")
                if isinstance(error, Exception) and (known := self._translate(error)):
                    raise known from error
                raise
        self._engine = engine
        self._name = loaded.served_model_name or loaded.model
        self._info = self._describe(loaded)

    def _describe(self, loaded: Any) -> ModelInfo:
        info: ModelInfo = {
            "path": self._model or loaded.model,
            "capabilities": list(self._options.capabilities),
            "adapters": list(self._options.adapters),
        }
        if self._options.tokenizer is not None:
            info["tokenizer"] = self._options.tokenizer
        reported = getattr(loaded.llm, "context_length", None)
        if lengths := [length for length in (self._options.context_length, reported) if length]:
            info["context_length"] = min(lengths)
        return info

    def describe(self) -> ModelInfo:
        """Describes the model by the class and the options."""
        return self._info

    async def stop(self) -> None:
        """Cleans up the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.cleanup()

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answers one choice. Leaving it early calls the engine's abort()."""
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
        """Cancels in the order of Dynamo's worker: the context, then the engine, then its generator."""
        context.stop_generating()
        if abort := getattr(self._engine, "abort", None):
            try:
                await abort(context)
            except Exception:  # does not replace the error that ended the request
                _log.exception("abort() failed")

    def _translate(self, error: Exception, has_begun: bool = False) -> DynamoError | None:
        """Returns the library's error for one of Dynamo's; None for one that is raised unchanged."""
        if isinstance(error, DynamoError):
            return None
        kinds = self._errors
        text = str(error) or type(error).__name__
        if isinstance(error, kinds.HttpError):
            return error_of_http(error.code, error.message)
        # Like Dynamo's worker, treats a ValueError as an invalid request.
        if isinstance(error, kinds.InvalidArgument) or (isinstance(error, ValueError) and not has_begun):
            return error_of_http(400, text)
        if isinstance(error, kinds.RouterQueueLimitExceeded):
            return OverloadedError(text)
        if isinstance(error, kinds.ConnectionTimeout | TimeoutError | asyncio.TimeoutError):
            return DeadlineExceededError(text)
        if isinstance(error, kinds.Cancelled):
            return CancelledError(text)
        names = ("CannotConnect", "Disconnected", "EngineShutdown", "StreamIncomplete", "WorkerUnavailable")
        if isinstance(error, tuple(getattr(kinds, name) for name in names)):
            return UnavailableError(text)
        return None

# SPDX-License-Identifier: Apache-2.0
"""The engine that a worker serves: a runtime of its own, the model that it has, and the service that converts
requests for it.
"""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import ClosedError, EngineNotFoundError, InvalidConfigError, NotSupportedError
from dynamo_llm.runtime import model_files, registry
from dynamo_llm.runtime.cluster.worker import raw_service
from dynamo_llm.runtime.cluster.worker.config import WorkerConfig
from dynamo_llm.runtime.cluster.worker.registration import RegisteredModel
from dynamo_llm.runtime.cluster.worker.text_service import TextService
from dynamo_llm.runtime.cluster.worker.token_service import Send, TokenService
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.threads import DaemonThreads, in_pool, in_thread


class ServedEngine:
    """A runtime with one engine. ``python`` is that key of the worker's configuration."""

    def __init__(self, config: WorkerConfig, python: dict[str, Any] | None) -> None:
        self._config = config
        self._python = python
        self._runtime: Runtime | None = None
        # Not a thread of the event loop's pool: starting and closing the runtime wait for engines on that
        # loop, which need those threads. Several workers could occupy all of them, and deadlock.
        self._thread = DaemonThreads(1, "dynamo-worker")
        self.kind = "data"
        """Kind of its requests: ``data``, ``tokens``, or ``text``."""
        self.model: RegisteredModel | None = None
        """What the cluster's discovery gets; None for a raw engine."""
        self.answer: Callable[[Any, dict[str, str], Send], AsyncIterator[Any]] = raw_service.answer
        """Converts requests and answers: takes a request, its trace context, and what sends a body."""
        self.adapters: list[str] = []
        """Names of the current LoRA adapters."""
        self.calls: list[str] = []
        """Names of the engine's control calls."""

    async def start(self) -> None:
        """Starts the engine, and determines its kind and model."""
        await in_pool(self._start, pool=self._thread)

    async def close(self) -> None:
        """Stops the engine; cancels its requests."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await in_pool(runtime.close, pool=self._thread)
        self._thread.shutdown(wait=False)

    def send(self, body: Any, timeout: float | None) -> Any:
        """Sends a request to the engine. The timeout is in seconds.

        :raises ClosedError: the worker has stopped.
        """
        runtime = self._running()
        send: Any = runtime.data if self.kind == "data" else runtime.request
        return send(body, timeout=timeout)

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Executes a control call of the engine, which may load or unload adapters.

        :raises ClosedError: the worker has stopped.
        """
        runtime = self._running()
        result = await runtime.call_async(name, **arguments)
        (info,) = await in_thread(runtime.models)
        self.adapters[:] = info.get("adapters", [])
        return result

    def metrics(self) -> str:
        """Returns the engine's metrics, in Prometheus' text format.

        :raises ClosedError: the worker has stopped.
        """
        return self._running().metrics()

    def _running(self) -> Runtime:
        if self._runtime is None:
            raise ClosedError("the worker has stopped")
        return self._runtime

    def probe_payload(self) -> dict[str, Any] | None:
        """Returns a request that tests whether the engine works; None if none is known."""
        if self._config.health.payload is not None:
            return self._config.health.payload
        if self.kind == "tokens":
            return {"token_ids": [1], "stop_conditions": {"max_tokens": 1}, "sampling_options": {}}
        if self.kind == "text" and "chat" in self._config.model.types:
            return {"messages": [{"role": "user", "content": "."}], "max_tokens": 1}
        return None

    def _start(self) -> None:
        given, model = self._config.runtime, self._config.model
        engine = given.get("engine", "mistralrs")
        if self._python:
            given = {"python": self._python, **given}
        kind = _kind_of_class(engine, given) if isinstance(engine, str) else None  # a shared library
        is_python = kind is not None
        takes_text = kind == "text" or model.input == "text"
        self._runtime = Runtime(given if takes_text else {**given, "pipeline": "off"})
        (info,) = self._runtime.models() or [{}]
        engine = self._runtime.statistics()["engine"]
        kind = kind or info.get("kind") or "text"
        self.calls = list(info.get("calls", []))
        if kind == "data":
            if self._config.has_model:
                raise InvalidConfigError(
                    f'"model" of the configuration must be left out: the engine "{engine}" is a raw engine, '
                    f"which has no model"
                )
            return
        if kind == "tokens" and model.input == "text":
            kind = "text"
        if kind == "text" and model.input == "tokens":
            raise InvalidConfigError(
                f'"model.input" of the configuration is "tokens", but the engine "{engine}" takes OpenAI '
                f'request bodies; it must be "text" or "auto"'
            )
        self.kind = kind
        self._describe_model(info)
        if kind == "tokens" and is_python:
            self._check_capabilities(engine, info)

    def _check_capabilities(self, engine: str, info: dict[str, Any]) -> None:
        """Checks that an engine in Python supports its role; those in C get all requests unchecked."""
        model = self._config.model
        for key, is_requested, capability in (
            ("role", model.role != "aggregated", "disaggregation"),
            ("data_parallel_size", (model.data_parallel_size or 1) > 1, "routing"),
        ):
            if is_requested and capability not in info.get("capabilities", ()):
                raise InvalidConfigError(
                    f'"model.{key}" of the configuration is {getattr(model, key)!r}, which requires the '
                    f'capability "{capability}"; the engine "{engine}" does not report it'
                )

    def _describe_model(self, info: dict[str, Any]) -> None:
        model = self._config.model
        name = model.name or info.get("id") or "model"
        adapters = self.adapters
        adapters[:] = info.get("adapters", [])
        if self.kind == "text":
            path = model.path or info.get("path")
            has_config = path is not None and model_files.exists(Path(path).expanduser() / "config.json")
            if model.path is not None and not has_config:
                raise InvalidConfigError(
                    f'"model.path" of the configuration, "{model.path}", is not a folder with a config.json'
                )
            length = model.context_length or info.get("context_length")
            folder_path = path if has_config else None
            self.model = RegisteredModel(name, folder_path, False, length, model)
            self.answer = TextService(name, adapters).answer
            return
        path = model.path or info.get("tokenizer") or info.get("path")
        if path is None:
            raise InvalidConfigError(
                '"model.path" of the configuration is missing, and the engine does not report it; set it to '
                "the folder with tokenizer.json and config.json"
            )
        folder = ModelFolder(path)
        length = model.context_length or info.get("context_length") or folder.context_length
        if length is None:
            raise InvalidConfigError(
                '"model.context_length" of the configuration is missing, and neither the engine nor the '
                "model's files specify it"
            )
        self.model = RegisteredModel(name, str(folder.path.absolute()), True, length, model)
        has_ranks = (model.data_parallel_size or 1) > 1
        self.answer = TokenService(length, adapters, model.role, has_ranks).answer


def _kind_of_class(engine: str, config: dict[str, Any]) -> str | None:
    """Returns the kind of an engine in Python; None for one in C."""
    for folder in reversed(config.get("python", {}).get("path", [])):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        found = registry.find(engine)
    except EngineNotFoundError:
        return None  # in C, or unknown, which the runtime reports
    kind = getattr(found, "kind", "text")
    if kind == "models":
        raise NotSupportedError(f'a worker cannot serve the engine "{engine}", which has several models')
    return str(kind)

# SPDX-License-Identifier: Apache-2.0
"""What is behind the workers of the C interface: serves an engine of this library to a cluster."""

import asyncio
import logging
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import (
    ClosedError,
    DeadlineExceededError,
    DynamoError,
    EngineNotFoundError,
    InvalidConfigError,
    InvalidRequestError,
    InvalidStateError,
    NotSupportedError,
    UnavailableError,
)
from dynamo_llm.runtime import registry
from dynamo_llm.runtime.cluster import connection
from dynamo_llm.runtime.cluster.probe import Pauses
from dynamo_llm.runtime.cluster.registration import Card, Registration, check_parsers
from dynamo_llm.runtime.cluster.token_model import DEADLINE
from dynamo_llm.runtime.cluster.worker_config import WorkerConfig
from dynamo_llm.runtime.cluster.worker_data import DataService
from dynamo_llm.runtime.cluster.worker_failure import failure_of
from dynamo_llm.runtime.cluster.worker_text import TextService
from dynamo_llm.runtime.cluster.worker_tokens import TokenService
from dynamo_llm.runtime.engine import DataRequest, EngineConfig
from dynamo_llm.runtime.pipeline.folder import Folder

_log = logging.getLogger("dynamo_llm.worker")

State = Literal["starting", "serving", "draining", "lost", "stopped"]

#: Seconds after a worker has left for which requests are still taken: who sent them had not heard of it.
_late = 1.0
#: Seconds that requests get to end after they were cancelled.
_cancelled = 5.0

_commands = ("info", "shutdown", "wait", "load")
_load_keys = ("data_parallel_rank", "active_decode_blocks", "kv_used_blocks")

#: Endpoints that this process serves, by connection and path.
_served: set[tuple[int, str]] = set()


class WorkerEngine:
    """Serves a runtime. Its requests are commands, objects with one key, answered by one item each:

    - ``{"info": null}`` by what :meth:`info` says;
    - ``{"shutdown": timeout_ms}`` by ``{"drained": bool, "cancelled": requests}``, when it has stopped; with
      null the time is the configuration's ``drain_ms``;
    - ``{"wait": timeout_ms}`` by ``{"stopped": bool}``;
    - ``{"load": {"data_parallel_rank", "active_decode_blocks", "kv_used_blocks"}}`` by ``{}``.

    Times are in milliseconds, -1 for ever.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._config = WorkerConfig.read(config.options)
        self._python = config.python
        self._state: State = "starting"
        self._problem: str | None = None
        self._requests: set[Any] = set()
        self._cut: set[Any] = set()
        self._in_flight = self._ended = self._failed = 0
        self._progress = time.monotonic()
        self._left = 0.0
        self._takes_more = True
        self._is_idle = asyncio.Event()
        self._is_stopped = asyncio.Event()
        self._stopping: asyncio.Task[int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._entering: asyncio.Task[None] | None = None
        self._runtime: Runtime | None = None
        # Of its own: what runs there waits for this loop's engines, which need the loop's threads. Several
        # workers could fill those, and wait for ever.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dynamo-worker")
        self._connection: connection.Connection | None = None
        self._registration: Registration | None = None
        self._publisher: Any = None
        self._card: Card | None = None
        self._service: TokenService | TextService | DataService = DataService()
        self._what = "data"

    # -------------------------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Start the engine, join the cluster, and register; returns when it is listed."""
        config = self._config
        try:
            self._connection = await connection.acquire(config.settings)
            check_parsers(self._connection.core, config.model)
            self._key = (id(self._connection), config.endpoint)
            if self._key in _served:
                raise InvalidStateError(
                    f"this process serves the endpoint {config.endpoint} already; another worker of it needs "
                    f"another process, or another endpoint"
                )
            _served.add(self._key)
            try:
                await self._in_thread(self._start_runtime)
                registration = self._new_registration()
                await registration.enter(self._handle)
            except BaseException:
                _served.discard(self._key)
                raise
        except BaseException:
            await self._free()
            raise
        self._registration = registration
        self._state = "serving"
        self._forget = self._connection.subscribe(self._on_connection)
        if config.health.stall_ms:
            self._spawn(self._watch(config.health.stall_ms / 1000))
        _log.info("serving %s as instance %d", config.endpoint, registration.instance_id)

    def _start_runtime(self) -> None:
        """Start the engine, and find out what it takes; blocks."""
        given, model = self._config.runtime, self._config.model
        engine = given.get("engine", "mistralrs")
        if self._python:
            given = {"python": self._python, **given}
        kind = _kind_of_class(engine, given)
        is_python = kind is not None
        if kind == "text" or model.input == "text":
            self._runtime = Runtime(given)
        else:
            self._runtime = Runtime({**given, "pipeline": "off"})
        (info,) = self._runtime.models() or [{}]
        kind = kind or info.get("kind") or "text"
        if kind == "data":
            if self._config.has_model:
                raise InvalidConfigError(
                    f'"model" of the configuration must be left out: the engine "{engine}" takes data, and '
                    f"has no model"
                )
            return
        if kind == "tokens" and model.input == "text":
            kind = "text"
        if kind == "text" and model.input == "tokens":
            raise InvalidConfigError(
                f'"model.input" of the configuration is "tokens", but the engine "{engine}" takes OpenAI\'s '
                f'bodies; it must be "text" or "auto"'
            )
        self._what = kind
        self._describe_model(info)
        if kind == "tokens" and is_python:
            self._check_parts(engine, info)

    def _check_parts(self, engine: str, info: dict[str, Any]) -> None:
        """Whether an engine in Python can do a part of the requests; those in C get what there is."""
        model = self._config.model
        for key, is_asked, capability in (
            ("role", model.role != "aggregated", "disaggregation"),
            ("data_parallel_size", (model.data_parallel_size or 1) > 1, "routing"),
        ):
            if is_asked and capability not in info.get("capabilities", ()):
                raise InvalidConfigError(
                    f'"model.{key}" of the configuration is {getattr(model, key)!r}, for which the engine '
                    f'"{engine}" needs the capability "{capability}"; it does not say that it has it'
                )

    def _describe_model(self, info: dict[str, Any]) -> None:
        model = self._config.model
        name = model.name or info.get("id") or "model"
        adapters = list(info.get("adapters", []))
        if self._what == "text":
            path = model.path or info.get("path")
            folder = path if path is not None and _has_config(path) else None
            if model.path is not None and folder is None:
                raise InvalidConfigError(
                    f'"model.path" of the configuration, "{model.path}", is no folder with a config.json'
                )
            self._card = Card(name, folder, False, model.context_length or info.get("context_length"), model)
            self._service = TextService(name, adapters)
            return
        path = model.path or info.get("tokenizer") or info.get("path")
        if path is None:
            raise InvalidConfigError(
                '"model.path" of the configuration is missing: the folder with tokenizer.json and '
                "config.json, which the engine does not say"
            )
        folder = Folder(path)
        length = model.context_length or info.get("context_length") or folder.context_length
        if length is None:
            raise InvalidConfigError(
                '"model.context_length" of the configuration is missing; neither the engine nor the model\'s '
                "files say it"
            )
        self._card = Card(name, str(folder.path.absolute()), True, length, model)
        self._service = TokenService(length, adapters, model.role, (model.data_parallel_size or 1) > 1)

    def _new_registration(self) -> Registration:
        assert self._connection is not None
        return Registration(self._connection, self._config.endpoint, self._card, self._payload())

    def _payload(self) -> dict[str, Any] | None:
        """A request that shows whether the engine works."""
        if self._config.health.payload is not None:
            return self._config.health.payload
        if self._what == "tokens":
            return {"token_ids": [1], "stop_conditions": {"max_tokens": 1}, "sampling_options": {}}
        if self._what == "text" and "chat" in self._config.model.types:
            return {"messages": [{"role": "user", "content": "."}], "max_tokens": 1}
        return None

    async def stop(self) -> None:
        """Leave the cluster and stop the engine; what is in flight is cancelled."""
        await self._shutdown(0)

    async def _shutdown(self, timeout_ms: int) -> int:
        """Drain; returns how many requests were cancelled. A later call may only make it sooner."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain())
        stopping = self._stopping
        try:
            # Not until the worker is idle: while it leaves, requests may still come.
            wait = None if timeout_ms < 0 else timeout_ms / 1000
            if not (await asyncio.wait([stopping], timeout=wait))[0]:
                self._cancel_all()
        finally:
            cancelled = await asyncio.shield(stopping)
        return cancelled

    def _cancel_all(self) -> None:
        self._takes_more = False
        for request in self._requests:
            self._cut.add(request)
            request.cancel()
        # Somebody who does not read keeps a request from ending.
        asyncio.get_running_loop().call_later(_cancelled, self._is_idle.set)

    async def _drain(self) -> int:
        self._state = "draining"
        self._left = time.monotonic()
        try:
            if self._registration is not None:
                try:
                    await self._registration.leave()
                except Exception as error:  # the connection may be lost; then nobody routes here anyway
                    _log.warning("leaving the cluster: %s", error)
            if self._in_flight == 0:
                self._is_idle.set()
            await self._is_idle.wait()
        finally:
            self._takes_more = False
            await self._free()
            self._state = "stopped"
            self._is_stopped.set()
            _log.info("stopped serving %s", self._config.endpoint)
        return len(self._cut)

    async def _free(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._registration is not None:
            self._forget()
            await self._registration.end()
            self._registration = None
            _served.discard(self._key)
        self._publisher = None
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await self._in_thread(runtime.close)
        self._thread.shutdown(wait=False)
        joined, self._connection = self._connection, None
        if joined is not None:
            await joined.release()

    async def _in_thread(self, function: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _spawn(self, coroutine: Any) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------------------------------ requests

    async def _handle(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Dynamo calls this for each request."""
        try:
            if not self._takes_more or (self._state == "draining" and time.monotonic() - self._left > _late):
                raise ClosedError(f"the worker of {self._config.endpoint} is leaving the cluster")
            _log.debug("request %s", context.id())
            async for item in self._answer(request, context):
                yield item
        except DynamoError as error:
            _log.debug("request %s failed: %s", context.id(), error)
            yield failure_of(error)

    async def _answer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        sent: list[Any] = []
        timeout = _seconds(context.metadata.get(DEADLINE))
        trace = _trace(context)
        if self._in_flight == 0:
            self._progress = time.monotonic()
        self._in_flight += 1
        self._is_idle.clear()
        is_whole = False

        def send(body: Any) -> Any:
            runtime = self._runtime
            if runtime is None:
                raise ClosedError("the worker has stopped")
            made: Any = (runtime.data if self._what == "data" else runtime.request)(body, timeout=timeout)
            sent.append(made)
            self._requests.add(made)
            return made

        gone = asyncio.ensure_future(context.async_killed_or_stopped())
        gone.add_done_callback(lambda future: _cancel(sent, future))
        try:
            async for item in self._service.answer(request, trace, send):
                self._progress = time.monotonic()
                yield item
            is_whole = True
        except DynamoError as error:
            if self._stopping is not None and any(one in self._cut for one in sent):
                raise ClosedError("the worker stopped before the answer was whole") from error
            if context.is_stopped():
                return  # nobody listens
            if error.fatal:
                self._problem = str(error)
            raise
        finally:
            gone.cancel()
            for one in sent:
                one.cancel()
                self._requests.discard(one)
            self._in_flight -= 1
            self._ended += is_whole
            self._failed += not is_whole
            self._progress = time.monotonic()
            if self._in_flight == 0:
                self._is_idle.set()

    # ------------------------------------------------------------------------------------ the cluster

    def _on_connection(self, event: connection.Event) -> None:
        if self._stopping is not None:
            return
        if event == "lost":
            self._state = "lost"
        elif self._entering is None or self._entering.done():  # else that one sees what there is now
            self._entering = self._spawn(self._register_again())

    async def _register_again(self) -> None:
        """Keys of before may be in the way for some time."""
        pauses = Pauses(0.2, 5.0)
        while self._state == "lost":
            assert self._connection is not None
            runtime = await self._connection.wait()
            try:
                registration = self._new_registration()
                await registration.enter(self._handle)
            except UnavailableError as error:
                _log.info("%s", error)
                await asyncio.sleep(pauses.take())
                continue
            except Exception:  # unforeseen; without another try it would be lost for ever
                _log.exception("%s could not be registered again", self._config.endpoint)
                await asyncio.sleep(pauses.take())
                continue
            if self._stopping is not None:
                await registration.end()
                return
            old, self._registration = self._registration, registration
            if old is not None:
                await old.end()
            self._publisher = None
            if self._stopping is not None:
                return
            if not self._connection.is_connected or self._connection.runtime is not runtime:
                continue  # lost again
            self._state = "serving"
            _log.warning("serving %s again, as instance %d", self._config.endpoint, registration.instance_id)

    # ---------------------------------------------------------------------------------------- health

    async def _watch(self, patience: float) -> None:
        """Hide the worker while its engine is silent although requests wait for it."""
        while True:
            await asyncio.sleep(min(1.0, patience / 4))
            is_silent = self._in_flight > 0 and time.monotonic() - self._progress > patience
            if not is_silent or self._state != "serving" or self._registration is None:
                continue
            self._problem = f"the engine has been silent for {patience:g} seconds"
            _log.error("%s; no more requests are sent here until it answers", self._problem)
            registration = self._registration
            try:
                await registration.hide(True)
                await self._recovered(patience)
                self._problem = None
                if registration is self._registration and self._state == "serving":
                    await registration.hide(False)
                    _log.warning("the engine answers again")
            except Exception as error:  # the connection may be lost meanwhile; it is registered anew then
                _log.warning("health: %s", error)

    async def _recovered(self, patience: float) -> None:
        since = self._progress
        while self._progress == since or (self._in_flight and await self._is_silent(patience)):
            if await self._probe(patience):
                return
            await asyncio.sleep(min(1.0, patience / 4))

    async def _is_silent(self, patience: float) -> bool:
        return time.monotonic() - self._progress > patience

    async def _probe(self, patience: float) -> bool:
        """Whether the engine answers a request."""
        payload = self._payload()
        if payload is None:
            return self._in_flight == 0
        sent: list[Any] = []

        def send(body: Any) -> Any:
            if self._runtime is None:
                raise ClosedError("the worker has stopped")
            make: Any = self._runtime.data if self._what == "data" else self._runtime.request
            sent.append(make(body, timeout=patience))
            return sent[-1]

        try:
            async for _ in self._service.answer(payload, {}, send):
                pass
        except DynamoError as error:
            _log.debug("the probe failed: %s", error)
            return False
        finally:
            for one in sent:
                one.cancel()
        return True

    # -------------------------------------------------------------------------------------- commands

    def info(self) -> dict[str, Any]:
        """What there is to know of the worker."""
        return {
            "state": self._state,
            "kind": self._what,
            "endpoint": self._config.endpoint,
            "instance_id": self._registration.instance_id if self._registration is not None else None,
            "model": self._card.name if self._card is not None else None,
            "in_flight": self._in_flight,
            "served": self._ended,
            "failed": self._failed,
            "healthy": self._problem is None,
            "problem": self._problem,
        }

    def describe(self) -> Any:
        """See :meth:`info`."""
        return self.info()

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Answer a command."""
        command = request.data
        if not isinstance(command, dict) or len(command) != 1 or next(iter(command)) not in _commands:
            raise InvalidRequestError(f"a command must be an object with one key of {', '.join(_commands)}")
        ((name, value),) = command.items()
        if name == "info":
            yield self.info()
        elif name == "shutdown":
            wait = self._config.drain_ms if value is None else _milliseconds(value, name)
            cancelled = await self._shutdown(wait)
            yield {"drained": cancelled == 0, "cancelled": cancelled}
        elif name == "wait":
            wait = _milliseconds(value, name)
            yield {"stopped": await _within(self._is_stopped.wait(), None if wait < 0 else wait / 1000)}
        else:
            await self._publish_load(value)
            yield {}

    async def _publish_load(self, load: Any) -> None:
        if not isinstance(load, dict) or not set(load) <= set(_load_keys):
            raise InvalidRequestError(f'"load" must be an object with keys of {", ".join(_load_keys)}')
        for key, value in load.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidRequestError(f'"load.{key}" must be an integer from 0 on, not {value!r}')
        if self._connection is None or self._registration is None:
            raise ClosedError("the worker has stopped")
        if self._state == "lost":
            raise UnavailableError("the connection to the cluster is lost")
        if self._publisher is None:
            made = self._connection.core.WorkerMetricsPublisher()
            await made.create_endpoint(self._registration.endpoint)
            self._publisher = made
        self._publisher.publish(
            load.get("data_parallel_rank"), load.get("active_decode_blocks"), load.get("kv_used_blocks")
        )


def _kind_of_class(engine: str, config: dict[str, Any]) -> str | None:
    """What an engine in Python takes; None for one in C."""
    for folder in reversed(config.get("python", {}).get("path", [])):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        found = registry.find(engine)
    except EngineNotFoundError:
        return None  # in C, or unknown: the runtime says so
    kind = getattr(found, "kind", "text")
    if kind == "models":
        raise NotSupportedError(f'a worker cannot serve the engine "{engine}", which has several models')
    return str(kind)


def _has_config(path: str) -> bool:
    return (Path(path).expanduser() / "config.json").is_file()


def _seconds(text: str | None) -> float | None:
    """The time that a request has left."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidRequestError(f'the metadata "{DEADLINE}" must be seconds, not "{text}"')
    if seconds <= 0:
        raise DeadlineExceededError("the request's deadline had passed when it came")
    return seconds


def _trace(context: Any) -> dict[str, str]:
    """The W3C trace context of a request."""
    headers = context.trace_headers() or {}
    found = {}
    for key in ("traceparent", "tracestate"):
        if value := headers.get(key) or context.metadata.get(key):
            found[key] = value
    return found


def _cancel(sent: list[Any], future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
        for one in sent:
            one.cancel()


def _milliseconds(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise InvalidRequestError(f'"{name}" must be milliseconds, or -1 for ever, not {value!r}')
    return value


async def _within(waiting: Any, seconds: float | None) -> bool:
    """Whether it comes in that time."""
    task = asyncio.ensure_future(waiting)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        return bool(done)
    finally:
        task.cancel()

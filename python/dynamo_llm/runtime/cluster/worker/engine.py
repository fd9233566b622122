# SPDX-License-Identifier: Apache-2.0
"""The engine behind the C interface's workers: serves an engine of this library to a cluster."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Literal

from dynamo_llm.errors import ClosedError, InvalidStateError, UnavailableError
from dynamo_llm.runtime.cluster import connection
from dynamo_llm.runtime.cluster.backoff import Backoff
from dynamo_llm.runtime.cluster.worker import system_server
from dynamo_llm.runtime.cluster.worker.config import WorkerConfig
from dynamo_llm.runtime.cluster.worker.registration import Registration, check_parsers
from dynamo_llm.runtime.cluster.worker.request_handler import RequestHandler
from dynamo_llm.runtime.cluster.worker.served_engine import ServedEngine
from dynamo_llm.runtime.engine import DataRequest, EngineConfig
from dynamo_llm.runtime.threads import in_thread

_log = logging.getLogger("dynamo_llm.worker")

State = Literal["starting", "serving", "draining", "lost", "stopped"]

#: Seconds between looks at the worker's entry in the folder of the discovery ``file``.
_entry_interval = 1.0

#: Endpoints that this process serves, by connection and path.
_served: set[tuple[int, str]] = set()


class WorkerEngine:
    """Serves a runtime. Its requests are commands, objects with one key, each answered by one item:

    - ``{"info": null}``: what :meth:`describe` returns;
    - ``{"shutdown": timeout_ms}``: ``{"drained": bool, "cancelled": requests}``, once it has stopped; null
      means the configuration's ``drain_ms``;
    - ``{"wait": timeout_ms}``: ``{"stopped": bool}``;
    - ``{"load": {"data_parallel_rank", "active_decode_blocks", "kv_used_blocks"}}``: ``{}``.

    Timeouts are in milliseconds; -1 means no timeout. The library has checked the commands.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._config = WorkerConfig.read(config.options)
        self._engine = ServedEngine(self._config, config.python)
        self._requests = RequestHandler(self._engine, self._config.endpoint)
        self._state: State = "starting"
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping: asyncio.Task[int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reregistering: asyncio.Task[None] | None = None
        self._connection: connection.Connection | None = None
        self._key: tuple[int, str] | None = None  # in _served
        self._registration: Registration | None = None
        self._load_publisher: Any = None

    # -------------------------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Starts the engine, joins the cluster, and registers; returns once it is listed."""
        config = self._config
        try:
            self._connection = await connection.acquire(config.settings)
            check_parsers(self._connection.core, config.model)
            key = (id(self._connection), config.endpoint)
            if key in _served:
                raise InvalidStateError(
                    f"this process already serves the endpoint {config.endpoint}; another worker of it needs "
                    f"another process, or another endpoint"
                )
            _served.add(key)
            self._key = key
            await self._engine.start()
            registration = self._new_registration()
            await registration.enter(self._requests.handle)
        except BaseException:
            await self._release()
            raise
        self._registration = registration
        self._state = "serving"
        self._unsubscribe = self._connection.subscribe(self._on_connection)
        if config.settings.discovery == "file":
            self._spawn(self._watch_entry())
        if config.health.stall_ms:
            self._spawn(self._watch_health(config.health.stall_ms / 1000))
        _log.info("serving %s as instance %d", config.endpoint, registration.instance_id)

    def _new_registration(self) -> Registration:
        assert self._connection is not None
        engine = self._engine
        made = Registration(
            self._connection, self._config.endpoint, engine.model, engine.probe_payload(), engine.adapters
        )
        system_server.extend(
            self._connection.runtime,
            made.endpoint,
            engine,
            self._config.engine_routes,
            lambda: made.list_adapters(engine.adapters),
        )
        return made

    async def stop(self) -> None:
        """Leaves the cluster and stops the engine; requests in flight are cancelled."""
        await self._shutdown(0)

    async def _shutdown(self, timeout_ms: int) -> int:
        """Drains; returns how many requests were cancelled. A later call can only shorten the timeout."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain())
        stopping = self._stopping
        try:
            # Waits for the whole drain, not for an idle moment: requests may come while it leaves.
            if not await _ends(stopping, timeout_ms):
                self._requests.cancel_all()
        finally:
            cancelled = await asyncio.shield(stopping)
        return cancelled

    async def _drain(self) -> int:
        self._state = "draining"
        self._requests.begin_leaving()
        try:
            if self._registration is not None:
                try:
                    await self._registration.leave()
                except Exception as error:  # after the loss of the connection no request comes anyway
                    _log.warning("leaving the cluster: %s", error)
            return await self._requests.wait_until_idle()
        finally:
            self._requests.close()
            await self._release()
            self._state = "stopped"
            self._stopped.set_result(None)
            _log.info("stopped serving %s", self._config.endpoint)

    async def _release(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._registration is not None:
            self._unsubscribe()
            await self._registration.end()
            self._registration = None
        if self._key is not None:
            _served.discard(self._key)
        self._load_publisher = None
        await self._engine.close()
        joined, self._connection = self._connection, None
        if joined is not None:
            await joined.release()

    def _spawn(self, coroutine: Any) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------------------------------ the cluster

    def _on_connection(self, event: connection.Event) -> None:
        if self._stopping is not None:
            return
        if event == "lost":
            self._state = "lost"
        elif self._reregistering is None or self._reregistering.done():  # a running one sees the new runtime
            self._reregistering = self._spawn(self._register_again())

    async def _register_again(self) -> None:
        """Registers on the new runtime. The keys of the old one may be in the way for some time."""
        backoff = Backoff(0.2, 5.0)
        while self._state == "lost":
            assert self._connection is not None
            runtime = await self._connection.wait()
            try:
                registration = self._new_registration()
                await registration.enter(self._requests.handle)
            except Exception as error:  # without another attempt it would be lost forever
                if isinstance(error, UnavailableError):
                    _log.info("%s", error)
                else:
                    _log.exception("%s could not be registered again", self._config.endpoint)
                await backoff.pause()
                continue
            if self._stopping is not None:
                await registration.end()
                return
            old, self._registration = self._registration, registration
            if old is not None:
                await old.end()
            self._load_publisher = None
            if self._stopping is not None:
                return
            if not self._connection.is_connected or self._connection.runtime is not runtime:
                continue  # lost again
            self._state = "serving"
            _log.warning("serving %s again, as instance %d", self._config.endpoint, registration.instance_id)

    async def _watch_entry(self) -> None:
        """Registers the worker again when its entry is gone: other processes remove the entries of a process
        that was paused for some seconds, as by a debugger or by a computer that slept.
        """
        missed = 0
        while True:
            await asyncio.sleep(_entry_interval)
            registration = self._registration
            is_shown = self._state == "serving" and self._requests.problem is None
            is_gone = is_shown and registration is not None and await in_thread(registration.was_removed)
            missed = missed + 1 if is_gone and registration is self._registration else 0
            if missed == 2:  # not just rewritten at the moment
                missed = 0
                _log.warning("%s is no longer registered; registering it again", self._config.endpoint)
                assert self._connection is not None
                self._connection.renew()

    async def _watch_health(self, seconds: float) -> None:
        """Hides the worker while its engine is stalled."""
        requests = self._requests
        while True:
            await asyncio.sleep(min(1.0, seconds / 4))
            registration = self._registration
            if not requests.is_stalled(seconds) or self._state != "serving" or registration is None:
                continue
            requests.problem = f"the engine has been silent for {seconds:g} seconds"
            _log.error("%s; the worker receives no requests until it answers", requests.problem)
            try:
                await registration.hide(True)
                await requests.wait_for_recovery(seconds)
                requests.problem = None
                if registration is self._registration and self._state == "serving":
                    await registration.hide(False)
                    _log.warning("the engine answers again")
            except Exception as error:  # if the connection was lost, the worker will be registered anew
                _log.warning("health: %s", error)

    # -------------------------------------------------------------------------------------- commands

    def describe(self) -> Any:
        """Describes the worker, as ``dynamo_worker_info()`` does."""
        registration, model, requests = self._registration, self._engine.model, self._requests
        return {
            "state": self._state,
            "kind": self._engine.kind,
            "endpoint": self._config.endpoint,
            "worker_id": registration.instance_id if registration is not None else None,
            "model": model.name if model is not None else None,
            "in_flight": requests.in_flight,
            "served": requests.served,
            "failed": requests.failed,
            "healthy": requests.problem is None,
            "problem": requests.problem,
        }

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Executes a command."""
        ((command, value),) = request.data.items()
        if command == "info":
            yield self.describe()
        elif command == "shutdown":
            cancelled = await self._shutdown(self._config.drain_ms if value is None else value)
            yield {"drained": cancelled == 0, "cancelled": cancelled}
        elif command == "wait":
            yield {"stopped": await _ends(self._stopped, value)}
        else:
            await self._publish_load(value)
            yield {}

    async def _publish_load(self, load: dict[str, int]) -> None:
        if self._connection is None or self._registration is None:
            raise ClosedError("the worker has stopped")
        if self._state == "lost":
            raise UnavailableError("the connection to the cluster is lost")
        if self._load_publisher is None:
            publisher = self._connection.core.WorkerMetricsPublisher()
            await publisher.create_endpoint(self._registration.endpoint)
            self._load_publisher = publisher
        self._load_publisher.publish(
            load.get("data_parallel_rank"), load.get("active_decode_blocks"), load.get("kv_used_blocks")
        )


async def _ends(future: "asyncio.Future[Any]", timeout_ms: int) -> bool:
    """Whether a future is done within the timeout."""
    done, _ = await asyncio.wait([future], timeout=None if timeout_ms < 0 else timeout_ms / 1000)
    return bool(done)

# SPDX-License-Identifier: Apache-2.0
"""The process's connection to a cluster: a Dynamo runtime that clients, workers, and routers share.

    connection = await acquire(settings)
    endpoint = connection.runtime.endpoint("dynamo.backend.generate")
    unsubscribe = connection.subscribe(lambda event: ...)  # "lost", "restored"
    ...
    unsubscribe()
    await connection.release()

All of it runs on the asyncio event loop. When etcd is unreachable for longer than the lease, Dynamo's runtime
ends for good; the connection detects that, and creates another runtime as soon as it can.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Literal

from dynamo_llm.errors import EngineUnavailableError, UnavailableError
from dynamo_llm.runtime import extras
from dynamo_llm.runtime.cluster import dynamo_import, planes, timeouts
from dynamo_llm.runtime.cluster.backoff import Backoff
from dynamo_llm.runtime.cluster.credentials import Variables
from dynamo_llm.runtime.cluster.servers import wait_for_servers
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.threads import in_thread

_log = logging.getLogger("dynamo_llm.cluster")

Event = Literal["lost", "restored"]

#: Seconds that the event loop must keep running after a runtime's shutdown, for its last callbacks.
_last_callbacks = 0.3

_connections: dict[tuple[Any, ...], "Connection"] = {}


async def acquire(settings: Settings) -> "Connection":
    """Returns the process's connection for these settings, which it creates if needed. The caller must call
    :meth:`Connection.release`.

    :raises UnavailableError: no server responds within ``connect_timeout_ms``; the message names them.
    :raises EngineUnavailableError: NVIDIA Dynamo's package is not installed.
    :raises InvalidConfigError: another connection of the process has conflicting settings.
    """
    key = (*settings.connection_key, id(asyncio.get_running_loop()))
    connection = _connections.get(key)
    if connection is None:
        connection = _connections[key] = Connection(settings, key)
    await connection._join(settings)
    return connection


class Connection:
    """A connection to a cluster. Created by :func:`acquire`."""

    def __init__(self, settings: Settings, key: tuple[Any, ...]) -> None:
        self.settings = settings
        """Those that it was created with."""
        self.core: Any = None
        """Dynamo's module ``dynamo._core``."""
        self.shared: dict[Any, asyncio.Task[Any]] = {}
        """Objects that users of the connection share and that end with :attr:`runtime`; cleared when it
        ends."""
        self._key = key
        self._users = 0
        self._runtime: Any = None
        self._connected = asyncio.Event()
        self._listeners: list[Callable[[Event], None]] = []
        self._opening = asyncio.create_task(self._open(settings.connect_timeout_ms / 1000))
        self._watching: asyncio.Task[None] | None = None
        self._sentinel: asyncio.Future[Any] | None = None

    @property
    def runtime(self) -> Any:
        """Dynamo's current DistributedRuntime; another one after each "restored".

        :raises UnavailableError: the connection is lost, and not restored yet.
        """
        if self._runtime is None:
            raise UnavailableError(f"the connection to {self.settings.address} is lost; it is being restored")
        return self._runtime

    @property
    def is_connected(self) -> bool:
        """Whether :attr:`runtime` is available."""
        return self._runtime is not None

    async def wait(self) -> Any:
        """Waits until the connection is available, and returns :attr:`runtime`."""
        while self._runtime is None:
            await self._connected.wait()
        return self._runtime

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Adds a listener to the state of the connection.

        :param listener: gets "lost" when Dynamo's runtime has ended (its endpoints are not registered any
            more, its clients find no workers), and "restored" when there is another one. Must not block.
        :returns: removes the listener.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def renew(self) -> None:
        """Replaces the runtime, whose entries in the folder of the discovery ``file`` are gone: other
        processes remove those of a process that was paused. The listeners are notified as of a loss.
        """
        if self._runtime is not None and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._restore())

    async def release(self) -> None:
        """Releases the connection; the last release closes it."""
        self._users -= 1
        if self._users > 0:
            return
        if _connections.get(self._key) is self:
            del _connections[self._key]
        for task in (self._opening, self._watching, self._sentinel):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.shared.clear()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.shutdown()
            await asyncio.sleep(_last_callbacks)

    async def _join(self, settings: Settings) -> None:
        self._users += 1
        try:
            await asyncio.shield(self._opening)
            timeouts.claim(settings.timeouts)
        except BaseException:
            if self._opening.done() and _connections.get(self._key) is self:
                del _connections[self._key]  # it failed; the next acquire() tries again
            await self.release()
            raise

    async def _open(self, seconds: float) -> None:
        """Creates Dynamo's runtime, and starts to watch it."""
        loop = asyncio.get_running_loop()
        try:
            self.core = await in_thread(dynamo_import.import_core)
        except ImportError as error:
            raise EngineUnavailableError(
                f"clusters need the Python package of NVIDIA Dynamo ({error}); run: "
                f"{extras.install_command('dynamo')}"
            ) from error
        settings = self.settings
        etcd, nats = await wait_for_servers(settings, seconds)
        planes.claim(settings.planes)
        timeouts.claim(settings.timeouts)
        _require_home()
        with _variables(_of_construction(settings, etcd, nats)):
            try:
                # Blocks with the GIL held, but only for some milliseconds: the servers have just responded.
                runtime = self.core.DistributedRuntime(
                    loop,
                    settings.discovery,
                    settings.request_plane,
                    event_plane=settings.event_plane,
                    response_plane=settings.response_plane,
                )
            except Exception as error:
                raise UnavailableError(f"cannot connect to {settings.address}: {error}") from error
        # Must come before any other call: with NATS, endpoint() waits for the network with the GIL held, and
        # would deadlock with a thread that waits for the GIL, such as one that starts a Dynamo coroutine.
        sentinel: asyncio.Future[Any] | None = None
        if settings.discovery == "etcd":
            try:
                sentinel = await asyncio.wait_for(_sentinel(runtime), seconds)
            except BaseException as error:
                runtime.shutdown()
                if not isinstance(error, Exception):
                    raise
                raise UnavailableError(f"{settings.address} refuses a registration: {error!r}") from error
        self._runtime = runtime
        self._sentinel = sentinel
        self._connected.set()
        if sentinel is not None and self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            assert self._sentinel is not None
            await asyncio.wait([self._sentinel])
            await self._restore()

    async def _restore(self) -> None:
        """Creates another runtime, until that succeeds."""
        _log.warning("the connection to %s is lost; it will be restored", self.settings.address)
        old, self._runtime = self._runtime, None
        self.shared.clear()
        self._connected.clear()
        self._notify("lost")
        if self._sentinel is None:  # it has not ended by itself
            old.shutdown()
            await asyncio.sleep(_last_callbacks)
        backoff = Backoff(0.2, 10.0)
        while self._runtime is None:
            try:
                await self._open(1.0 + self.settings.connect_timeout_ms / 1000)
            except UnavailableError as error:
                _log.info("%s", error)
                await backoff.pause()
            except Exception:  # unexpected; without another attempt it would be lost forever
                _log.exception("the connection to %s could not be restored", self.settings.address)
                await backoff.pause()
        _log.warning("the connection to %s is restored", self.settings.address)
        self._notify("restored")

    def _notify(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("a listener of the connection failed")


async def _sentinel(runtime: Any) -> "asyncio.Future[Any]":
    """Returns a future that is done when Dynamo's runtime has ended by itself.

    Dynamo reports that nowhere, but the endpoints that a runtime serves end with it: the future is that of an
    endpoint with a unique name, which leaves the discovery as soon as it is served.
    """

    async def unused(request: Any) -> Any:
        yield {}

    endpoint = runtime.endpoint(f"dynamo_llm.connection.{secrets.token_hex(8)}")
    serving: asyncio.Future[Any] = asyncio.ensure_future(endpoint.serve_endpoint(unused))
    try:
        await (await endpoint.client()).wait_for_instances()
        await endpoint.unregister_endpoint_instance()
    except BaseException:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        raise
    return serving


# ------------------------------------------------------------------------------------- environment


def _of_construction(settings: Settings, etcd: list[str], nats: list[str]) -> Variables:
    """Returns the variables to set while a runtime is created; None for those that must not be set."""
    # A runtime connects to NATS_SERVER if that is set, even if it does not need it; it takes one URL.
    variables: Variables = {
        "NATS_SERVER": nats[0] if nats else None,
        "ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS": "1",
        "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS": "1",
        **settings.planes.of_construction(),
    }
    if etcd:
        variables["ETCD_ENDPOINTS"] = ",".join(etcd)
    if settings.path:
        variables["DYN_FILE_KV"] = settings.path
    if settings.lease_ttl_s is not None:
        variables["ETCD_LEASE_TTL"] = str(settings.lease_ttl_s)
        # An etcd with its defaults refuses more than one ping in 5 seconds.
        variables["ETCD_KEEPALIVE_INTERVAL_SECONDS"] = str(max(5, settings.lease_ttl_s // 3))
        variables["ETCD_KEEPALIVE_TIMEOUT_SECONDS"] = str(max(1, settings.lease_ttl_s // 3))
    return variables


def _require_home() -> None:
    """Sets HOME if it is not set, as in a service: without it, Dynamo cannot store and find models' files."""
    if not os.environ.get("HOME"):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise UnavailableError(
                "NVIDIA Dynamo stores files of the cluster's models in the home folder, but this process has "
                "none; set the environment variable HOME"
            )
        os.environ["HOME"] = home


@contextlib.contextmanager
def _variables(variables: Variables) -> Iterator[None]:
    """Sets environment variables inside the context, and restores them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    planes.set_variables(variables)
    try:
        yield
    finally:
        planes.set_variables(before)

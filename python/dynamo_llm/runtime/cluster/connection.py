# SPDX-License-Identifier: Apache-2.0
"""The process's connection to a cluster: one of Dynamo's runtimes, shared by clients, workers and routers.

    connection = await acquire(settings)
    endpoint = connection.runtime.endpoint("dynamo.backend.generate")
    forget = connection.subscribe(lambda event: ...)  # "lost", "restored"
    ...
    forget()
    await connection.release()

All of it runs on the loop. When etcd was away for longer than its lease Dynamo's runtime ends by itself and
does not come back; the connection notices, and makes another one as soon as it can.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from dynamo_llm.errors import EngineUnavailableError, UnavailableError
from dynamo_llm.runtime.cluster import noise, planes
from dynamo_llm.runtime.cluster.probe import Pauses, wait_for_servers
from dynamo_llm.runtime.cluster.settings import Settings

_log = logging.getLogger("dynamo_llm.cluster")

Event = Literal["lost", "restored"]

#: Seconds that the loop must go on after a runtime was shut down, for its last callbacks.
_last_callbacks = 0.3

_connections: dict[tuple[Any, ...], "Connection"] = {}


async def acquire(settings: Settings) -> "Connection":
    """The connection for these settings; it is made if the process has none yet. Give it back with
    :meth:`Connection.release`.

    :raises UnavailableError: no server answers within ``connect_timeout_ms``; the message names them.
    :raises EngineUnavailableError: NVIDIA Dynamo's package is not installed.
    :raises InvalidConfigError: another connection of the process has settings that do not go with these.
    """
    key = (*settings.connection_key, id(asyncio.get_running_loop()))
    connection = _connections.get(key)
    if connection is None:
        connection = _connections[key] = Connection(settings, key)
    await connection._join()
    return connection


class Connection:
    """A connection to a cluster. Not made directly: :func:`acquire`."""

    def __init__(self, settings: Settings, key: tuple[Any, ...]) -> None:
        self.settings = settings
        """Those that it was made with."""
        self.core: Any = None
        """Dynamo's module ``dynamo._core``."""
        self.kept: dict[Any, asyncio.Task[Any]] = {}
        """What users of the connection share and what lives as long as :attr:`runtime`; it is emptied when
        that ends, and so must end what is in it."""
        self._key = key
        self._users = 0
        self._runtime: Any = None
        self._is_there = asyncio.Event()
        self._listeners: list[Callable[[Event], None]] = []
        self._opening = asyncio.create_task(self._open(settings.connect_timeout_ms / 1000))
        self._guard: asyncio.Task[None] | None = None
        self._sentinel: asyncio.Future[Any] | None = None

    @property
    def runtime(self) -> Any:
        """Dynamo's DistributedRuntime now; another one after each "restored".

        :raises UnavailableError: the connection is lost, and not restored yet.
        """
        if self._runtime is None:
            raise UnavailableError(f"the connection to {self.settings.address} is lost; it is being restored")
        return self._runtime

    @property
    def is_connected(self) -> bool:
        """Whether :attr:`runtime` is there."""
        return self._runtime is not None

    async def wait(self) -> Any:
        """Wait until the connection is there.

        :returns: :attr:`runtime`
        """
        while self._runtime is None:
            await self._is_there.wait()
        return self._runtime

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Be told of what happens to the connection, on the loop.

        :param listener: gets "lost" when Dynamo's runtime has ended (what it served is not registered any
            more, its clients find nobody), and "restored" when there is another one. Must not block.
        :returns: to be called when it should hear no more.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def release(self) -> None:
        """Give the connection back; the last one who does ends it."""
        self._users -= 1
        if self._users > 0:
            return
        if _connections.get(self._key) is self:
            del _connections[self._key]
        for task in (self._opening, self._guard, self._sentinel):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.kept.clear()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.shutdown()
            await asyncio.sleep(_last_callbacks)

    async def _join(self) -> None:
        self._users += 1
        try:
            await asyncio.shield(self._opening)
        except BaseException:
            if self._opening.done() and _connections.get(self._key) is self:
                del _connections[self._key]  # it failed; the next one tries again
            await self.release()
            raise

    async def _open(self, seconds: float) -> None:
        """Make Dynamo's runtime, and watch it."""
        loop = asyncio.get_running_loop()
        try:
            self.core = await loop.run_in_executor(None, noise.prepare)
        except ImportError as error:
            raise EngineUnavailableError(
                f"the cluster needs the Python package of NVIDIA Dynamo ({error}); run: "
                f"python -m pip install 'dynamo-llm[dynamo]'"
            ) from error
        settings = self.settings
        etcd, nats = await wait_for_servers(settings, seconds)
        planes.claim(settings.planes)
        _find_home()
        with _variables(_of_construction(settings, etcd, nats)):
            try:
                # Blocks with the GIL held, for some milliseconds: the servers have answered just now.
                runtime = self.core.DistributedRuntime(
                    loop, settings.discovery, settings.request_plane, event_plane=settings.event_plane
                )
            except Exception as error:
                raise UnavailableError(f"no connection to {settings.address}: {error}") from error
        # First of all: with NATS, endpoint() waits for the network with the GIL held, and what it waits for
        # may need a thread that waits for the GIL, as one does that has a coroutine of Dynamo's to begin.
        sentinel: asyncio.Future[Any] | None = None
        if settings.discovery == "etcd":
            try:
                sentinel = await asyncio.wait_for(_sentinel(runtime), seconds)
            except BaseException as error:
                runtime.shutdown()
                if not isinstance(error, Exception):
                    raise
                raise UnavailableError(f"{settings.address} takes no registration: {error!r}") from error
        self._runtime = runtime
        self._sentinel = sentinel
        self._is_there.set()
        if sentinel is not None and self._guard is None:
            self._guard = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            assert self._sentinel is not None
            await asyncio.wait([self._sentinel])
            _log.warning("the connection to %s is lost; it will be restored", self.settings.address)
            self._runtime = None
            self.kept.clear()
            self._is_there.clear()
            self._tell("lost")
            pauses = Pauses(0.2, 10.0)
            while self._runtime is None:
                try:
                    await self._open(1.0 + self.settings.connect_timeout_ms / 1000)
                except UnavailableError as error:
                    _log.info("%s", error)
                    await asyncio.sleep(pauses.take())
                except Exception:  # unforeseen; without another try it would be lost for ever
                    _log.exception("the connection to %s could not be restored", self.settings.address)
                    await asyncio.sleep(pauses.take())
            _log.warning("the connection to %s is restored", self.settings.address)
            self._tell("restored")

    def _tell(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("a listener to the connection failed")


async def _sentinel(runtime: Any) -> "asyncio.Future[Any]":
    """What is done when Dynamo's runtime has ended by itself.

    It has no call that says so. But what it serves ends with it: an endpoint with a name of its own, which
    leaves the discovery as soon as it is served.
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


def _of_construction(settings: Settings, etcd: list[str], nats: list[str]) -> dict[str, str | None]:
    """Variables that matter while a runtime is made; None for those that must not be set."""
    # With NATS_SERVER set a runtime connects to it, whether it needs it or not; it takes one URL.
    variables: dict[str, str | None] = {
        "NATS_SERVER": nats[0] if nats else None,
        "ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS": "1",
        "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS": "1",
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
    return {**variables, **settings.planes.of_construction()}


def _find_home() -> None:
    """Dynamo keeps the files of models below HOME, and finds no model without it: a service may have none."""
    if not os.environ.get("HOME"):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise UnavailableError(
                "NVIDIA Dynamo keeps files of the cluster's models in the home folder, but this process has "
                "none; set the environment variable HOME"
            )
        os.environ["HOME"] = home


@contextlib.contextmanager
def _variables(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Inside, the environment has them; afterwards it is as before."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value

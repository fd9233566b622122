# SPDX-License-Identifier: Apache-2.0
"""Runs the application on uvicorn, from its first request to its last."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn

from dynamo_llm.api.runtime import Runtime
from dynamo_llm.server.app import make_app
from dynamo_llm.server.connection import Connection, connection_class
from dynamo_llm.server.in_flight import InFlight
from dynamo_llm.server.settings import Settings

#: Seconds for the errors of cancelled requests to reach their clients.
_farewell = 2.0
#: Bytes of a request's header.
_longest_header = 64 * 1024
#: Seconds between two looks at whether something happened.
_interval = 0.05


class _Server(uvicorn.Server):
    """Leaves signals to the program: they begin a shutdown in which the server still answers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves a runtime over HTTP. Used on one event loop, which is not the library's own.

    :param sockets: bound sockets; the server closes them.
    :param is_local: whether only programs of this machine can connect to them.
    """

    def __init__(
        self, runtime: Runtime, settings: Settings, sockets: Sequence[socket.socket], is_local: bool
    ) -> None:
        self._sockets = list(sockets)
        self._in_flight = InFlight(settings.max_requests)
        config = uvicorn.Config(
            make_app(runtime, settings, self._in_flight, is_local),
            # h11 and not httptools: it bounds the size of a header.
            http=connection_class(settings.header_timeout, settings.write_timeout),
            h11_max_incomplete_event_size=_longest_header,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.idle_timeout,
            timeout_graceful_shutdown=5,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens. Returns when clients can connect."""
        self._serving = asyncio.create_task(self._server.serve(self._sockets))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("uvicorn ended before it served")
            await asyncio.sleep(_interval)

    @property
    def in_flight(self) -> int:
        """Requests that are being served."""
        return self._in_flight.count

    async def stop(self, drain: float, is_urgent: Callable[[], bool]) -> bool:
        """Stops in order: refuses new requests, waits for those in flight, cancels those that are left, and
        closes all connections. Until the requests have ended, the server listens, and ``/health`` is 503.

        :param drain: seconds for requests in flight.
        :param is_urgent: whether to wait no longer; asked often.
        :returns: whether no request was cancelled.
        """
        self._in_flight.close()
        loop = asyncio.get_running_loop()
        end = loop.time() + drain
        while self._in_flight.count and loop.time() < end and not is_urgent():
            await self._in_flight.wait_until_idle(min(_interval, end - loop.time()))
        is_drained = self._in_flight.count == 0
        if not is_drained:
            self._in_flight.cancel_all()
            await self._in_flight.wait_until_idle(_farewell)
            self._abort_connections()
            await self._in_flight.wait_until_idle(_farewell)
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        return is_drained

    def _abort_connections(self) -> None:
        """Ends the requests whose clients do not read, or have not sent everything."""
        for connection in list(self._server.server_state.connections):
            if (
                isinstance(connection, Connection)
                and connection.cycle
                and not connection.cycle.response_complete
            ):
                connection.transport.abort()

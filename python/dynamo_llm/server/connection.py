# SPDX-License-Identifier: Apache-2.0
"""A connection with the timeouts that uvicorn lacks."""

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Bytes that the operating system may keep for a client that does not read. Linux would keep megabytes, and
#: report only after a third of them that a slow client reads.
_send_buffer = 128 * 1024


class Connection(H11Protocol):
    """A connection that is closed if the header of a request takes too long, or if the client reads nothing
    for too long. (uvicorn itself closes idle connections, and bounds the size of a header.)

    It hands at most one message to the operating system at a time: while the client does not read, the answer
    waits, and with it the engine.
    """

    header_timeout: float
    """Seconds from the first byte of a header, or from connecting, to the end of the header."""
    write_timeout: float
    """Seconds in which the client must read something."""

    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for a header."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _send_buffer)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the client."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_header()
        elif self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the request."""
        for timer in (self._header_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Starts to wait until the client reads."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Continues to send."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _expect_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_timeout, self.transport.abort)

    def _expect_reading(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.write_timeout, self._check_reading, unsent)

    def _check_reading(self, unsent: int) -> None:
        if self.transport.get_write_buffer_size() < unsent:
            self._expect_reading()
        else:
            self.transport.abort()


def connection_class(header_timeout: float, write_timeout: float) -> type[Connection]:
    """Returns the class of connections with these timeouts, in seconds: uvicorn takes a class, and passes it
    only its own settings.
    """

    class TimedConnection(Connection):
        pass

    TimedConnection.header_timeout = header_timeout
    TimedConnection.write_timeout = write_timeout
    return TimedConnection

# SPDX-License-Identifier: Apache-2.0
"""The connection to a child process that runs an engine."""

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from dynamo_llm import _core
from dynamo_llm.errors import CancelledError, EngineFailedError, error_of
from dynamo_llm.runtime.child import KILL_TIMEOUT, Child
from dynamo_llm.runtime.engine import Usage
from dynamo_llm.runtime.error_report import as_text, describe
from dynamo_llm.runtime.isolation import frames
from dynamo_llm.runtime.isolation.options import Options
from dynamo_llm.runtime.isolation.outbox import Outbox
from dynamo_llm.runtime.isolation.relay import Failure, Relay

#: Longest interval in seconds between two heartbeats.
_beat = 1.0
#: Seconds that a child may live after it closed its channel.
_linger = 2.0
#: Characters of a line of stderr in an error.
_longest_line = 1000

_log = logging.getLogger("dynamo_llm.isolation")


@dataclass(eq=False, repr=False)
class Link:
    """The child process of an engine, from its start to its end. Used on the event loop."""

    name: str
    """Name of the engine."""
    setup: dict[str, Any]
    """Arguments of the child, see :func:`dynamo_llm.runtime.isolation.server.serve`."""
    options: Options
    on_described: Callable[[dict[str, Any]], None]
    """Called with the engine's description each time that it changes."""
    on_metrics: Callable[[str], None]
    """Called with the engine's own metrics each time that they change."""
    on_progress: Callable[[dict[str, Any]], None]
    """Called with a report of the engine's start: phase, bytes_done, bytes_total, fraction."""
    on_end: "Callable[[Link], None]"
    """Called once if a child that was ready has ended."""

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        module = "dynamo_llm.runtime.isolation.server"
        self._child = Child(module, name=self.name, arguments=self.setup, on_end=self._on_child_ended)
        self._outbox: Outbox | None = None
        self._reader = frames.Reader()
        self._relays: dict[int, Relay] = {}
        self._number = 0
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._problem = ""  # why this process killed the child
        self._is_reading = False
        self._is_closing = False
        self._has_started = False
        self._is_released = False
        self._silent = 0.0  # seconds since the child answered a heartbeat
        self._heartbeats: asyncio.Task[None] | None = None
        self.ready_at = 0.0
        """When the model was loaded, by time.monotonic(); 0 before that."""

    # -------------------------------------------------------------------------------------- start

    async def open(self) -> None:
        """Starts the child and waits until the model is loaded; raises what the engine's start raises."""
        timeout = self.options.start_timeout_ms / 1000 or None
        starting: asyncio.Future[None] | None = None
        begin = time.monotonic()
        try:
            arguments = () if timeout is None else (timeout,)
            starting = self._loop.run_in_executor(None, self._child.start, *arguments)
            await asyncio.shield(starting)
            self._has_started = True
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - begin))
            self._child.channel.setblocking(False)
            self._outbox = Outbox(self._loop, self._child.channel)
            self._loop.add_reader(self._child.channel, self._on_readable)
            self._is_reading = True
            await asyncio.wait_for(asyncio.shield(self._ready), left)
        except BaseException as error:
            self._is_closing = True
            self._stop_reading()
            if starting is not None and not starting.done():
                starting.add_done_callback(lambda _: self._child.kill())
            self._child.kill()
            if self._has_started:
                await asyncio.wait([self._gone], timeout=KILL_TIMEOUT)
                self._release()
            if isinstance(error, asyncio.TimeoutError):
                raise EngineFailedError(
                    f'the engine "{self.name}" did not start in its child process within '
                    f"{self.options.start_timeout_ms} ms "
                    '("isolation_options.start_timeout_ms")',
                    self._details(),
                ) from None
            raise
        self.ready_at = time.monotonic()
        if self.options.heartbeat_timeout_ms > 0:
            self._heartbeats = self._loop.create_task(self._send_heartbeats())

    # ------------------------------------------------------------------------------------ requests

    def add(self, relay: Relay) -> None:
        """Sends a request to the child. Does not block."""
        self._number += 1
        self._relays[self._number] = relay
        relay.send(self._number, self.put)

    def put(self, frame: bytes) -> None:
        """Sends a frame. Does not block."""
        if self._outbox is not None:
            self._outbox.put(frame)

    # --------------------------------------------------------------------------- frames of the child

    def _on_readable(self) -> None:
        try:
            self._read()
        except BlockingIOError:
            pass
        except frames.ProtocolError as error:
            self._kill(f"was killed because it sent a frame that is not valid: {error}")
        except Exception as error:
            _log.exception("a frame of a child process could not be handled")
            self._kill(f"was killed because a frame that it sent could not be handled: {error}")

    def _read(self) -> bool:
        """Handles the frames that have arrived. Returns False at the end of the channel.

        :raises BlockingIOError: nothing has arrived.
        """
        try:
            data = self._child.channel.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            raise BlockingIOError from None
        except OSError:
            data = b""
        if not data:
            self._stop_reading()
            # Usually the child ends now. One that keeps running without a channel is useless.
            self._loop.call_later(_linger, self._kill, "closed its channel and was killed")
            return False
        for kind, number, payload in self._reader.feed(data):
            self._on_frame(kind, number, payload)
        return True

    def _on_frame(self, kind: int, number: int, payload: memoryview) -> None:
        if kind in (frames.CHUNK, frames.ITEM):
            if relay := self._relays.get(number):
                read = frames.read_chunk if kind == frames.CHUNK else frames.read_item
                chunk, tokens = read(payload)
                try:
                    relay.deliver(chunk, tokens)
                except (ValueError, TypeError, MemoryError) as error:
                    del self._relays[number]
                    self.put(frames.frame(frames.CANCEL, number))
                    relay.end(Failure(*describe(error)))
        elif kind == frames.END:
            usage = frames.read_json(payload)
            if not all(isinstance(count, int) and 0 <= count < 1 << 64 for count in usage.values()):
                raise frames.ProtocolError("a token count is not an integer")
            if relay := self._relays.pop(number, None):
                relay.end(cast(Usage, usage))
        elif kind == frames.FAIL:
            failure = self._failure(frames.read_json(payload))
            if relay := self._relays.pop(number, None):
                relay.end(failure)
        elif kind == frames.MODELS:
            self.on_described(frames.read_json(payload))
        elif kind == frames.METRICS:
            self.on_metrics(str(payload, "utf-8", "replace"))
        elif kind == frames.READY:
            self.on_described(frames.read_json(payload))
            if not self._ready.done():
                self._ready.set_result(None)
        elif kind == frames.REFUSED:
            failure = self._failure(frames.read_json(payload))
            names = {status: name for name, status in _core.STATUSES.items()}
            name = names.get(failure.status, EngineFailedError.status_name)
            details = {**json.loads(failure.details), "status": failure.status, "name": name}
            if not self._ready.done():
                self._ready.set_exception(error_of(failure.status, failure.message, json.dumps(details)))
        elif kind == frames.PROGRESS:
            if not self._ready.done():
                self._pass_on(frames.read_json(payload))
        elif kind == frames.PONG:
            self._silent = 0.0
        else:
            raise frames.ProtocolError(f"the kind {kind} is unknown")

    def _pass_on(self, progress: dict[str, Any]) -> None:
        try:
            self.on_progress(progress)
        except (TypeError, ValueError, KeyError) as error:
            raise frames.ProtocolError(f"a report of progress is not valid: {error}") from None
        except CancelledError:  # the task that waits for the child is cancelled, too
            pass

    def _failure(self, error: dict[str, Any]) -> Failure:
        status, message, details = error.get("status"), error.get("message"), error.get("details")
        if not isinstance(status, int) or not -(1 << 31) <= status < 0 or not isinstance(message, str):
            raise frames.ProtocolError("an error has no valid status or message")
        known = dict(details) if isinstance(details, dict) else {}
        known["child"] = {"pid": self._child.pid}
        return Failure(status, as_text(message), json.dumps(known))

    # ------------------------------------------------------------------------------------------ end

    async def _send_heartbeats(self) -> None:
        """Sends heartbeats, and kills a child whose event loop does not answer them in time."""
        timeout = self.options.heartbeat_timeout_ms / 1000
        pause = min(_beat, timeout / 4)
        before = time.monotonic()
        while True:
            self.put(frames.frame(frames.PING))
            await asyncio.sleep(pause)
            now = time.monotonic()
            # Time in which this event loop itself was blocked counts at most as two pauses.
            self._silent += min(now - before, 2 * pause)
            before = now
            if self._silent > timeout:
                self._kill(
                    f"was killed because its event loop did not answer for "
                    f"{self.options.heartbeat_timeout_ms} ms "
                    '("isolation_options.heartbeat_timeout_ms")'
                )
                return

    def _kill(self, problem: str) -> None:
        if not self._gone.done():
            self._problem = self._problem or problem
            self._stop_reading()
            self._child.kill()

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._child.channel)

    def _on_child_ended(self) -> None:
        """The child has ended. Called in the thread that waited for it."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._on_gone)

    def _on_gone(self) -> None:
        """The child has ended. Reads the rest of what it sent, then fails the requests that are left."""
        if self._outbox is not None:
            with contextlib.suppress(Exception):
                while self._is_reading and self._read():
                    pass
            self._stop_reading()
            self._outbox.close()
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        if not self._gone.done():
            self._gone.set_result(None)
        error = EngineFailedError(
            f'the child process of the engine "{self.name}" {self._problem or self._child.ending}',
            self._details(),
        )
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()
        relays, self._relays = self._relays, {}
        failure = Failure(error.status, error.message, json.dumps(error.details))
        for relay in relays.values():
            relay.end(failure)
        if self.ready_at and not self._is_closing:
            _log.error("%s", error.message)
            self.on_end(self)
        self._release()

    def _release(self) -> None:
        """Releases a child that has ended; one whose start failed has released itself."""
        if self._has_started and self._gone.done() and not self._is_released:
            self._is_released = True
            self._child.stop(0.0, 0.0)  # does not block: the child has ended

    def _details(self) -> dict[str, Any]:
        """Returns error details about the child's end."""
        child: dict[str, Any] = {"pid": self._child.pid, "ending": self._child.ending}
        child["stderr"] = [as_text(line[:_longest_line]) for line in list(self._child.last_lines)]
        return {"retriable": True, "child": child}

    async def close(self) -> None:
        """Stops the engine, and the child with it; kills the child if that takes too long."""
        self._is_closing = True
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        if self._gone.done():
            return
        with contextlib.suppress(OSError):
            self._child.channel.shutdown(socket.SHUT_WR)
        await asyncio.wait([self._gone], timeout=self.options.stop_timeout_ms / 1000)
        if not self._gone.done():
            _log.warning('the engine "%s" did not stop in time; its child process is killed', self.name)
            self._child.kill()
            await asyncio.wait([self._gone], timeout=KILL_TIMEOUT)

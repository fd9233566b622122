# SPDX-License-Identifier: Apache-2.0
"""Manages the child processes that render chat templates: one pool for all models of this process.

One worker is started while the first model loads. Up to :data:`_most_workers` are started if all have been
busy for a while, so that a slow template does not delay the others. The workers end when the last model is
released.
"""

import codecs
import contextlib
import itertools
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from dynamo_llm.errors import (
    CancelledError,
    ClosedError,
    DynamoError,
    InvalidRequestError,
    NotSupportedError,
    OverloadedError,
    SystemFailedError,
)
from dynamo_llm.runtime.child import KILL_TIMEOUT, Child, send
from dynamo_llm.runtime.pipeline import marshalled_value

_most_workers = 4
#: Maximum number of models whose templates a worker keeps.
_most_sets = 32
#: Maximum size of a prompt, in bytes.
_most_bytes = 64 << 20
#: Maximum size of the head of an answer, in bytes.
_most_head = 1 << 20
#: Output is buffered until it exceeds this many bytes.
_together = 1 << 16
#: Seconds that all workers must be busy before another one is started.
_short = 0.2
#: Seconds between two checks for cancellation of the request.
_look = 0.05
#: Maximum seconds that a request waits for a worker.
_wait_timeout = 60.0
#: Seconds without work after which a worker ends, unless it is the only one.
_idle = 60.0

#: Environment variables that a worker inherits. It runs untrusted code, which must not find keys there.
_variables = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "TZ", "TZDIR", "TMPDIR")
_prefixes = ("ASAN_", "LSAN_", "MALLOC_", "TSAN_", "UBSAN_")

_errors = {
    kind.status_name.removeprefix("DYNAMO_ERROR_"): kind for kind in (InvalidRequestError, NotSupportedError)
}
_numbers = itertools.count(1)

_Body = Mapping[str, Any]


class Limits(NamedTuple):
    """The cost limits of rendering a template, for one request."""

    seconds: float = 10.0
    """Maximum time in seconds."""
    memory: int = 512 << 20
    """Maximum memory in bytes."""


class TemplateSet:
    """The templates of a model, as they are sent to the workers."""

    def __init__(
        self, sources: Mapping[str, str], special_tokens: Mapping[str, Any], media: Collection[str] = ()
    ) -> None:
        self.number = next(_numbers)
        self.content: list[Any] = [dict(sources), dict(special_tokens), list(media)]


class _EndedError(Exception):
    """The worker's process has ended."""


class _Worker:
    def __init__(self, on_end: "Callable[[_Worker], None]") -> None:
        self.is_busy = True
        self.idle_since = 0.0
        self._known: OrderedDict[int, None] = OrderedDict()
        variables = {
            name: value
            for name, value in os.environ.items()
            if name in _variables or name.startswith(_prefixes)
        }
        self.child = Child(
            "dynamo_llm.runtime.pipeline.template_worker",
            name="templates",
            is_bare=True,
            environment=variables,
            on_end=lambda: on_end(self),
        )
        self.child.start()

    def ask(
        self, templates: TemplateSet, body: _Body | None, limits: Limits, is_cancelled: Callable[[], bool]
    ) -> tuple[dict[str, Any], str]:
        """Renders a template, or only compiles the standard one. Blocks for as long as the limits allow.

        :returns: the head of the answer, and its text.
        :raises TimeoutError: the time limit was exceeded.
        :raises CancelledError: the request was cancelled.
        :raises _EndedError: the worker has ended.
        """
        end = time.monotonic() + limits.seconds
        is_known = templates.number in self._known
        self._known[templates.number] = None
        self._known.move_to_end(templates.number)
        dropped = [self._known.popitem(last=False)[0]] if len(self._known) > _most_sets else []
        header = {"id": templates.number, "drop": dropped, "memory": limits.memory, "most": _most_bytes}
        content = {"set": None if is_known else templates.content, "body": body and dict(body)}
        try:
            unsent = b""  # pieces are sent together, because each send wakes the worker
            for piece in itertools.chain(marshalled_value.dump(header), marshalled_value.dump(content)):
                unsent += piece
                if len(unsent) > _together:
                    self._send(unsent, end)
                    unsent = b""
            self._send(unsent, end)
            answer = b""
            while (length := answer.find(b"\n")) < 0:
                if len(answer) > _most_head:
                    raise _EndedError
                answer += self._receive(end, is_cancelled)
            head: dict[str, Any] = json.loads(answer[:length])
            size = int(head.get("size", 0))
            if size > _most_bytes:
                raise _EndedError
            decoder = codecs.getincrementaldecoder("utf-8")()
            data = answer[length + 1 :]
            texts = [decoder.decode(data)]
            while (size := size - len(data)) > 0:
                data = self._receive(end, is_cancelled)
                texts.append(decoder.decode(data))
            return head, "".join(texts)
        except (ConnectionError, ValueError) as error:
            raise _EndedError from error

    def _send(self, data: bytes, end: float) -> None:
        self.child.channel.settimeout(max(end - time.monotonic(), 0.001))
        send(self.child.channel, data)

    def _receive(self, end: float, is_cancelled: Callable[[], bool]) -> bytes:
        channel = self.child.channel
        while (left := end - time.monotonic()) > 0:
            channel.settimeout(min(left, _look))
            with contextlib.suppress(TimeoutError):
                if data := channel.recv(1 << 20):
                    return data
                raise _EndedError
            if is_cancelled():
                raise CancelledError("the request was cancelled while its chat template ran")
        raise TimeoutError


class TemplatePool:
    """The workers of this process. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._starting = 0
        self._users = 0
        self._is_closed = False
        self._problem: DynamoError | None = None

    def add_user(self, templates: TemplateSet) -> None:
        """Registers a model: prepares a worker that has compiled its standard template. Does not block."""
        with self._changed:
            self._users += 1
        with contextlib.suppress(RuntimeError):  # no thread can be started: the first chat reports that
            threading.Thread(
                target=self._prepare, args=(templates,), name="dynamo-templates", daemon=True
            ).start()

    def remove_user(self) -> None:
        """Unregisters a model. Does not block."""
        with self._changed:
            self._users -= 1
            if self._users == 0:
                for worker in self._idle:
                    worker.child.kill()

    def close(self) -> None:
        """Kills the workers when Python shuts down; requests in flight fail. Does not block."""
        with self._changed:
            self._is_closed = True
            for worker in self._workers:
                worker.child.kill()
            self._changed.notify_all()

    def fill_in(
        self, templates: TemplateSet, body: _Body, limits: Limits, is_cancelled: Callable[[], bool]
    ) -> tuple[str, list[str]]:
        """Renders the prompt of a chat. Blocks; a worker that exceeds the limits is killed.

        :returns: the prompt, and warnings.
        :raises InvalidRequestError: the template rejects the messages, or exceeds a limit.
        :raises NotSupportedError: see :meth:`ChatTemplates.render`.
        :raises SystemFailedError: a worker cannot be started.
        :raises OverloadedError: all workers were busy for too long.
        :raises CancelledError: the request was cancelled.
        """
        try:
            head, text = self._ask(templates, body, limits, is_cancelled)
        except _EndedError:  # it was killed, maybe before it received the request: retry once
            try:
                head, text = self._ask(templates, body, limits, is_cancelled)
            except _EndedError as error:
                raise InvalidRequestError(
                    f"the process that ran the chat template for the request {error}"
                ) from None
        kind = head.get("error")
        if kind is None:
            return text, head["warnings"]
        if kind == "memory":
            raise InvalidRequestError(
                f"the chat template took more than {limits.memory >> 20} MiB of memory for the request, the "
                'limit set by "templates.memory_mb" of the configuration'
            )
        if kind == "size":
            raise InvalidRequestError(
                f"the chat template renders the request as a prompt of more than {_most_bytes >> 20} MiB"
            )
        raise _errors.get(kind, DynamoError)(head["message"])

    def _ask(
        self, templates: TemplateSet, body: _Body | None, limits: Limits, is_cancelled: Callable[[], bool]
    ) -> tuple[dict[str, Any], str]:
        worker = self._take(is_cancelled)
        is_fit = False
        try:
            head, text = worker.ask(templates, body, limits, is_cancelled)
            is_fit = not head["ends"]
            return head, text
        except TimeoutError:
            raise InvalidRequestError(
                f"the chat template took more than {limits.seconds:g} seconds for the request, the limit set "
                'by "templates.timeout_ms" of the configuration'
            ) from None
        except _EndedError:
            worker.child.kill()
            worker.child.wait(KILL_TIMEOUT)
            if self._is_closed:
                raise ClosedError("Python in this process is shutting down") from None
            raise _EndedError(worker.child.ending) from None
        finally:
            self._give_back(worker, is_fit)

    # ------------------------------------------------------------------------------------- workers

    def _take(self, is_cancelled: Callable[[], bool]) -> _Worker:
        start = time.monotonic()
        with self._changed:
            while True:
                if self._is_closed:
                    raise ClosedError("Python in this process is shutting down")
                while self._idle:
                    worker = self._idle.pop()
                    if worker.child.is_running:
                        worker.is_busy = True
                        return worker
                if is_cancelled():
                    raise CancelledError("the request was cancelled while it waited for its chat template")
                count = len(self._workers) + self._starting
                if count == 0 and self._problem is not None:
                    problem, self._problem = self._problem, None
                    raise problem
                if count == 0 or (
                    count < _most_workers and not self._starting and time.monotonic() - start > _short
                ):
                    self._begin()
                self._changed.wait(_look)
                if time.monotonic() - start > _wait_timeout:
                    raise OverloadedError(
                        f"all {_most_workers} processes that run chat templates were busy for "
                        f"{_wait_timeout:g} seconds; try again later"
                    )

    def _give_back(self, worker: _Worker, is_fit: bool) -> None:
        with self._changed:
            worker.is_busy = False
            if is_fit and self._users > 0 and not self._is_closed and worker.child.is_running:
                worker.idle_since = time.monotonic()
                self._idle.append(worker)
                for other in self._idle[:-1]:
                    if other.idle_since < worker.idle_since - _idle:
                        other.child.kill()
                self._changed.notify()
                return
            self._workers.discard(worker)
            if not self._workers and not self._starting and self._users > 0 and not self._is_closed:
                self._begin()
        worker.child.stop(ask=0, terminate=0)

    def _prepare(self, templates: TemplateSet) -> None:
        # The template's errors are reported by its chats.
        with contextlib.suppress(DynamoError, _EndedError):
            # The lambda cancels the start of a worker once there are no more models.
            self._ask(templates, None, Limits(), lambda: self._users == 0)

    def _begin(self) -> None:
        """Starts a worker. Requires ``_changed``."""
        self._starting += 1
        try:
            threading.Thread(target=self._start, name="dynamo-templates", daemon=True).start()
        except RuntimeError as error:  # Python is shutting down, or there are too many threads
            self._starting -= 1
            self._problem = SystemFailedError(f"cannot start a thread for chat templates: {error}")

    def _start(self) -> None:
        worker: _Worker | None = None
        problem: DynamoError | None = None
        try:
            worker = _Worker(self._on_end)
        except SystemFailedError as error:
            problem = SystemFailedError(
                f"chat templates run in a child process: {error.message}. To run them in this process, "
                'without limits, set "templates": {"run": "host"} in the configuration'
            )
        with self._changed:
            self._starting -= 1
            self._problem = problem
            if worker is not None:
                self._workers.add(worker)
        if worker is not None:
            self._give_back(worker, is_fit=True)
        with self._changed:
            self._changed.notify_all()

    def _on_end(self, worker: _Worker) -> None:
        """Removes a worker that has ended. Called by its thread."""
        with self._changed:
            if worker.is_busy:  # the thread that uses the worker will return it
                return
            self._workers.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
        worker.child.stop(ask=0, terminate=0)


pool = TemplatePool()

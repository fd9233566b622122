# SPDX-License-Identifier: Apache-2.0
"""The thread of the asyncio event loop that engines in Python run on.

It takes commands from the library and passes them to the engine instances. Callers never wait for the GIL:
they put commands into a queue of the library and write to a descriptor that the event loop watches.
"""

import asyncio
import atexit
import gc
import json
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from dynamo_llm import _core, runtime
from dynamo_llm.runtime import extras, missing_packages
from dynamo_llm.runtime.cluster.client.errors import error_of_response
from dynamo_llm.runtime.engine import FrontendTarget
from dynamo_llm.runtime.error_report import describe
from dynamo_llm.runtime.instance import Instance
from dynamo_llm.runtime.lingering_threads import LingeringThreads, do_not_join
from dynamo_llm.runtime.log_handler import CoreHandler, follow_level
from dynamo_llm.runtime.secret import redact_all
from dynamo_llm.runtime.threads import DaemonThreads, wait_for_jobs

# The order of host::Command::Kind (cpp/python/host.hpp).
_START, _GENERATE, _CANCEL, _WRITABLE, _STOP, _EXIT, _GENERATE_DATA, _CANCEL_START, _CALL = range(9)
_FRONTEND_ERROR, _ROUTER_CALLS = 9, 10

_CLOSED = _core.STATUSES["DYNAMO_ERROR_CLOSED"]

#: Commands that come with a stream, which must be ended.
_with_stream = (_GENERATE, _GENERATE_DATA, _CALL, _FRONTEND_ERROR)

#: Seconds that requests and engines have to end when Python shuts down.
_exit_timeout = 2.0

#: Seconds after which the process is ended if Python is stuck because C code of an engine holds the GIL.
_exit_limit = 5.0

_log = logging.getLogger("dynamo_llm.host")


def _new_loop() -> asyncio.AbstractEventLoop:
    """Creates the kind of event loop that the environment selects."""
    kind = _core.variable("DYNAMO_LLM_LOOP") or "asyncio"
    if kind == "asyncio":
        return asyncio.new_event_loop()
    if kind != "uvloop":
        raise ValueError(
            f'the environment variable DYNAMO_LLM_LOOP is "{kind}"; it must be "asyncio" or "uvloop"'
        )
    try:
        import uvloop
    except ImportError as error:
        raise ImportError(
            "the environment variable DYNAMO_LLM_LOOP selects uvloop, which is not installed; run: "
            f"{extras.install_command('uvloop')}"
        ) from error
    return uvloop.new_event_loop()


def _set_frontend(number: int, target: FrontendTarget | None) -> None:
    if target is None:
        _core.frontend_remove_target(number)
    else:
        _core.frontend_set_target(number, json.dumps(target))


class Host:
    """The event loop and the engine instances on it.

    :param root_logger: logger whose level follows the library's.
    """

    def __init__(self, root_logger: logging.Logger, owns_python: bool) -> None:
        self.loop = _new_loop()
        self._root_logger = root_logger
        self.owns_python = owns_python
        """Whether the library started Python."""
        self._instances: dict[int, Instance] = {}
        self._starts: dict[int, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._may_stop = False
        self.ended = threading.Event()
        """Set when the event loop has ended."""
        self.lingering_threads = LingeringThreads()
        self._watch_executors()
        if hasattr(os, "eventfd"):
            self._wake_reader = self._wake_writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._sockets = socket.socketpair()
            for end in self._sockets:
                end.setblocking(False)
            self._wake_reader, self._wake_writer = (end.fileno() for end in self._sockets)
        self.loop.set_default_executor(DaemonThreads(32, "dynamo-executor"))
        self.loop.add_reader(self._wake_reader, self._on_wake)
        follow_level(root_logger)
        _core.host_open(self._wake_writer)

    def _watch_executors(self) -> None:
        run = self.loop.run_in_executor

        # asyncio's names, which callers may use as keywords, as vLLM does.
        def run_in_executor(executor: Executor | None, func: Any, *args: Any) -> Any:
            if executor is not None:
                self.lingering_threads.add_executor(executor)
            return run(executor, func, *args)

        with suppress(AttributeError):  # uvloop's event loop does not allow it
            self.loop.run_in_executor = run_in_executor  # type: ignore[assignment, method-assign]

    def run_forever(self) -> None:
        """Runs the event loop in this thread until :meth:`stop`. An engine cannot end it, neither by
        SystemExit or KeyboardInterrupt nor by stopping the loop.
        """
        asyncio.set_event_loop(self.loop)
        _core.host_enter_loop()
        while not self._may_stop:
            try:
                self.loop.run_forever()
                if not self._may_stop:
                    _log.warning("an engine stopped the event loop, which was started again")
            except BaseException:
                _log.exception("the event loop was interrupted and was started again")
        self.ended.set()

    def stop(self) -> None:
        """Ends :meth:`run_forever`. On the event loop."""
        self._may_stop = True
        self.loop.stop()

    def _on_wake(self) -> None:
        # Read before taking the commands: for one that comes in between, the descriptor is written again.
        os.read(self._wake_reader, 4096)
        for kind, number, stream, request_id, text in _core.host_take():
            try:
                self._on_command(kind, number, stream, request_id, text)
            except BaseException as error:
                _log.exception("a command of the library failed")
                if kind in _with_stream:
                    _core.stream_fail(stream, *describe(error))

    def _on_command(self, kind: int, number: int, stream: int, request_id: str, text: str | bytes) -> None:
        instance = self._instances.get(number)  # None if it was stopped, or Python is shutting down
        has_stream = kind in _with_stream
        if has_stream and instance is None:
            _core.stream_fail(stream, _CLOSED, "the engine was stopped", "")
        elif kind == _FRONTEND_ERROR:
            _core.stream_fail(stream, *describe(error_of_response(str(text))))
        elif kind == _CALL and instance is not None:
            instance.call(stream, request_id, str(text))
        elif has_stream and instance is not None:
            instance.generate(stream, request_id, text, is_data=kind == _GENERATE_DATA)
        elif kind == _CANCEL and instance is not None:
            instance.cancel(stream)
        elif kind == _WRITABLE and instance is not None:
            instance.on_writable(stream)
        elif kind == _ROUTER_CALLS:
            self._on_router_calls(instance, _core.router_take(number))
        elif kind == _START:
            self._starts[number] = self._spawn(self._start(number, str(text)))
        elif kind == _CANCEL_START and number in self._starts:
            self.loop.call_soon(
                self._starts[number].cancel
            )  # not before its first step, which reports its end
        elif kind == _STOP:
            self._spawn(self._stop(number))
        elif kind == _EXIT:
            self._spawn(self._exit())

    @staticmethod
    def _on_router_calls(router: Instance | None, calls: list[Any]) -> None:
        error = (_CLOSED, "the engine was stopped", "")
        if router is not None:
            try:
                router.execute(calls)
                return
            except BaseException as failure:
                error = describe(failure)
        for id, *_ in calls:
            _core.router_fail(id, *error)

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _start(self, number: int, text: str) -> None:
        try:
            follow_level(self._root_logger)
            config = json.loads(text)
            for folder in reversed(config.get("python", {}).get("path", [])):
                if folder not in sys.path:
                    sys.path.insert(0, folder)
            instance = Instance(
                config,
                lambda info: _core.host_report_description(number, json.dumps(redact_all(info))),
                lambda lines: _core.host_report_metrics(number, lines),
                partial(_core.host_report_progress, number),
                partial(_set_frontend, number),
            )
            await instance.start()
            self.lingering_threads.add_kind(instance.kind)
        except BaseException as error:
            status, message, details = describe(error)
            _core.host_report_start(number, status, message + missing_packages.hint_for(error), details)
        else:
            self._instances[number] = instance
            _core.host_report_start(number, 0, "", json.dumps(redact_all(instance.info)))

        finally:
            del self._starts[number]

    async def _stop(self, number: int) -> None:
        try:
            if instance := self._instances.pop(number, None):
                await instance.stop()
            self._flush()
        except BaseException:
            _log.exception("an engine failed to stop")
        finally:
            _core.host_report_stop(number)

    def _flush(self) -> None:
        if self.owns_python:  # otherwise the streams belong to the program
            sys.stdout.flush()
            sys.stderr.flush()

    def end_requests(self) -> None:
        """Refuses new commands and ends all requests. Any thread, since the event loop may be blocked."""
        _core.host_close(self.owns_python)
        for instance in list(self._instances.values()):
            instance.end_requests(self.owns_python)
        for kind, _, stream, _, _ in _core.host_take():
            if kind in _with_stream:
                detail = '{"exiting": true}' if self.owns_python else ""
                _core.stream_fail(stream, _CLOSED, "Python in this process is shutting down", detail)

    async def close(self, may_use_threads: bool) -> None:
        """Refuses new commands, and ends requests and engines, within a time limit.

        :param may_use_threads: False during finalization of Python, when no thread can be started.
        """
        self.end_requests()
        instances, self._instances = list(self._instances.values()), {}
        stops = [self.loop.create_task(instance.stop(may_use_threads)) for instance in instances]
        if stops:
            done, _ = await asyncio.wait(stops, timeout=_exit_timeout)
            for stop in done:
                if error := stop.exception():
                    _log.error("an engine failed to stop", exc_info=error)
        if templates := sys.modules.get("dynamo_llm.runtime.pipeline.template_pool"):
            templates.pool.close()

    async def _exit(self) -> None:
        """Does what finalization of Python would do: the process exits without it."""
        try:
            await self.close(may_use_threads=True)
            atexit._run_exitfuncs()
            self._flush()
        finally:
            _core.host_report_exit()


_host: Host | None = None


def open_in_c_program() -> None:
    """Sets up Python in a program that does not run it. Called once, in the thread of :func:`run_forever`."""
    global _host
    # `pip install --target` and `cmake --install` put packages into folders that are not on sys.path.
    packages = str(Path(__file__).resolve().parent.parent.parent)
    if packages not in sys.path:
        sys.path.append(packages)
    root = logging.getLogger()
    root.addHandler(CoreHandler())
    logging.captureWarnings(True)
    runtime.owns_python = True
    host = _host = Host(root, owns_python=True)
    _stop_with_python(host, host.ended.wait)
    # These modules stay. Scanning them in each full garbage collection would stop all engines for 10 ms.
    gc.freeze()


def run_forever() -> None:
    """Runs the event loop of :func:`open_in_c_program`. Returns only if the program finalizes Python."""
    assert _host is not None
    _host.run_forever()


def _require_unpatched() -> None:
    """Refuses a program in which threads, locks, and sockets are green: the event loop would hang.

    :raises RuntimeError: gevent or eventlet has patched the standard library.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_anything_patched():
        name = "gevent"
    elif eventlet is not None and any(map(eventlet.is_monkey_patched, ("thread", "select", "socket", "os"))):
        name = "eventlet"
    else:
        return
    raise RuntimeError(
        f"{name} has monkey-patched Python's standard library in this program, but engines in Python need "
        "real threads. Run them in another program, such as a server that this one sends its requests to"
    )


def open_in_python_program() -> None:
    """Starts the event loop in a thread of a program that runs Python, and stops it when Python exits."""
    global _host
    if _host is not None:
        return
    _require_unpatched()
    logger = logging.getLogger("dynamo_llm")
    logger.addHandler(CoreHandler())
    logger.propagate = False
    host = _host = Host(logger, owns_python=False)
    thread = threading.Thread(target=host.run_forever, name="dynamo-loop", daemon=True)
    thread.start()

    def wait(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    _stop_with_python(host, wait)


def _stop_with_python(host: Host, wait: Callable[[float], bool]) -> None:
    """Stops the host when Python is finalized.

    :param wait: waits for the end of the event loop for at most the given number of seconds; returns whether
        it has ended.
    """

    def stop() -> None:
        start = time.monotonic()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # missing or closed: Python reports that itself
                stream.flush()
        _core.end_process_in(round(_exit_limit * 1000), 1 if hasattr(sys, "last_value") else 0)
        asyncio.run_coroutine_threadsafe(host.close(may_use_threads=False), host.loop).add_done_callback(
            lambda _: host.loop.call_soon_threadsafe(host.stop)
        )
        if not wait(_exit_timeout + 1):
            host.end_requests()
            warnings.warn("dynamo-llm: the thread of the event loop did not stop in time", stacklevel=1)
        left = wait_for_jobs(start + _exit_timeout - time.monotonic())
        left += host.lingering_threads.leave(start + _exit_timeout - time.monotonic())
        if left:
            _log.warning("threads of engines did not end in time and are abandoned: %s", ", ".join(left))
        if host.owns_python:  # threading takes this thread, which never ends, for the main thread
            do_not_join(threading.main_thread())
        _core.end_process_in(-1, 0)

    # Hooks of threading run before Python joins other threads, those of atexit after it.
    getattr(threading, "_register_atexit", atexit.register)(stop)

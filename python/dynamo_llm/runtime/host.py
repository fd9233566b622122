# SPDX-License-Identifier: Apache-2.0
"""The loop thread: takes commands of the core and gives them to the instances of engines.

Callers never wait for this thread's GIL: they put commands into a queue of the core and write to a file
descriptor, on which the loop waits.
"""

import asyncio
import atexit
import json
import logging
import os
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from dynamo_llm import _core
from dynamo_llm.runtime.failure import describe
from dynamo_llm.runtime.instance import Instance
from dynamo_llm.runtime.log import CoreHandler, LogWriter, follow_level

# The order of host::Command::Kind (cpp/python/host.hpp).
_START, _GENERATE, _CANCEL, _SPACE, _STOP, _EXIT, _GENERATE_DATA = range(7)

_CLOSED = _core.STATUSES["DYNAMO_ERROR_CLOSED"]

#: Seconds that requests and engines get to end when Python shuts down.
_exit_patience = 2.0

_log = logging.getLogger("dynamo_llm.host")


def _new_loop() -> asyncio.AbstractEventLoop:
    """The kind of loop that the environment asks for."""
    kind = os.environ.get("DYNAMO_LLM_LOOP", "asyncio")
    if kind == "asyncio":
        return asyncio.new_event_loop()
    if kind != "uvloop":
        raise ValueError(f'the environment variable DYNAMO_LLM_LOOP is "{kind}"; it is "asyncio" or "uvloop"')
    try:
        import uvloop
    except ImportError as error:
        raise ImportError(
            "the environment variable DYNAMO_LLM_LOOP asks for uvloop, which this Python has not: "
            "pip install 'dynamo-llm[uvloop]'"
        ) from error
    return uvloop.new_event_loop()


class Host:
    """Everything that runs on the loop."""

    def __init__(self, root_logger: logging.Logger, owns_python: bool) -> None:
        self.loop = _new_loop()
        self._root_logger = root_logger
        self._owns_python = owns_python
        self._instances: dict[int, Instance] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._thread: int | None = None
        self._may_stop = False
        if hasattr(os, "eventfd"):
            self._wake_reader = self._wake_writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._sockets = socket.socketpair()
            for end in self._sockets:
                end.setblocking(False)
            self._wake_reader, self._wake_writer = (end.fileno() for end in self._sockets)
        self.loop.add_reader(self._wake_reader, self._on_wake)
        follow_level(root_logger)
        _core.host_open(self._wake_writer)

    @property
    def is_this_thread(self) -> bool:
        """Whether the caller runs on the loop, which it must not block."""
        return self._thread == threading.get_ident()

    def run_forever(self) -> None:
        """Run the loop in this thread until :meth:`stop`: neither an engine's SystemExit or KeyboardInterrupt
        ends it, nor an engine that stops the loop.
        """
        asyncio.set_event_loop(self.loop)
        self._thread = threading.get_ident()
        while not self._may_stop:
            try:
                self.loop.run_forever()
                if not self._may_stop:
                    _log.warning("an engine stopped the loop, which goes on for the others")
            except BaseException:
                _log.exception("the loop was interrupted and goes on")

    def stop(self) -> None:
        """End :meth:`run_forever`. To be called on the loop."""
        self._may_stop = True
        self.loop.stop()

    def _on_wake(self) -> None:
        # Read first, then take: a command that comes in between writes again.
        os.read(self._wake_reader, 4096)
        for kind, number, stream, request_id, text in _core.host_take():
            try:
                self._on_command(kind, number, stream, request_id, text)
            except BaseException as error:
                _log.exception("a command of the core failed")
                if kind in (_GENERATE, _GENERATE_DATA):
                    _core.stream_fail(stream, *describe(error))

    def _on_command(self, kind: int, number: int, stream: int, request_id: str, text: str | bytes) -> None:
        instance = self._instances.get(number)  # None: it was stopped, or Python shuts down
        generates = kind in (_GENERATE, _GENERATE_DATA)
        if generates and instance is None:
            _core.stream_fail(stream, _CLOSED, "the engine was stopped", "")
        elif generates and instance is not None:
            instance.generate(stream, request_id, text, is_data=kind == _GENERATE_DATA)
        elif kind == _CANCEL and instance is not None:
            instance.cancel(stream)
        elif kind == _SPACE and instance is not None:
            instance.space(stream)
        elif kind == _START:
            self._spawn(self._start(number, str(text)))
        elif kind == _STOP:
            self._spawn(self._stop(number))
        elif kind == _EXIT:
            self._spawn(self._exit())

    def _spawn(self, coroutine: Any) -> None:
        task = self.loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _start(self, number: int, text: str) -> None:
        try:
            follow_level(self._root_logger)
            config = json.loads(text)
            for folder in reversed(config.get("python", {}).get("path", [])):
                if folder not in sys.path:
                    sys.path.insert(0, folder)
            instance = Instance(config, lambda info: _core.host_report_description(number, json.dumps(info)))
            await instance.start()
        except BaseException as error:
            _core.host_report_start(number, *describe(error))
        else:
            self._instances[number] = instance
            _core.host_report_start(number, 0, "", json.dumps(instance.info))

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
        if self._owns_python:  # else the streams are the program's
            sys.stdout.flush()
            sys.stderr.flush()

    async def close(self) -> None:
        """Refuse new commands, and end requests and engines, within a time limit."""
        _core.host_close()
        instances, self._instances = list(self._instances.values()), {}
        stops = [self.loop.create_task(instance.stop(self._owns_python)) for instance in instances]
        if stops:
            done, _ = await asyncio.wait(stops, timeout=_exit_patience)
            for stop in done:
                if error := stop.exception():
                    _log.error("an engine failed to stop", exc_info=error)

    async def _exit(self) -> None:
        """The process exits, and nobody finalises Python: do what finalising would have done."""
        try:
            await self.close()
            atexit._run_exitfuncs()
            self._flush()
        finally:
            _core.host_report_exit()


_host: Host | None = None


def is_loop_thread() -> bool:
    """Whether the caller runs on the loop, where to wait for the loop is to wait for ever."""
    return _host is not None and _host.is_this_thread


def open_in_c_program() -> None:
    """Set Python up for a program that does not run it. Called once, by the loop thread to be."""
    global _host
    # `pip install --target` and `cmake --install` put packages where sys.path does not lead.
    packages = str(Path(__file__).resolve().parent.parent.parent)
    if packages not in sys.path:
        sys.path.append(packages)
    root = logging.getLogger()
    root.addHandler(CoreHandler())
    logging.captureWarnings(True)
    sys.stdout = LogWriter("python.stdout", logging.INFO)
    sys.stderr = LogWriter("python.stderr", logging.WARNING)
    _host = Host(root, owns_python=True)


def run_forever() -> None:
    """Run the loop of :func:`open_in_c_program`. Does not return."""
    assert _host is not None
    _host.run_forever()


def open_in_python_program() -> None:
    """Start the loop in a thread of a program that runs Python itself; stop it when Python exits."""
    global _host
    if _host is not None:
        return
    logger = logging.getLogger("dynamo_llm")
    logger.addHandler(CoreHandler())
    logger.propagate = False
    host = _host = Host(logger, owns_python=False)
    thread = threading.Thread(target=host.run_forever, name="dynamo-loop", daemon=True)
    thread.start()

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(host.close(), host.loop).add_done_callback(
            lambda _: host.loop.call_soon_threadsafe(host.stop)
        )
        thread.join(_exit_patience + 1)
        if thread.is_alive():
            warnings.warn("dynamo-llm: the loop thread did not stop in time", stacklevel=1)

    # threading's hooks run before Python waits for other threads, atexit's after it.
    getattr(threading, "_register_atexit", atexit.register)(stop)

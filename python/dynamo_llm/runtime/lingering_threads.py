# SPDX-License-Identifier: Apache-2.0
"""Keeps threads of engines that are still working from blocking the exit of Python.

Python joins non-daemon threads, and all threads of ``concurrent.futures``, without a time limit. A thread
of an engine that hangs would keep the program from ending, so it is abandoned, as a daemon thread is.
"""

import concurrent.futures.thread
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import suppress
from types import FrameType
from typing import Any
from weakref import WeakSet


class LingeringThreads:
    """Identifies the threads of engines: those of executors that engines use on the event loop, and those
    with an engine's code on the stack.
    """

    def __init__(self) -> None:
        self._executors: WeakSet[Executor] = WeakSet()
        self._kinds: set[type] = set()

    def add_executor(self, executor: Executor) -> None:
        """Registers an executor that an engine uses."""
        with suppress(TypeError):  # it cannot be weakly referenced or hashed
            self._executors.add(executor)

    def add_kind(self, kind: type) -> None:
        """Registers the class of an engine that was started."""
        self._kinds.add(kind)

    def leave(self, seconds: float) -> list[str]:
        """Waits for the engines' threads for some seconds, and abandons those that are still working after
        that. Returns their names.
        """
        end = time.monotonic() + seconds
        threads = self._at_work()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = [thread for thread in self._at_work() if thread in threads]
        for thread in left:
            do_not_join(thread)
        return [thread.name for thread in left]

    def _at_work(self) -> list[threading.Thread]:
        """The engines' threads that are working and that Python would wait for."""
        # CPython has no public API for these. If they are missing, the threads are joined as usual.
        pools: Iterable[Any] = getattr(concurrent.futures.thread, "_threads_queues", ())
        own = {thread for pool in self._executors for thread in getattr(pool, "_threads", ())}
        stacks = sys._current_frames()
        threads = [
            thread
            for thread in threading.enumerate()
            if thread not in (threading.main_thread(), threading.current_thread())
            and (not thread.daemon or thread in pools)
        ]
        return [
            thread
            for thread in threads
            if (stack := stacks.get(thread.ident or 0)) is not None
            and not (thread in pools and stack.f_code.co_name == "_worker")  # idle
            and (thread in own or self._runs_engine(stack))
        ]

    def _runs_engine(self, stack: FrameType) -> bool:
        frames = (frame for frame, _ in traceback.walk_stack(stack))
        return any(_is_code_of(kind, frame) for frame in frames for kind in self._kinds)


def _is_code_of(kind: type, frame: FrameType) -> bool:
    module = kind.__module__
    name = str(frame.f_globals.get("__name__", ""))
    if module == "__main__":  # the program's own functions are there, too
        qualified = getattr(frame.f_code, "co_qualname", "")  # since Python 3.11
        is_method = isinstance(frame.f_locals.get("self"), kind)
        return name == module and (is_method or qualified.startswith(f"{kind.__qualname__}."))
    if module.startswith("dynamo_llm."):
        module = "dynamo_llm.runtime"
    return name == module or name.startswith(f"{module}.")


def do_not_join(thread: threading.Thread) -> None:
    """Makes Python treat a thread as a daemon that belongs to no pool.

    Since Python 3.13 non-daemon threads are joined nevertheless: the list is not accessible from Python.
    """
    getattr(concurrent.futures.thread, "_threads_queues", {}).pop(thread, None)
    locks, lock = getattr(threading, "_shutdown_locks", None), getattr(thread, "_tstate_lock", None)
    if locks is not None and lock is not None:
        with threading._shutdown_locks_lock:  # type: ignore[attr-defined]
            locks.discard(lock)

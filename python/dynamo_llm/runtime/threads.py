# SPDX-License-Identifier: Apache-2.0
"""Runs functions in daemon threads, which Python does not wait for when it exits.

``concurrent.futures`` and ``asyncio`` run blocking functions in threads that Python joins when it exits:
if an engine hung in one of them, the program would never end.
"""

import asyncio
import contextvars
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")

_Job = tuple[Future[Any], Callable[[], Any]]

#: The threads that are running a job.
_busy: set[threading.Thread] = set()


class DaemonThreads(ThreadPoolExecutor):
    """A pool of daemon threads, which are started when needed. It derives from ``ThreadPoolExecutor`` because
    asyncio accepts no other default executor.
    """

    def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._most = max_workers
        self._name = thread_name_prefix
        self._guard = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._free = [0]  # threads that no job is meant for
        self._started = 0
        self._is_closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a function in a thread. Does not block.

        :raises RuntimeError: the pool was shut down, or it has no thread and none can be started.
        """
        future: Future[Any] = Future()
        with self._guard:
            if self._is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._free[0] > 0:
                self._free[0] -= 1
            elif self._started < self._most:
                self._start_thread()
            self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Makes the threads end after the submitted jobs. Never waits for them."""
        with self._guard:
            self._is_closed = True
            while cancel_futures and not self._jobs.empty():
                if job := self._jobs.get():
                    job[0].cancel()
            for _ in range(self._started):
                self._jobs.put(None)

    def _start_thread(self) -> None:
        work = (self._jobs, self._guard, self._free)  # not the pool, which could then never be collected
        name = f"{self._name}_{self._started}"
        thread = threading.Thread(target=_work, args=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if self._started == 0:
                raise
            return  # one of the others takes the job
        self._started += 1

    def __del__(self) -> None:
        for _ in range(getattr(self, "_started", 0)):
            self._jobs.put(None)


def _work(jobs: "queue.SimpleQueue[_Job | None]", guard: threading.Lock, free: list[int]) -> None:
    def set_free() -> None:
        with guard:
            free[0] += 1

    while job := jobs.get():
        settle(*job, set_free)
        del job  # an idle thread must not keep the last job's objects alive


def settle(
    future: Future[Any], function: Callable[[], Any], on_return: Callable[[], None] = lambda: None
) -> None:
    """Settles a future with what a function returns or raises.

    :param on_return: called after the function and before the future is settled: who waits for the future
        then finds the thread free, and its next job starts no other one.
    """
    thread = threading.current_thread()
    try:
        if not future.set_running_or_notify_cancel():
            on_return()
            return
        _busy.add(thread)
        result = function()
    except BaseException as error:
        on_return()
        future.set_exception(error)
    else:
        on_return()
        future.set_result(result)
    finally:
        _busy.discard(thread)
        del future, function  # an exception's traceback has this frame: no cycle


def wait_for_jobs(seconds: float) -> list[str]:
    """Waits for the jobs of all daemon threads, for at most some seconds.

    Before Python 3.14, ``pthread_exit()`` ends a thread that returns from native code while Python is
    finalized. If the native code is written in Rust, this unwinding aborts the process.

    :returns: the names of the threads whose jobs are still running.
    """
    end = time.monotonic() + seconds
    while _busy and time.monotonic() < end:
        time.sleep(0.002)
    return [thread.name for thread in list(_busy)]


#: For short work of the library itself. Engines have another pool, the loop's, whose threads may all wait for
#: an answer that needs this work.
_pool = DaemonThreads(min(32, (os.cpu_count() or 1) + 4), "dynamo-work")


async def in_pool(
    function: Callable[..., Result], *arguments: Any, pool: DaemonThreads | None = None
) -> Result:
    """Calls a function in a thread of a pool.

    :param pool: the pool; None for the library's own, for functions that take milliseconds.
    """
    return await asyncio.get_running_loop().run_in_executor(pool or _pool, partial(function, *arguments))


def _start_in_thread(function: Callable[..., Result], *arguments: Any) -> "asyncio.Future[Result]":
    # Not a task, which would raise SystemExit and KeyboardInterrupt of the function in the event loop.
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    job: Future[Result] = Future()
    job.add_done_callback(partial(_hand_over, loop, future))
    call = partial(contextvars.copy_context().run, function, *arguments)
    threading.Thread(target=settle, args=(job, call), name="dynamo-blocking", daemon=True).start()
    return future


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function that may block for long, in a thread of its own, so that it never waits for
    another one.

    If the coroutine is cancelled, the function continues in the background and its result is dropped.
    """
    future = _start_in_thread(function, *arguments)
    try:
        return await future
    finally:
        del future


async def in_thread_to_its_end(
    function: Callable[[], Result], undo: Callable[[], Awaitable[object]]
) -> Result:
    """Calls a function as :func:`in_thread` does, for a result that must not be dropped.

    If the coroutine is cancelled, it waits until the function has returned, undoes what it did, and raises
    :class:`asyncio.CancelledError` only then.

    :param undo: called if the function did not raise.
    """
    job = _start_in_thread(function)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        if job.exception() is None:
            await undo()
        raise
    finally:
        del job


def _hand_over(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", job: Future[Any]) -> None:
    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_copy, future, job)


def _copy(future: "asyncio.Future[Any]", job: Future[Any]) -> None:
    if future.done():
        return
    if (error := job.exception()) is None:
        future.set_result(job.result())
    elif isinstance(error, StopIteration):  # which a future does not take
        future.set_exception(RuntimeError(f"the function raised {error!r}"))
    else:
        future.set_exception(error)

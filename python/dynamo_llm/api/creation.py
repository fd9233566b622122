# SPDX-License-Identifier: Apache-2.0
"""Creates runtimes with reports of the progress, and so that the creation can be cancelled."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dynamo_llm import _core

#: Milliseconds that a wait blocks at a time; signal handlers and the callback run in between.
_step = 50


@dataclass(frozen=True)
class Progress:
    """What the creation of a runtime does at present."""

    phase: str
    """``engine`` (the library finds and imports the engine), and then what the engine reports: usually
    ``download``, ``weights``, ``tokenizer``, ``warmup``."""
    model: str
    """Name of the model in the configuration; empty if it has none."""
    bytes_done: int
    """Bytes that have been read or downloaded in this phase."""
    bytes_total: int
    """Their total; 0 if it is not known."""
    fraction: float | None
    """How much of this phase is done, from 0 to 1; None if it is not known."""


class Opening:
    """A runtime that a task opens, while another thread waits for it.

    :param progress: called on the task's event loop. If it raises, the creation is cancelled.
    """

    def __init__(self, progress: Callable[[Progress], object] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._progress = progress
        self._creations: list[_core.Creation] = []
        self._is_cancelled = False
        self.error: BaseException | None = None
        """What ``progress`` raised."""

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Makes this the opening of all runtimes that are created in the current context."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def add(self, creation: _core.Creation) -> None:
        """Notes a creation that this opening can cancel. In the thread that waits."""
        self._creations.append(creation)
        if self._is_cancelled:
            creation.cancel()

    def cancel(self) -> None:
        """Cancels the creation. Does not wait for its end."""
        self._is_cancelled = True  # before the list is read: the other thread appends, and then reads this
        for creation in self._creations:
            creation.cancel()

    def report(self, progress: Progress) -> None:
        """Passes progress on to the task's event loop. In the thread that waits."""
        if self._progress is not None:
            self._loop.call_soon_threadsafe(self._call, self._progress, progress)

    def _call(self, callback: Callable[[Progress], object], progress: Progress) -> None:
        if self._is_cancelled:
            return
        try:
            callback(progress)
        except BaseException as error:
            self.error = error
            self.cancel()
            if not isinstance(error, Exception):
                raise


_current: ContextVar[Opening | None] = ContextVar("dynamo_llm_opening", default=None)


def is_watched(progress: Callable[[Progress], object] | None) -> bool:
    """Whether someone wants the progress of a creation, or may cancel it."""
    return progress is not None or _current.get() is not None


def create_runtime(config_json: str, progress: Callable[[Progress], object] | None) -> _core.Runtime:
    """Creates a runtime. Blocks without holding the GIL; Ctrl-C in the main thread cancels the creation.

    :param progress: called in this thread. If it raises, the creation is cancelled.
    :raises DynamoError: the library refuses the configuration, or the engine cannot be started.
    """
    opening = _current.get()
    creation = _core.Creation(config_json)
    try:
        if opening is not None:
            opening.add(creation)
        while True:
            has_ended = creation.wait(_step)
            for report in creation.take():
                if progress is not None:
                    progress(Progress(*report))
                if opening is not None:
                    opening.report(Progress(*report))
            if has_ended:
                return creation.result()
    except BaseException:
        creation.cancel()
        raise

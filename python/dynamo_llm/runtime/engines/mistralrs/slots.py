# SPDX-License-Identifier: Apache-2.0
"""Limits the number of sequences that mistral.rs computes at once."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Slots:
    """Slots for sequences, granted in the order of the calls. Thread-safe.

    mistral.rs queues sequences beyond ``max_seqs``, but does not report when one leaves its queue. So
    requests are queued here instead.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def taken(self, wanted: int, is_cancelled: Callable[[], bool]) -> Iterator[bool]:
        """Takes slots for the duration of the block. Blocks until they are free.

        :param wanted: number of slots; at most all are taken.
        :param is_cancelled: checked while waiting.
        :returns: yields False if the request was cancelled, and no slot was taken.
        """
        wanted = min(wanted, self._count)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not (has_them := self._waiting[0] is ticket and self._free >= wanted):
                    if is_cancelled():
                        break
                    self._changed.wait(0.05)
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            if has_them:
                self._free -= wanted
        try:
            yield has_them
        finally:
            if has_them:
                with self._changed:
                    self._free += wanted
                    self._changed.notify_all()

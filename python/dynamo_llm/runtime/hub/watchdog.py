# SPDX-License-Identifier: Apache-2.0
"""Counts the bytes of a download, and ends the process when a server is too slow or sends too much."""

import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dynamo_llm.runtime.hub.refusal import AnswerError

#: Seconds between two reports.
_interval = 0.2
#: A download that gets fewer bytes than this within the time limit has stalled.
_least_bytes = 65536
#: Number of times the time limit of one read, HF_HUB_DOWNLOAD_TIMEOUT, that is waited for bytes.
_patience = 6
#: Bytes by which this process may grow while it reads answers of the hub's API.
_most_memory = 512 << 20
#: Bytes that a download may exceed the announced size by, such as repeated ones after a cut connection.
_tolerance = 64 << 20


class Watchdog:
    """Watches a download, in a thread of its own.

    :param report: called with the phase, the bytes so far, and the total; also when nothing has changed, as a
        sign of life.
    :param fail: called once with the reason when a limit is exceeded; ends the process.
    :param seconds: the time limit of one read.
    """

    def __init__(
        self,
        report: Callable[[str, int, int], None],
        fail: Callable[[str], None],
        seconds: float,
    ) -> None:
        self._report = report
        self._fail = fail
        self.limit = seconds * _patience
        self._lock = threading.Lock()
        self._reporting = threading.Lock()  # held while a report is made, so that reports are in order
        self._phase = "resolve"
        self._bytes = self._received = self._total = 0
        self._folder: Path | None = None
        self._since = time.monotonic()
        self._memory = _memory()
        self._report_state()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def download(self, total: int, present: int, folder: Path) -> None:
        """Begins to count the bytes of files.

        :param total: bytes of all files.
        :param present: bytes of those that need not be downloaded.
        :param folder: folder of unfinished files, which another process may be writing.
        """
        with self._lock:
            self._phase, self._total, self._bytes, self._folder = "download", total, present, folder
            self._received = 0
            self._since = time.monotonic()
        self._report_state()

    def add(self, count: int) -> None:
        """Counts bytes of a file; negative if they have to be downloaded again.

        :raises AnswerError: the server sends more than it announced.
        """
        with self._lock:
            self._bytes += count
            self._received += max(count, 0)
            if self._total and self._bytes > self._total + _tolerance:
                raise AnswerError(f"it sends more than the {self._total} bytes that it announced")

    def receive(self, count: int) -> None:
        """Notes bytes from the network."""
        with self._lock:
            self._received += max(count, 0)

    def finish(self) -> None:
        """Reports the end of the download."""
        with self._lock:
            self._bytes = self._total
        self._report_state()

    def _report_state(self) -> None:
        with self._reporting:
            with self._lock:
                state = self._phase, self._bytes, self._total
            self._report(*state)

    def _activity(self) -> int:
        """A number that grows while this or another process downloads into the folder."""
        sizes = 0
        if self._folder is not None and self._folder.is_dir():
            for path in self._folder.glob("*.incomplete"):
                try:
                    sizes += path.stat().st_size
                except OSError:  # it was finished
                    sizes += _least_bytes
        return self._received + sizes

    def _watch(self) -> None:
        mark, since = 0, self._since
        while True:
            time.sleep(_interval)
            self._report_state()
            with self._lock:
                phase, start = self._phase, self._since
            now = time.monotonic()
            activity = self._activity()
            if start != since:
                mark, since = activity, start
            if phase == "download" and abs(activity - mark) >= _least_bytes:
                mark = activity
                with self._lock:
                    self._since = since = now
            if now - since > self.limit:
                what = "no answer" if phase == "resolve" else f"fewer than {_least_bytes} bytes"
                return self._fail(f"{what} came within {self.limit:g} seconds")
            if phase == "resolve" and _memory() - self._memory > _most_memory:
                return self._fail(f"an answer has more than {_most_memory >> 20} MiB")

    def touch(self) -> None:
        """Notes that work goes on, such as the end of a file."""
        with self._lock:
            self._since = time.monotonic()


def _memory() -> int:
    """The largest size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

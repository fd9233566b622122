# SPDX-License-Identifier: Apache-2.0
"""Redirects sys.stdout and sys.stderr to the log in a program that does not run Python itself.

cpp/python/interpreter.cpp runs this file and calls :func:`redirect` before Python imports ``site``, so that
output of a ``sitecustomize`` or a ``.pth`` file does not reach the host's stdout either. No other code
imports this file. It may import only modules that Python has loaded by then, because ``site`` must find
Python in its usual state.
"""

import io
import sys
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_INFO, _WARNING = 2, 3  # DYNAMO_LOG_INFO, DYNAMO_LOG_WARNING


class _LogLines(io.BufferedIOBase):
    """Converts each line to a log record."""

    #: Maximum bytes of an incomplete line to keep; a longer line becomes several records.
    _most = 1 << 16

    def __init__(self, write_log: "Callable[[int, str, str], None]", level: int, name: str) -> None:
        self.name = f"<{name}>"
        self._write_log = write_log
        self._level = level
        self._logger = f"python.{name}"
        self._rest = bytearray()
        self._lock = RLock()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        with self._lock:
            self._rest += data
            *lines, self._rest = self._rest.split(b"\n")
            if len(self._rest) > self._most:
                lines.append(self._rest)
                self._rest = bytearray()
        self._log(lines)
        return len(data)

    def flush(self) -> None:
        with self._lock:
            line, self._rest = self._rest, bytearray()
        self._log([line])

    def _log(self, lines: list[bytearray]) -> None:
        # Must not hold the lock: the host's log callback may wait for a thread that prints, too.
        for line in lines:
            if line.strip():
                text = line.decode("utf-8", "backslashreplace")
                self._write_log(self._level, self._logger, text.replace("\0", "\\x00"))


def redirect(write_log: "Callable[[int, str, str], None]") -> None:
    """Replaces both streams. ``write_log`` takes a level, a logger's name, and a message."""
    for name, level in (("stdout", _INFO), ("stderr", _WARNING)):
        # write_through logs a line as soon as it ends, and avoids waiting for the lock of a buffer.
        stream = io.TextIOWrapper(
            _LogLines(write_log, level, name),
            encoding="utf-8",
            errors="backslashreplace",
            newline="\n",
            write_through=True,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)

# SPDX-License-Identifier: Apache-2.0
"""Brings what Python says to the library's log."""

import io
import logging
import threading

from dynamo_llm import _core

#: Levels of :mod:`logging` for the library's, DYNAMO_LOG_TRACE to DYNAMO_LOG_OFF.
_python_levels = [1, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL + 1]


class CoreHandler(logging.Handler):
    """Hands log records to the library, which hands them to the host's callback."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit without the handler's lock: the callback may wait for a thread that logs, too."""
        if passes := bool(self.filter(record)):
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback if it has one."""
        try:
            level = next(i for i in range(4, -1, -1) if record.levelno >= _python_levels[i] or i == 0)
            text = self.format(record).encode("utf-8", "backslashreplace").decode("utf-8")
            _core.log(level, record.name, text)
        except Exception:  # logging must not raise
            self.handleError(record)


class LogWriter(io.TextIOBase):
    """Stands in for stdout or stderr: lines become log records, for the host's streams are its own."""

    def __init__(self, logger: str, level: int) -> None:
        self._logger = logging.getLogger(logger)
        self._level = level
        self._line = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        """Whether it can be written to: yes."""
        return True

    def write(self, text: str) -> int:
        """Log the whole lines of what came so far."""
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.log(self._level, "%s", line)
        return len(text)

    def flush(self) -> None:
        """Log what is left, although its line has not ended."""
        if self._line:
            self.write("\n")


def follow_level(logger: logging.Logger) -> None:
    """Give a logger the least level that the library delivers at present."""
    logger.setLevel(_python_levels[_core.log_level()])

# SPDX-License-Identifier: Apache-2.0
"""Forwards Python's log records to the library's log."""

import logging

from dynamo_llm import _core
from dynamo_llm.runtime.error_report import as_text
from dynamo_llm.runtime.secret import redact

#: Levels of :mod:`logging` that the library's levels, DYNAMO_LOG_TRACE to DYNAMO_LOG_OFF, correspond to.
_python_levels = [1, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL + 1]


class CoreHandler(logging.Handler):
    """Passes log records to the library, which passes them to the program's callback."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Emits a record without the handler's lock: the callback may wait for a thread that logs, too."""
        if passes := bool(self.filter(record)):
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        """Passes one record on, with its traceback if it has one."""
        try:
            level = next(i for i in range(4, -1, -1) if record.levelno >= _python_levels[i] or i == 0)
            text = as_text(redact(self.format(record))).replace("\0", "\\x00")  # NUL ends C strings
            _core.log(level, as_text(record.name), text)
        except Exception:  # logging must not raise
            self.handleError(record)


def follow_level(logger: logging.Logger) -> None:
    """Sets a logger's level to the least that the library currently delivers."""
    logger.setLevel(_python_levels[_core.log_level()])

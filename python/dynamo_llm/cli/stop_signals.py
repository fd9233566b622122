# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM for commands that serve."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _StopError(BaseException):
    """SIGINT or SIGTERM arrived before the command served."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        """The exit code that a shell reports for a program ended by this signal."""


class StopSignals:
    """Counts SIGINT and SIGTERM from :meth:`starting` on."""

    def __init__(self) -> None:
        self.count = 0
        """How many have arrived since the end of :meth:`starting`."""
        self._is_starting = True

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Ends the process at the first signal during the block, which loads a model."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._on_signal)
            yield
            self._is_starting = False
        except _StopError as stop:
            os._exit(
                stop.code
            )  # a normal exit would wait until the model is loaded; there is nothing to flush

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self._is_starting:
            raise _StopError(number)
        self.count += 1

# SPDX-License-Identifier: Apache-2.0
"""Keeps what is typed while the command prints for its next prompt."""

import contextlib
import sys
from collections.abc import Iterator

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Does not show what is typed meanwhile on the terminal of standard input, and leaves it to be read
    later, keys such as Enter and Backspace unchanged. Ctrl-C still interrupts. Without a terminal, does
    nothing.
    """
    if termios is None or not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    changed = termios.tcgetattr(fd)
    changed[0] &= ~termios.ICRNL
    changed[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)

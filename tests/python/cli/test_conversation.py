# SPDX-License-Identifier: Apache-2.0
"""A conversation on a pseudo-terminal."""

import json
import os
import pty
import select
import sys
import time
from collections.abc import Iterator

import pytest
from conftest import engine, patience

slow = '{"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}}'
#: Sent when a line can be typed: enables bracketed paste.
PROMPT = b"\x1b[?2004h"


class Terminal:
    """The command behind a terminal: sends keys, and waits for output."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # This terminal does not report its cursor position.
            os.environ.update(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1")
            os.execv(sys.executable, [sys.executable, "-m", "dynamo_llm", "chat", *words])
        self.shown = b""
        self.code: int | None = None

    def expect(self, text: bytes) -> None:
        """Waits until a text is shown, and discards everything up to it."""
        deadline = time.monotonic() + patience
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], self.shown
            self.shown += os.read(self.fd, 4096)
        self.shown = self.shown.partition(text)[2]

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def wait(self) -> int:
        """Returns the exit code."""
        deadline = time.monotonic() + patience
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
                return self.code
            assert time.monotonic() < deadline, self.shown
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self.fd, 4096)
                except OSError:
                    time.sleep(0.01)  # closed by the command, which is about to end


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal("--config", slow)
    yield opened
    if opened.code is None:
        os.kill(opened.pid, 9)
        os.waitpid(opened.pid, 0)
    os.close(opened.fd)


def test_ctrl_c(terminal: Terminal) -> None:
    """Ctrl-C stops an answer, not the program; at the prompt, pressed twice, it exits."""
    terminal.expect(PROMPT)
    terminal.type(b"word\r")
    terminal.expect(b"wordword")
    terminal.type(b"\x03")
    terminal.expect(b"stopped")
    terminal.expect(PROMPT)
    terminal.type(b"\x03")
    terminal.expect(b"Press Ctrl-C again to leave.")
    terminal.expect(PROMPT)
    terminal.type(b"\x03")
    assert terminal.wait() == 0


def test_ctrl_c_while_the_model_loads() -> None:
    """The terminal shows the phase; Ctrl-C ends the command quietly."""
    loading = json.dumps(engine("loading:Threaded", options={"seconds": 1000}))
    terminal = Terminal("--config", loading)
    try:
        terminal.expect(b"Loading the model: weights")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        assert b"Traceback" not in terminal.shown and b"dynamo-llm:" not in terminal.shown
    finally:
        if terminal.code is None:
            os.kill(terminal.pid, 9)
            os.waitpid(terminal.pid, 0)
        os.close(terminal.fd)


def test_commands_and_ctrl_d(terminal: Terminal) -> None:
    """An unknown command prints the help; Ctrl-D exits."""
    terminal.expect(PROMPT)
    terminal.type(b"/nope\r")
    terminal.expect(b"Unknown command /nope.")
    terminal.expect(b"/clear")
    terminal.expect(PROMPT)
    terminal.type(b"/clear\r")
    terminal.expect(b"The conversation starts anew.")
    terminal.expect(PROMPT)
    terminal.type(b"\x04")
    assert terminal.wait() == 0

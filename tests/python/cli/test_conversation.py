# SPDX-License-Identifier: Apache-2.0
"""A conversation on a pseudo-terminal."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from conftest import engine, patience
from pictures import image_part, message, noise
from wire import Call, Wire

slow = '{"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}}'
#: Sent when a line can be typed: enables bracketed paste.
PROMPT = b"\x1b[?2004h"
#: Shown after an answer; a narrow terminal breaks the line before it.
ANSWERED = b"total"


class Terminal:
    """The command behind a terminal: sends keys, and waits for output."""

    def __init__(self, *words: str, state: Path, size: tuple[int, int] = (24, 200)) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # This terminal does not report its cursor position.
            os.environ.update(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", XDG_STATE_HOME=str(state))
            for name in ("COLUMNS", "LINES"):  # of pytest's own terminal; they would override the size
                os.environ.pop(name, None)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.execv(sys.executable, [sys.executable, "-m", "dynamo_llm", "chat", *words])
        self.shown = b""
        self.whole = b""
        self.code: int | None = None

    def expect(self, text: bytes) -> None:
        """Waits until a text is shown, and discards everything up to it."""
        deadline = time.monotonic() + patience
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], self.shown
            self._read()
        self.shown = self.shown.partition(text)[2]

    def _read(self) -> None:
        data = os.read(self.fd, 4096)
        self.shown += data
        self.whole += data

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
                    self._read()
                except OSError:
                    time.sleep(0.01)  # closed by the command, which is about to end


Open = Callable[..., Terminal]


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator[Open]:
    """Opens terminals, whose runs of the command share a folder for state."""
    opened: list[Terminal] = []

    def open_one(*words: str, **more: Any) -> Terminal:
        opened.append(Terminal(*words, state=tmp_path / "state", **more))
        return opened[-1]

    yield open_one
    for one in opened:
        if one.code is None:
            os.kill(one.pid, 9)
            os.waitpid(one.pid, 0)
        os.close(one.fd)


@pytest.fixture
def terminal(open_terminal: Open) -> Terminal:
    return open_terminal("--config", slow)


@pytest.fixture
def echo(open_terminal: Open) -> Terminal:
    return open_terminal("--engine", "echo")


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


def test_ctrl_c_while_the_model_loads(open_terminal: Open) -> None:
    """The terminal shows the phase; Ctrl-C ends the command quietly."""
    loading = json.dumps(engine("loading:Threaded", options={"seconds": 1000}))
    terminal = open_terminal("--config", loading)
    terminal.expect(b"Loading the model: weights")
    terminal.type(b"\x03")
    assert terminal.wait() == 130
    assert b"Traceback" not in terminal.shown and b"dynamo-llm:" not in terminal.shown


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


def leave(terminal: Terminal) -> None:
    terminal.expect(PROMPT)
    terminal.type(b"\x04")
    assert terminal.wait() == 0


def save(terminal: Terminal, file: Path) -> list[dict[str, Any]]:
    """Saves the conversation, and returns its messages."""
    terminal.expect(PROMPT)
    terminal.type(f"/save {file}\r".encode())
    terminal.expect(b"Saved")
    messages: list[dict[str, Any]] = json.loads(file.read_text())["messages"]
    return messages


def test_several_lines(echo: Terminal, tmp_path: Path) -> None:
    """Alt-Enter, Ctrl-J, and a pasted text make one message of several lines."""
    for keys in (b"a\x1b\rb\r", b"c\nd\r", b"\x1b[200~e\nf\r\ng\x1b[201~\r"):
        echo.expect(PROMPT)
        echo.type(keys)
        echo.expect(ANSWERED)
    messages = save(echo, tmp_path / "saved.json")
    assert [one["content"] for one in messages if one["role"] == "user"] == ["a\nb", "c\nd", "e\nf\ng"]
    leave(echo)


def test_set(echo: Terminal, tmp_path: Path) -> None:
    """The library checks keys and values; what is set goes into requests."""
    for line, shown in (
        ("/set", b"Nothing is set."),
        ("/set temperature 3", b"must be from 0 to 2"),
        ("/set temprature 1", b'did you mean "temperature"'),
        ("/set messages []", b"it is the conversation"),
        ("/set n 2", b"one answer"),
        ("/set timeout 5", b"unknown key"),
        ("/set temperature 0.5", b"temperature = 0.5"),
        ("/set stop END", b'stop = "END"'),
        ("/set stop", b"stop is unset."),
        ("/set max_tokens 1", b"max_tokens = 1"),
        ("/set", b"max_tokens = 1"),
        ("/set temperature", b"temperature is unset."),
    ):
        echo.expect(PROMPT)
        echo.type(line.encode() + b"\r")
        echo.expect(shown)
    echo.expect(PROMPT)
    echo.type(b"one two three\r")
    echo.expect(ANSWERED)
    assert save(echo, tmp_path / "saved.json")[1]["content"].strip() == "one"
    leave(echo)


def test_save_and_load(open_terminal: Open, tmp_path: Path) -> None:
    """A conversation continues in another run; other files are neither overwritten nor loaded."""
    file, other = tmp_path / "saved é.json", tmp_path / "other.txt"
    other.write_text("precious")
    first = open_terminal("--engine", "echo", "--system", "be brief")
    first.expect(PROMPT)
    first.type(f"/save {file}\r".encode())
    first.expect(b"no messages yet")
    first.expect(PROMPT)
    first.type("größe\r".encode())
    first.expect(ANSWERED)
    for line in (f"/save {other}", f"/load {other}", "/load", "/load /no/such", "/load /dev/zero"):
        first.expect(PROMPT)
        first.type(line.encode() + b"\r")
        first.expect(b"/load:" if line.startswith("/load") else b"/save:")
    assert other.read_text() == "precious"
    saved = save(first, file)
    assert [one["role"] for one in saved] == ["system", "user", "assistant"]
    assert file.stat().st_mode & 0o777 == 0o600
    leave(first)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"messages": [{"content": "a"}]}')
    second = open_terminal("--engine", "echo")
    second.expect(PROMPT)
    second.type(f"/load {wrong}\r".encode())
    second.expect(b'needs a string "role"')
    second.expect(PROMPT)
    second.type(f"/load {file}\r".encode())
    second.expect(b"Loaded 3 messages")
    second.expect(PROMPT)
    second.type(b"more\r")
    second.expect(ANSWERED)
    assert save(second, file)[:3] == saved
    leave(second)


def test_image(echo: Terminal, open_terminal: Open, tmp_path: Path) -> None:
    """Engines without vision refuse it by name; for others it becomes a part of the next message."""
    echo.expect(PROMPT)
    echo.type(b"/image x.png\r")
    echo.expect(b'the engine "echo" takes no images; the engines "openai"')
    leave(echo)
    image = tmp_path / "dot.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    (tmp_path / "a.txt").write_text("text")

    async def reply(call: Call) -> None:
        choice = {"index": 0, "delta": {"content": "a dot"}, "finish_reason": "stop"}
        await call.begin()
        await call.events({"choices": [choice]}, "[DONE]")
        await call.end()

    wire = Wire()
    try:
        wire.replies = [reply]
        options = {"base_url": wire.url, "check_server": False}
        other = open_terminal("--config", json.dumps({"engine": "openai", "model": "m", "options": options}))
        other.expect(PROMPT)
        other.type(f"/image {tmp_path}/a.txt\r".encode())
        other.expect(b"is not a PNG")
        other.expect(PROMPT)
        other.type(f"/image {image}\r".encode())
        other.expect(b"goes with the next message")
        other.expect(PROMPT)
        other.type(b"what is it?\r")
        other.expect(b"a dot")
        leave(other)
    finally:
        wire.close()
    picture, text = wire.calls[0].body["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "what is it?"}


def test_image_with_mistralrs(open_terminal: Open, tmp_path: Path) -> None:
    """A model that reads images gets them, and the conversation keeps them; the demo model takes none."""
    demo = open_terminal()
    demo.expect(PROMPT)
    demo.type(b"/image x.png\r")
    demo.expect(b"this model takes no images; models of Gemma 3 do")
    leave(demo)
    (tmp_path / "red.png").write_bytes(noise(1))
    model = tiny_models.gemma3(tmp_path / "model")
    terminal = open_terminal("--model", str(model), "--max-tokens", "4")
    terminal.expect(PROMPT)
    terminal.type(f"/image {tmp_path}/red.png\r".encode())
    terminal.expect(b"goes with the next message")
    terminal.expect(PROMPT)
    terminal.type(b"what is it?\r")
    terminal.expect(ANSWERED)
    first = save(terminal, tmp_path / "saved.json")[0]
    assert first == message(image_part(noise(1)), "what is it?")
    leave(terminal)


def test_history_of_earlier_runs(open_terminal: Open, tmp_path: Path) -> None:
    """The key Up brings back what was typed in an earlier run, unless it was not to be kept."""
    for words, line in (((), b"first\x1b\rline"), (("--no-history",), b"secret")):
        one = open_terminal("--engine", "echo", *words)
        one.expect(PROMPT)
        one.type(line + b"\r")
        one.expect(ANSWERED)
        leave(one)
    file = tmp_path / "state" / "dynamo-llm" / "chat_history"
    assert [json.loads(line) for line in file.read_text().splitlines()] == ["first\nline"]
    assert file.stat().st_mode & 0o777 == 0o600
    again = open_terminal("--engine", "echo")
    again.expect(PROMPT)
    again.type(b"\x1b[A\r")
    again.expect(ANSWERED)
    assert save(again, tmp_path / "saved.json")[0]["content"] == "first\nline"
    leave(again)


def test_typed_ahead(open_terminal: Open, tmp_path: Path) -> None:
    """What is typed during an answer is not shown in it, and is the next message."""
    config = '{"engine": "echo", "options": {"repeat": 40, "tokens_per_second": 20}}'
    terminal = open_terminal("--config", config)
    terminal.expect(PROMPT)
    terminal.type(b"word\r")
    terminal.expect(b"wordword")
    terminal.type(b"typed\x7fd ahead\r")
    terminal.expect(ANSWERED)
    assert b"typed" not in terminal.whole.partition(ANSWERED)[0]
    terminal.expect(b"typed ahead")
    terminal.expect(b"typed aheadtyped")
    terminal.type(b"\x03")
    terminal.expect(b"stopped")
    assert save(terminal, tmp_path / "saved.json")[2]["content"] == "typed ahead"
    leave(terminal)


def test_markdown(open_terminal: Open) -> None:
    """Answers are rendered, with nothing left out; --plain prints them as they are."""
    text = b"# Title\n\nsome **bold** vector<int>\nnext line\n\n- one\n\n```\nint x;\n```\n\n[a](http://b.c)"
    for words, expected in (
        ((), (b"Title", b"\x1b[1mbold\x1b[0m vector<int>", b"next line", b"one", b"int x;", b"http://b.c")),
        (("--plain",), (b"# Title", b"**bold**", b"- one", b"```", b"[a](http://b.c)")),
    ):
        terminal = open_terminal("--engine", "echo", *words, size=(24, 60))
        terminal.expect(PROMPT)
        terminal.type(b"\x1b[200~" + text + b"\x1b[201~")
        terminal.expect(b"b.c)")
        terminal.type(b"\r")
        for part in expected:
            terminal.expect(part)
        terminal.expect(ANSWERED)
        answer = terminal.whole.rpartition(b"\x1b[?2004l")[2]
        assert (b"**bold**" in answer) == bool(words)
        assert b"\x1b]" not in answer  # no hyperlinks, which hide where they lead
        leave(terminal)


def test_long_answer(open_terminal: Open) -> None:
    """Of an answer that is higher than the terminal, each line is there once in the end."""
    lines = "\n".join(f"line{number}" for number in range(40))
    script = [{"text": f"{line}\n"} for line in lines.splitlines()]
    config = json.dumps(
        {"engine": "scripted", "options": {"script": [{**one, "delay_ms": 5} for one in script]}}
    )
    terminal = open_terminal("--config", config, size=(10, 60))
    terminal.expect(PROMPT)
    terminal.type(b"x\r")
    terminal.expect(ANSWERED)
    # What stays is printed after the last drawing of the unfinished block was erased.
    final = terminal.whole.partition(ANSWERED)[0].rpartition(b"\x1b[?25h")[2]
    assert re.findall(rb"line\d+", final) == lines.encode().split()
    leave(terminal)

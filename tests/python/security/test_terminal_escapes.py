# SPDX-License-Identifier: Apache-2.0
"""Text of models, servers, files, and errors cannot control a terminal, or forge a log record."""

import json
import logging
import os
import pty
import re
import select
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Ask, engine, patience, run, run_python
from dynamo_llm import paths
from dynamo_llm.printable import dump_json, one_line, printable
from dynamo_llm.runtime.log_handler import CoreHandler
from reliability import reliability
from wire import Call, Wire

#: Escape sequences of both kinds, the bell, overwriting, bidirectional controls, separators.
evil = "A\x9b31mB\x1b]0;own\x07C\u202egnp\u2066D\rE\bF\x7fG\x85H\u2028I\u2029J\u200fK\x00L"
unsafe = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def test_functions() -> None:
    assert printable("a\tb\nc äß€😀 \u200d") == "a\tb\nc äß€😀 \u200d"
    assert one_line("a\tb\nc") == "a\tb\\nc"
    assert printable("\x1b[31m\r\x7f\x9b\u202e\ud800") == "\\x1b[31m\\r\\x7f\\u009b\\u202e\\ud800"
    for text in (evil, "\ud83d\ude00", "\ud800", 'a\nb\t"\\', "äß€😀"):
        assert not unsafe.search(printable(text).replace("\n", "")) and not unsafe.search(one_line(text))
        line = dump_json({"a": [text]})
        assert json.loads(line) == {"a": [json.loads(json.dumps(text))]}
        assert not unsafe.search(line) and line.encode()


def on_terminal(*command: str, env: dict[str, str] | None = None) -> str:
    """Returns what the command writes to a terminal."""
    process, fd = pty.fork()
    if process == 0:
        clean = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **(env or {})}
        os.execve(sys.executable, [sys.executable, "-m", "dynamo_llm", *command], clean)
    written, end = b"", time.monotonic() + patience
    while time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], 0.5)
        try:
            data = os.read(fd, 65536) if ready else None
        except OSError:
            break
        if data == b"":
            break
        written += data or b""
    os.close(fd)
    os.waitpid(process, 0)
    return written.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def piped(*command: str, env: dict[str, str] | None = None) -> str:
    """Returns what the command writes to a pipe."""
    result = run([sys.executable, "-m", "dynamo_llm", *command], env)
    return result.stdout + result.stderr


def check(text: str) -> None:
    """Checks that none of the evil text is unescaped. The control sequences of rich do not count."""
    text = re.sub("\x1b\\[(\\?25[lh]|[0-9;]*[mAK])", "", text).replace("\r", "")
    assert text and not unsafe.search(text), repr(text)


script = json.dumps({"engine": "scripted", "options": {"script": [{"text": evil.replace("\x00", "")}]}})
failing = json.dumps({"engine": "scripted", "options": {"script": [{"error": {"message": evil[:-2]}}]}})


@pytest.mark.many(5)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    "command",
    [
        ["chat", "--config", script, "hi"],
        ["chat", "--config", failing, "hi"],
        ["bench", "--config", failing, "--requests", "2"],
        ["chat", "--engine", f"no{evil[:-2]}", "hi"],
        ["chat", "--config", "/no/such" + evil[:-2], "hi"],
        ["chat", "--config", '{"a\x9b\u202e": 1}', "hi"],
        ["chat", "--model", "/no/such" + evil[:-2], "hi"],
        ["chat", "--option" + evil[:-2], "hi"],
        ["serve", "--config", '{"engine": "echo\x9b"}', "--cluster", '{"discovery": "\u202e\x9b"}'],
        [evil[:-2]],
    ],
)
def test_commands(command: list[str], as_json: list[str]) -> None:
    """On a terminal and into a pipe, as text and as JSON."""
    words = [command[0], *as_json, *command[1:]]
    for text in (on_terminal(*words), piped(*words)):
        check(text)
        for line in text.splitlines() if as_json and text.startswith("{") else []:
            assert isinstance(json.loads(line), dict)
    reliability(f"control characters in what dynamo-llm {command[0][:5]} prints", 2, "escaped")


#: Markdown's character references for a bidirectional control, a line separator, and the escape character.
_references = "&#x202e;a &rlm;b &#8232;c &#27;[31md &#x9b;31me `&#x202e;` [f&#x202e;](http://g&#x202e;h)"


@pytest.mark.parametrize(
    "answer",
    [
        evil.replace("\x00", ""),
        f"# {evil[:-2]}\n\n- {evil[:-2]}\n\n```{evil[:-4]}\n{evil[:-2]}\n```\n\n[a{evil[:-2]}](http://b{evil[:-2]})",
        _references,
        f"# {_references}\n\n- {_references}\n\n|{_references}|b|\n|-|-|\n|{_references}|c|\n",
        f"```{_references}\n{_references}\n```\n\n![{_references}](<http://{_references}> '{_references}')",
        "x" * 20000 + evil[:-2],
    ],
)
def test_markdown(answer: str) -> None:
    """An answer that is rendered on a terminal; also text that is a control character only then."""
    parts = [{"text": answer[at : at + 7]} for at in range(0, len(answer), 7)]
    config = json.dumps({"engine": "scripted", "options": {"script": parts}})
    text = on_terminal("chat", "--config", config, "hi", env={"TERM": "xterm"})
    assert "tokens" in text, text
    check(text)
    reliability("control characters in an answer that is rendered as Markdown", 1, "escaped, or replaced")


def test_models(tmp_path: Path) -> None:
    """Names of folders, and the content of their files."""
    folder = tmp_path / ("m" + evil.replace("\x00", "").replace("/", "") + "\nn")
    shutil.copytree(paths.demo_model_dir(), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [evil]}, ensure_ascii=False))
    broken = tmp_path / "broken\x1b]0;own\x07"
    broken.mkdir()
    (broken / "config.json").write_text("{\x9b")
    (broken / "model.safetensors").write_bytes(b"")
    for as_json in ([], ["--json"]):
        words = ["models", *as_json, str(tmp_path)]
        for text in (on_terminal(*words, env={"HF_HOME": "/no"}), piped(*words, env={"HF_HOME": "/no"})):
            check(text)
            assert "own" in text
            if not as_json:  # a name cannot start another model's line
                assert not any(line.startswith("n") for line in text.splitlines())


def test_doctor() -> None:
    variables = {"VIRTUAL_ENV": "/a\x1b]0;own\x07\x9b\u202e", "DYNAMO_LLM_PYTHON": "/no\x1b]0;own\x07\x9b"}
    for as_json in ([], ["--json"]):
        check(piped("doctor", *as_json, env=variables))


def test_a_server_that_writes_escapes() -> None:
    """In the errors of a server, through the engine openai."""

    async def reply(call: Call) -> None:
        await call.whole(400, {"error": {"message": evil + "\nsecond line", "code": evil}})

    wire = Wire()
    try:
        wire.replies = [reply]
        config = json.dumps({"engine": "openai", "options": {"base_url": wire.url, "max_retries": 0}})
        text = on_terminal("chat", "--config", config, "hi")
    finally:
        wire.close()
    check(text)
    assert "HTTP 400" in text and "\\nsecond line" in text


# ------------------------------------------------------------------------------------- records of the log

_forged = f"real\ndynamo_llm error: dynamo_llm.core: forged {evil}"


def _check_records(stderr: str, count: int) -> None:
    lines = stderr.splitlines()
    records = [line for line in lines if line.startswith("dynamo_llm ")]
    assert len(records) >= count and lines == records, stderr
    assert not any(line.startswith("dynamo_llm error: dynamo_llm.core: forged") for line in lines)
    assert not unsafe.search(stderr.replace("\n", "")), repr(stderr)


def test_records_of_python() -> None:
    """Logger names, messages, tracebacks: each record is one line on stderr if the host runs Python."""
    result = run_python(
        f"""
import logging
import dynamo_llm
with dynamo_llm.Runtime(engine="echo"):
    pass
from dynamo_llm.runtime import host
host.open_in_python_program()
logging.getLogger("dynamo_llm.test").warning({_forged!r})
logging.getLogger("dynamo_llm." + {_forged!r}).error("surrogate \\ud800 %s", {_forged!r})
try:
    raise ValueError({_forged!r})
except ValueError:
    logging.getLogger("dynamo_llm.test").exception("with a traceback")
"""
    )
    assert result.returncode == 0, result.stderr
    _check_records(result.stderr, 3)
    assert "\\x00L" in result.stderr and "ValueError" in result.stderr
    reliability(
        "forged records in messages, names and tracebacks of Python loggers", 3, "one line each, escaped"
    )


def test_records_of_an_engine_in_a_c_program(ask: Ask, tmp_path: Path) -> None:
    """print(), sys.stderr, warnings, loggers, and failures of an engine."""
    (tmp_path / "logging_evil.py").write_text(
        f"""
import logging, sys, warnings
TEXT = {_forged!r}
class Engine:
    def __init__(self, config): pass
    async def start(self):
        logging.getLogger("x").warning(TEXT)
        print(TEXT, file=sys.stderr)
        warnings.warn(TEXT)
    async def stop(self): raise RuntimeError(TEXT)
    async def generate(self, request): yield {{"text": "t"}}
"""
    )
    result = ask.run(engine("logging_evil:Engine", python={"path": [str(tmp_path)]}))
    assert result.returncode == 0, result.stderr
    _check_records(result.stderr, 4)


def test_zero_bytes_and_surrogates_in_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero bytes do not end a record, and surrogates do not lose it."""
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr("dynamo_llm.runtime.log_handler._core.log", lambda *record: seen.append(record))
    handler = CoreHandler()
    for message in ("a\0b", "a\ud800b"):
        handler.handle(logging.LogRecord("n", logging.WARNING, "", 0, message, None, None))
    assert [text for _, _, text in seen] == ["a\\x00b", "a\\ud800b"]

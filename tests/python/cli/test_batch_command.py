# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm batch``: its output, its exit codes, signals, and a run that is killed."""

import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, patience, run
from waiting import wait_until

COMMAND = [sys.executable, "-m", "dynamo_llm", "batch"]
SLOW = json.dumps({"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}})


def batch(*words: Any, **more: Any) -> Completed:
    """Runs the command."""
    return run([*COMMAND, *words], **more)


def write(path: Path, count: int, **body: Any) -> Path:
    """Writes an input of some lines."""
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"prompt": "a b", **body},
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ids(path: Path) -> list[str]:
    """Returns the ``custom_id`` of the whole lines of an output, sorted; all must be successes."""
    if not path.exists():
        return []
    results = [json.loads(line) for line in path.read_bytes().splitlines(True) if line.endswith(b"\n")]
    assert all(one["response"]["status_code"] == 200 for one in results)
    return sorted(one["custom_id"] for one in results)


def names(count: int) -> list[str]:
    """Returns the ids of an input of some lines."""
    return sorted(f"line-{number}" for number in range(count))


def test_summary(tmp_path: Path) -> None:
    """The summary is on stdout; nothing is on stderr if all lines succeed."""
    source, target = write(tmp_path / "in", 20), tmp_path / "out"
    result = batch(source, target, "--engine", "echo")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("20 done, 0 failed; 40 prompt tokens, 40 completion tokens, ")
    assert ids(target) == names(20)
    result = batch(source, target, "--engine", "echo", "--json", "--max-concurrency", "2")
    report = json.loads(result.stdout)
    assert (result.returncode, report["done"], report["skipped"], report["is_complete"]) == (0, 0, 20, True)


def test_failures(tmp_path: Path) -> None:
    """The first messages are on stderr, and the exit code is 1."""
    source, target = write(tmp_path / "in", 12, temperatur=1), tmp_path / "out"
    with source.open("a") as file:
        file.write("x\x1b\n")
    result = batch(source, target, "--engine", "echo", "--max-concurrency", "1")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == (
        'dynamo-llm: line 1: unknown key "temperatur" in the request; did you mean "temperature"?'
    )
    assert (len(lines), lines[-1]) == (11, "dynamo-llm: 3 more lines failed")
    assert result.stdout.startswith("0 done, 13 failed; ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nope", "out"], 1, 'the input "nope" cannot be read: No such file'),
        (["in", "in"], 1, '"in" is both the input and the output'),
        (["in", "out", "--max-concurrency", "0"], 2, "0 is not in the range 1<=x<=4096"),
        (["in"], 2, "Missing argument 'OUT.jsonl'"),
        (["in", "out", "--model", "/no/such/model"], 1, "/no/such/model"),
    ],
)
def test_wrong_use(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    """The message names what is wrong."""
    write(tmp_path / "in", 1)
    result = batch(*words, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())


def start(*words: Any, **more: Any) -> "subprocess.Popen[str]":
    """Starts the command with a slow engine."""
    command = [*COMMAND, "--config", SLOW, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(tmp_path: Path, number: signal.Signals) -> None:
    """After a signal the requests in flight run to their end; the next run answers the others."""
    source, target = write(tmp_path / "in", 12, max_tokens=15), tmp_path / "out"
    with start("--max-concurrency", "4", source, target) as process:
        try:
            wait_until(lambda: len(ids(target)) >= 4)
            process.send_signal(number)
            out, err = process.communicate(timeout=patience)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert "Press Ctrl-C again to cancel." in err
    count = len(ids(target))
    assert 4 <= count < 12
    assert out.startswith(f"stopped: {count} done, 0 failed; ")
    result = batch(source, target, "--engine", "echo")
    assert result.stdout.startswith(f"{12 - count} done, 0 failed, {count} skipped; ")
    assert ids(target) == names(12)


def test_two_signals(tmp_path: Path) -> None:
    """The second signal cancels the requests in flight."""
    source, target = write(tmp_path / "in", 8, max_tokens=1000000), tmp_path / "out"
    source.write_text(source.read_text().replace("1000000", "1", 1))
    with start("--json", "--max-concurrency", "4", source, target) as process:
        try:
            wait_until(lambda: ids(target))
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert "requests in flight" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=patience)
        finally:
            process.kill()
    report = json.loads(out)
    assert (process.returncode, report["done"], report["failed"], report["is_complete"]) == (130, 1, 0, False)
    assert ids(target) == ["line-0"]


def test_killed(tmp_path: Path) -> None:
    """A run that is killed again and again comes to its end."""
    source, target = write(tmp_path / "in", 30, max_tokens=2), tmp_path / "out"
    for goal in (5, 12, 20):
        with start("--max-concurrency", "4", source, target) as process:
            try:
                wait_until(lambda count=goal: len(ids(target)) >= count)  # type: ignore[misc]
            finally:
                process.kill()
    count = len(ids(target))
    result = batch(source, target, "--engine", "echo")
    assert result.returncode == 0
    assert result.stdout.startswith(f"{30 - count} done, 0 failed, {count} skipped; ")
    assert ids(target) == names(30)


def test_full_disk(tmp_path: Path) -> None:
    """If the output cannot be written, the command fails, and the output ends with a whole line."""
    source, target = write(tmp_path / "in", 50), tmp_path / "out"
    limit = 3000
    result = batch(
        source,
        target,
        "--engine",
        "echo",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1
    assert f'the output "{target}" cannot be written: File too large' in result.stderr
    assert 0 < target.stat().st_size <= limit
    assert target.read_bytes().endswith(b"\n")
    assert batch(source, target, "--engine", "echo").returncode == 0
    assert ids(target) == names(50)


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal, a bar shows what is done and what is left."""
    source, target = write(tmp_path / "in", 12, max_tokens=4), tmp_path / "out"
    leader, follower = pty.openpty()
    command = [*COMMAND, "--config", SLOW, "--max-concurrency", "4", source, target]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # the command has ended
            pass
        os.close(leader)
        assert process.wait(patience) == 0
    assert b" done, " in shown
    assert b"tokens/s" in shown
    assert b"%" in shown

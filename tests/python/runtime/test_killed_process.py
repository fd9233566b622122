# SPDX-License-Identifier: Apache-2.0
"""A process that is killed, at any time, leaves nothing behind."""

import importlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from conftest import Ask, engines_dir
from reliability import reliability
from waiting import patience, wait_until

host = """
import sys
import dynamo_llm
print("begins", flush=True)
config = eval(sys.argv[1])
while True:
    with dynamo_llm.Runtime(config) as runtime:
        request = runtime.complete("a b c")
        for response in request:
            pass
        print("answered", flush=True)
"""
configs = {
    "the demo model": {},
    "a native engine": {"engine": "echo"},
    "an engine in Python": {"engine": "echoes:Async", "python": {"path": [str(engines_dir)]}},
    "an engine in threads": {"engine": "echoes:Threaded", "python": {"path": [str(engines_dir)]}},
}


def shared_memory() -> set[str]:
    """Returns the names in the system's shared memory, including semaphores."""
    return set(os.listdir("/dev/shm"))


@pytest.mark.many(5)
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm and /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("what", configs)
def test_nothing_is_left(what: str, how: signal.Signals, tmp_path: Path) -> None:
    """No file, no shared memory, no child; and the next process starts normally."""
    chance = random.Random(f"{what} {how}")
    before = shared_memory()
    times = int(os.environ.get("DYNAMO_LLM_KILLS", "3"))
    for number in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", host, repr(configs[what])],
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None and process.stdout.readline() == b"begins\n"
            if number % 3 == 2:  # while it is busy with the next one, else while it starts
                assert process.stdout.readline() == b"answered\n"
            time.sleep(chance.uniform(0, 0.3))
            family = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.send_signal(how)
            process.wait(patience)
        assert process.returncode != 0
        wait_until(lambda family=family: not any(child.is_running() for child in family))  # type: ignore[misc]
    assert shared_memory() - before == set()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    reliability(
        f"{how.name} to a host of {what}, at any time", times, "no file, shared memory or process was left"
    )


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm and /proc")
def test_nothing_is_left_of_a_c_program(ask: Ask, tmp_path: Path) -> None:
    """The same for a C program that runs Python in its process."""
    chance = random.Random(1)
    before = shared_memory()
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    for _ in range(6):
        process = subprocess.Popen(
            [ask.program, "{}", "What is a KV cache?"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.wait(patience)
    assert shared_memory() - before == set()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert ask.text({}, "What is a KV cache?", environment)
    reliability(
        "SIGKILL to a C program of the demo model, at any time", 6, "nothing was left; the next one answers"
    )


class Thinking:
    """The templates of a model with reasoning."""

    thinks = True

    def for_engine(self) -> str:
        return "{# <think> #}"


def test_files_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a model loads, its files for the engine are in temporary folders: those of ended processes are
    removed, those in use are not.
    """
    fcntl = pytest.importorskip("fcntl")
    temporary_files, templates = (
        importlib.import_module(f"dynamo_llm.runtime.engines.mistralrs.{name}")
        for name in ("temporary_files", "templates")
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, used, other = (tmp_path / name for name in ("dynamo-llm-a", "dynamo-llm-b", "c"))
    for path in (left, used, other):
        path.mkdir()
        (path / ".lock").write_text("x")
        os.utime(path / ".lock", (1, 1))
    with (used / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with templates.file_for_engine(Thinking(), None) as name:
            mine = Path(name)
            assert mine.read_text() == "{# <think> #}"
            assert set(tmp_path.iterdir()) == {used, other, mine.parent}
            with temporary_files.folder({"a": "b"}, [other, mine]) as folder:
                assert mine.exists()
                assert (folder / "a").read_text() == "b" and (folder / "c" / ".lock").read_text() == "x"
                assert (folder / mine.name).read_text() == "{# <think> #}"
    assert set(tmp_path.iterdir()) == {used, other}
    assert (other / ".lock").exists()

# SPDX-License-Identifier: Apache-2.0
"""Fixtures: programs in C built against the installed package, each run in a clean environment."""

import contextlib
import fcntl
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import many
import pytest
from cluster_rig.fixtures import cluster, new_cluster, pytest_runtest_makereport
from dynamo_llm import paths
from dynamo_llm.runtime.cluster import dynamo_import
from waiting import patience

__all__ = ["cluster", "new_cluster", "patience", "pytest_runtest_makereport"]

tests_dir = Path(__file__).resolve().parent.parent
engines_dir = tests_dir / "engines"

Completed = subprocess.CompletedProcess[str]

# Imported in the same way as by the library: the first import decides what Dynamo writes to stderr.
with contextlib.suppress(ImportError):
    dynamo_import.import_core()


def pytest_configure() -> None:
    """Enables Ctrl-C: if this process was started in the background (nohup, cron), it may ignore SIGINT, and
    so would its children, among them programs whose Ctrl-C is tested.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: Parts of the names of tests that take a minute and more.
_longest = ("test_conformance", "test_whole_run", "test_distinct_prompts")


@pytest.hookimpl(tryfirst=True)  # before pytest selects the tests that are not slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest tests: at the end, one of them would keep all other processes waiting."""
    many.pytest_collection_modifyitems(items)
    items.sort(key=lambda item: not any(name in item.nodeid for name in _longest))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    """Runs tests marked ``alone`` while no other worker runs a test, because they check the whole machine.

    Each test holds the second lock: exclusively if it is marked ``alone``, otherwise shared. The first lock
    makes all others queue behind a test that waits for exclusive access, which might otherwise wait forever.
    """
    if not hasattr(item.config, "workerinput"):  # not a worker; a nested pytest already has the lock
        yield
        return
    folder = item.config._tmp_path_factory.getbasetemp().parent  # type: ignore[attr-defined]  # all workers'
    with (folder / "next.lock").open("a") as first, (folder / "running.lock").open("a") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(first, fcntl.LOCK_UN)
        yield
        fcntl.flock(second, fcntl.LOCK_UN)  # also unlocks os.fork() children, which may outlive the test


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    timeout: float = patience,
    **more: Any,
) -> Completed:
    """Runs a program with none of this process's environment except the system folders in PATH."""
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", **(env or {})}
    return subprocess.run(
        [str(word) for word in command],
        env=clean,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
        **more,
    )


def run_python(code: str, env: Mapping[str, str] | None = None) -> Completed:
    """Runs Python code in a separate process, in this interpreter's environment."""
    return run([sys.executable, "-c", code], env)


def dynamo_config(*options: str) -> str:
    """Returns the output of ``dynamo-llm config``."""
    result = run([sys.executable, "-m", "dynamo_llm", "config", *options])
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def compile_c(source: Path, program: Path, *flags: str) -> Path:
    """Compiles a program in C, with warnings as errors."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "the tests need a C compiler"
    result = run([compiler, "-Wall", "-Wextra", "-Werror", source, "-o", program, *flags])
    assert result.returncode == 0, result.stderr
    return program


def compile_cpp(source: Path, program: Path, *flags: str) -> Path:
    """Compiles a program in C++17, with warnings as errors."""
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler is not None, "the tests need a C++ compiler"
    result = run([compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", source, "-o", program, *flags])
    assert result.returncode == 0, result.stderr
    return program


def engine(name: str, **more: Any) -> dict[str, Any]:
    """Returns the configuration of an engine in tests/engines."""
    python = {"path": [str(engines_dir)], **more.pop("python", {})}
    return {"engine": name, "python": python, **more}


@dataclass
class Ask:
    """The program ask.c."""

    program: Path

    def run(self, config: Any, prompt: str = "a b", env: Mapping[str, str] | None = None) -> Completed:
        """Runs it, and returns the result, even if it fails."""
        return run([self.program, json.dumps(config), prompt], env)

    def text(self, config: Any, prompt: str = "a b", env: Mapping[str, str] | None = None) -> str:
        """Runs it successfully. Returns its answer."""
        result = self.run(config, prompt, env)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def error(
        self, config: Any, env: Mapping[str, str] | None = None, prompt: str = "a b"
    ) -> tuple[str, str]:
        """Runs it with an error. Returns the status and message."""
        result = self.run(config, prompt, env)
        assert result.returncode == 3, result.stdout + result.stderr
        status, *message, detail = result.stdout.rstrip("\n").split("\n")
        assert json.loads(detail)["name"] == status
        return status, "\n".join(message)

    def report(self, modules: str = "", env: Mapping[str, str] | None = None, **python: Any) -> Any:
        """Returns the report of tests/engines/reporting.py."""
        return json.loads(self.text(engine("reporting:Reporter", python=python), modules, env))


def once_per_run(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], Path]) -> Path:
    """Returns a folder whose content a function builds once: the first worker of pytest-xdist builds it for
    all.
    """
    base = factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-gw") else base) / f"{name}-once"
    folder.mkdir(exist_ok=True)
    result = folder / "result"
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            result.write_text(str(build(folder)))
    return Path(result.read_text())


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for programs."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session")
def ask(programs: Path) -> Ask:
    """The program ask.c, compiled as documented."""
    flags = dynamo_config("--cflags", "--libs").split()
    return Ask(compile_c(tests_dir / "python" / "ask.c", programs / "ask", *flags))


@pytest.fixture(scope="session")
def bare_ask(programs: Path) -> Ask:
    """The program ask.c without a path to the library: LD_LIBRARY_PATH selects the library."""
    flags = [f"-I{paths.include_dir()}", f"-L{paths.lib_dir()}", "-ldynamo_llm_capi"]
    return Ask(compile_c(tests_dir / "python" / "ask.c", programs / "bare-ask", *flags))


@pytest.fixture
def lonely_library(tmp_path: Path) -> Path:
    """A folder that contains only the library, outside of any Python installation."""
    folder = tmp_path / "lonely"
    folder.mkdir()
    shutil.copy(paths.lib_dir() / "libdynamo_llm_capi.so.1", folder)
    return folder


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[[str, str], Path]:
    """A function that writes an executable file."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    return write

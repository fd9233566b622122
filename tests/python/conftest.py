# SPDX-License-Identifier: Apache-2.0
"""Fixtures: programs in C against the installed package, each run in a clean environment."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_rig.fixtures import cluster, new_cluster, pytest_runtest_makereport
from dynamo_llm import paths
from dynamo_llm.runtime.cluster import noise
from waiting import patience

__all__ = ["cluster", "new_cluster", "patience", "pytest_runtest_makereport"]

tests_dir = Path(__file__).resolve().parent.parent
engines_dir = tests_dir / "engines"

Completed = subprocess.CompletedProcess[str]

# As the library imports it: whoever is the first to import it decides what it writes to stderr.
with contextlib.suppress(ImportError):
    noise.prepare()


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, **more: Any) -> Completed:
    """Run a program with nothing of this process's environment but PATH's system folders."""
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", **(env or {})}
    return subprocess.run(
        [str(word) for word in command],
        env=clean,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=patience,
        check=False,
        **more,
    )


def run_python(code: str, env: Mapping[str, str] | None = None) -> Completed:
    """Run Python code in a process of its own, in this interpreter's environment."""
    return run([sys.executable, "-c", code], env)


def dynamo_config(*options: str) -> str:
    """What ``dynamo-llm config`` prints."""
    result = run([sys.executable, "-m", "dynamo_llm", "config", *options])
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def compile_c(source: Path, program: Path, *flags: str) -> Path:
    """Compile a program, warnings being errors."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "the tests need a C compiler"
    result = run([compiler, "-Wall", "-Wextra", "-Werror", source, "-o", program, *flags])
    assert result.returncode == 0, result.stderr
    return program


def engine(name: str, **more: Any) -> dict[str, Any]:
    """Configuration of an engine of tests/engines."""
    python = {"path": [str(engines_dir)], **more.pop("python", {})}
    return {"engine": name, "python": python, **more}


@dataclass
class Ask:
    """The program ask.c."""

    program: Path

    def run(self, config: Any, prompt: str = "a b", env: Mapping[str, str] | None = None) -> Completed:
        """Run it, whatever comes of it."""
        return run([self.program, json.dumps(config), prompt], env)

    def text(self, config: Any, prompt: str = "a b", env: Mapping[str, str] | None = None) -> str:
        """Run it well; its answer."""
        result = self.run(config, prompt, env)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def error(self, config: Any, env: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Run it into an error; its status and message."""
        result = self.run(config, "a b", env)
        assert result.returncode == 3, result.stdout + result.stderr
        status, *message, detail = result.stdout.rstrip("\n").split("\n")
        assert json.loads(detail)["name"] == status
        return status, "\n".join(message)

    def report(self, modules: str = "", env: Mapping[str, str] | None = None, **python: Any) -> Any:
        """What tests/engines/reporting.py says."""
        return json.loads(self.text(engine("reporting:Reporter", python=python), modules, env))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for programs."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session")
def ask(programs: Path) -> Ask:
    """ask.c, compiled as the documentation says."""
    flags = dynamo_config("--cflags", "--libs").split()
    return Ask(compile_c(tests_dir / "python" / "ask.c", programs / "ask", *flags))


@pytest.fixture(scope="session")
def bare_ask(programs: Path) -> Ask:
    """ask.c without a path to the library: LD_LIBRARY_PATH says which one it gets."""
    flags = [f"-I{paths.include_dir()}", f"-L{paths.lib_dir()}", "-ldynamo_llm_capi"]
    return Ask(compile_c(tests_dir / "python" / "ask.c", programs / "bare-ask", *flags))


@pytest.fixture
def lonely_library(tmp_path: Path) -> Path:
    """Folder with the library alone, far from any Python."""
    folder = tmp_path / "lonely"
    folder.mkdir()
    shutil.copy(paths.lib_dir() / "libdynamo_llm_capi.so.1", folder)
    return folder


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes an executable file."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    return write

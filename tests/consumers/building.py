# SPDX-License-Identifier: Apache-2.0
"""Runs compilers and build systems."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

source_dir = Path(__file__).resolve().parent.parent.parent
consumers_dir = source_dir / "tests" / "consumers"
echo = '{"engine": "echo"}'
#: Seconds for a build of the whole library without a compiler cache.
long_build = 800

#: Options of a build of the whole library that make it faster.
fast_build = ["-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=12"]

Completed = subprocess.CompletedProcess[str]


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 500,
) -> Completed:
    """Run a program; the tools of this interpreter's environment come first on its PATH.

    :param timeout: seconds.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PATH": path, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def build_folder() -> Path:
    """Folder of the CMake build whose installation is tested.

    It is up to date if DYNAMO_LLM_TEST_BUILD names it; else it is that of the preset "release", built first.
    """
    return source_dir / os.environ.get("DYNAMO_LLM_TEST_BUILD", "build/release")


def configure(project: Path, build: Path, *options: str, env: Mapping[str, str] | None = None) -> Completed:
    """Let CMake configure a project."""
    return run(["cmake", "-S", project, "-B", build, "-G", "Ninja", *options], env)


def configure_and_build(
    project: Path, build: Path, *options: str, env: Mapping[str, str] | None = None
) -> str:
    """Configure and build a project; what both said."""
    result = configure(project, build, *options, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    built = run(["cmake", "--build", build, "-j2", "-v"], env)
    assert built.returncode == 0, built.stdout + built.stderr
    return result.stdout + built.stdout


def answer(
    program: Path, env: Mapping[str, str] | None = None, config: str = echo, prompt: str = "hello"
) -> str:
    """What a program made of ask.c or ask.cpp answers."""
    result = run([program, config, prompt], env)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout

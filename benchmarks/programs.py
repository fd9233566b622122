# SPDX-License-Identifier: Apache-2.0
"""Compiles the programs to measure, starts them, and makes them run rounds."""

import json
import os
import select
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

folder = Path(__file__).resolve().parent
#: Timeout of a round, in seconds.
patience = 120.0


def dynamo_config(*options: str) -> list[str]:
    """Returns compiler flags for the library in this Python."""
    command = [sys.executable, "-m", "dynamo_llm", "config", *options]
    return shlex.split(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def python_flags() -> list[str]:
    """Returns compiler flags for a program that embeds this Python."""
    import sysconfig

    get = sysconfig.get_config_var
    name = f"python{get('LDVERSION') or get('VERSION')}"
    return [
        f"-I{sysconfig.get_paths()['include']}",
        f"-L{get('LIBDIR')}",
        f"-l{name}",
        f"-Wl,-rpath,{get('LIBDIR')}",
    ]


class Programs:
    """Compiles programs in benchmarks/c into its own temporary folder."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="dynamo-llm-bench-")
        self._flags = dynamo_config("--cflags", "--libs")

    def compile(self, name: str, *flags: str, with_library: bool = True) -> str:
        """Returns the path of the compiled program. Raises an exception if the compilation fails."""
        program = Path(self._place.name) / name
        if not program.exists():
            library = self._flags if with_library else []
            subprocess.run(
                [
                    "gcc",
                    "-O2",
                    "-Wall",
                    "-o",
                    program,
                    folder / "c" / f"{name}.c",
                    *library,
                    *flags,
                    "-pthread",
                ],
                check=True,
            )
        return str(program)

    def close(self) -> None:
        """Deletes the programs."""
        self._place.cleanup()


class Side:
    """One side of a comparison: a program that runs a round for each line it reads.

    :param command: the program and its arguments.
    :param is_pinned: whether it runs only on the first CPU that this process may use.
    :param cpus: the CPUs that it may use, as an alternative to ``is_pinned``.
    :param variables: environment variables to set.
    """

    def __init__(
        self,
        command: Sequence[str],
        is_pinned: bool = False,
        variables: Mapping[str, str] | None = None,
        cpus: Sequence[int] = (),
    ) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder), **(variables or {})}
        places = [min(os.sched_getaffinity(0))] if is_pinned else cpus
        pin = ["taskset", "-c", ",".join(map(str, places))] if places else []
        self._process = subprocess.Popen(
            [*pin, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._name = Path(command[0]).name
        if self._line() != "ready":
            raise RuntimeError(f"{self._name} did not start")

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience)[0]:
            self._process.kill()
            raise TimeoutError(f"{self._name} took longer than {patience:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with status {self._process.wait()}")
        return line.decode().strip()

    def round(self) -> dict[str, Any]:
        """Runs a round, and returns the values that it printed."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        result: dict[str, Any] = json.loads(self._line())
        return result

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def start_server(command: Sequence[str], is_pinned: bool = False) -> Iterator[None]:
    """Runs a server that prints "ready" when it listens, and ends when its stdin ends."""
    with Side(command, is_pinned):
        yield

# SPDX-License-Identifier: Apache-2.0
"""A program that runs beside the tests."""

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from waiting import patience

_numbers = itertools.count()


def find_program(name: str) -> str | None:
    """Finds a program, also in folders of root's PATH, where Debian installs nats-server."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


class Process:
    """A program with its own environment and log; it is killed with the tests, however they end."""

    def __init__(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
    ) -> None:
        """Starts it in ``folder``, which contains its log.

        :param environment: all its variables, except PATH and LD_LIBRARY_PATH of this process.
        """
        outside = {key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH")}
        words = [str(word) for word in command]
        # The kernel kills it with the thread that started it: if pytest is killed, no fixture runs.
        if setpriv := find_program("setpriv"):
            words = [setpriv, "--pdeathsig", "KILL", *words]
        self.name = name
        self.may_end = False
        """Whether it may end before the test does."""
        self._log = folder / f"{next(_numbers):03}-{name}.log"
        with self._log.open("wb") as log:
            # A separate session: pytest handles the terminal's interrupt, and stops it.
            self._process = subprocess.Popen(
                words,
                env={**outside, "HOME": str(folder), **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Returns its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Returns its exit status; None while it runs."""
        return self._process.poll()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.returncode is None

    @property
    def log(self) -> str:
        """Returns its output so far."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """Kills it, like a crash."""
        self.may_end = True
        self._process.kill()
        self._process.wait(patience)

    def terminate(self) -> int:
        """Sends SIGTERM, waits until it exits, and returns its exit status."""
        self.may_end = True
        self._process.terminate()
        return self._process.wait(patience)

    def wait(self) -> int:
        """Waits until it exits by itself, and returns its exit status."""
        self.may_end = True
        return self._process.wait(patience)

    def pause(self) -> None:
        """Stops it; the kernel still accepts connections for it."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resumes it."""
        self._process.send_signal(signal.SIGCONT)

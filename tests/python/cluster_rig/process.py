# SPDX-License-Identifier: Apache-2.0
"""One program that runs beside the tests."""

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
    """Where it is, also where only root's PATH leads (Debian puts nats-server there)."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


class Process:
    """A program with an environment of its own and a log; it dies with the tests, whatever ends them."""

    def __init__(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
    ) -> None:
        """Start it in ``folder``, where its log is.

        :param environment: All that it gets, beside PATH and LD_LIBRARY_PATH of this process.
        """
        outside = {key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH")}
        words = [str(word) for word in command]
        # The kernel kills it with the thread that started it: when pytest is killed, no fixture does.
        if setpriv := find_program("setpriv"):
            words = [setpriv, "--pdeathsig", "KILL", *words]
        self.name = name
        self.may_end = False
        """Whether it may end before the test does."""
        self._log = folder / f"{next(_numbers):03}-{name}.log"
        with self._log.open("wb") as log:
            # Its own session: an interrupt of the terminal is pytest's, which then ends it.
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
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with; None while it runs."""
        return self._process.poll()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.returncode is None

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End it as a crash does."""
        self.may_end = True
        self._process.kill()
        self._process.wait(patience)

    def terminate(self) -> int:
        """Ask it to end, wait until it has; its exit status."""
        self.may_end = True
        self._process.terminate()
        return self._process.wait(patience)

    def wait(self) -> int:
        """Until it ends by itself; its exit status."""
        self.may_end = True
        return self._process.wait(patience)

    def pause(self) -> None:
        """It hangs from now on; the kernel still accepts connections for it."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

# SPDX-License-Identifier: Apache-2.0
"""Starts child processes that run a Python module. All child processes of this package are started here.

    child = Child("dynamo_llm.runtime.squares", name="squares", arguments={"power": 2})
    child.start()  # blocks until the module is imported; not on the asyncio event loop
    child.channel.sendall(...)
    child.stop()  # blocks for a bounded time: asks, terminates, kills

The module has a function that gets the child's end of the channel. It returns when the channel is closed::

    def serve(channel: socket.socket, arguments: Any) -> None: ...

Child and host do not disturb each other:

* The child is a new program, not a fork. It gets a socket and its own stdin, stdout, and stderr, but no other
  descriptor of the host. The host's signal handlers stay unchanged. The end of the child raises SIGCHLD, as
  that of any child does; the host may ignore it, or collect the exit status itself.
* The child is in a session of its own and ignores SIGINT: Ctrl-C in a terminal reaches only the host.
* Its output goes to the log, one record per line, with the logger ``dynamo_llm.child.NAME``: stdout with
  level info, stderr with level warning. Records of its own logging keep their level.
* When the parent ends, even by SIGKILL, the kernel kills the child and the processes that it started.
* A thread waits for the child, so that it does not become a zombie.

The child uses the parent's interpreter (:func:`executables`), ``sys.path``, and copy of this package, so that
it can import modules from the folders in ``"python": {"path": [...]}`` of the configuration.
"""

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import dynamo_llm
from dynamo_llm import _core, runtime
from dynamo_llm.errors import SystemFailedError
from dynamo_llm.runtime.child_log import Lines

_log = logging.getLogger("dynamo_llm.child")

#: Seconds between two checks of a child where there are no pidfds.
_poll_interval = 1.0
#: Seconds that the kernel may take to end a killed process.
KILL_TIMEOUT = 5.0
#: The interpreter that last started a child successfully.
_proven: list[str] = []


class _WrongInterpreterError(Exception):
    """The executable is not Python, or not the same Python."""


@dataclass(eq=False, repr=False)
class Child:
    """A process that runs a module of this package.

    Thread-safe. In a fork of the process that started the child, the methods do nothing.
    """

    module: str
    """The module whose function ``serve`` the child calls."""
    _: KW_ONLY
    name: str
    """Name of the child, for the log and for errors."""
    arguments: Any = None
    """Second argument of ``serve``, a JSON value."""
    is_bare: bool = False
    """Whether to import only the module, not the package: the child starts faster, without the library."""
    environment: Mapping[str, str] | None = None
    """Environment variables of the child; None: the parent's."""
    on_end: Callable[[], None] | None = None
    """Called once after the child has ended, in the thread that waits for it."""

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._has_ended = threading.Event()
        self._owner = os.getpid()
        self._releasing = threading.Lock()
        self.channel: socket.socket
        """The parent's end of a stream socket, once the child is started. It blocks; :meth:`stop` closes
        it. It reads end-of-file after the child has ended, unless a process that the child started keeps it
        open."""
        self.last_lines: deque[str] = deque(maxlen=20)
        """The latest lines of the child's stderr."""
        self.ending = ""
        """How the child ended, such as "was killed by SIGKILL"; empty while it runs."""

    @property
    def pid(self) -> int:
        """Process id of the child; 0 before it is started."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and not self._has_ended.is_set()

    # -------------------------------------------------------------------------------------- start

    def start(self, seconds: float = 60.0) -> None:
        """Starts the child. Call it once. Blocks until the child has imported the module, for at most so many
        seconds.

        :raises SystemFailedError: the child cannot be started, or it ended before it was ready.
        """
        tried = []
        for executable in executables():
            try:
                self._start(executable, seconds)
            except (OSError, RuntimeError, subprocess.SubprocessError, _WrongInterpreterError) as error:
                tried.append(f"\n  - {executable}: {error}")
                self._release()
                if isinstance(error, TimeoutError | ChildProcessError):
                    break
            else:
                _proven[:] = [executable]
                return
        raise SystemFailedError(
            f"cannot start the child process {self.name}. Interpreters tried:{''.join(tried) or ' none'}\n"
            "If none of them is this process's Python, set the environment variable DYNAMO_LLM_PYTHON to its "
            "executable"
        )

    def _start(self, executable: str, seconds: float) -> None:
        self._has_ended = threading.Event()
        self.ending = ""
        self.channel, theirs = _pair()
        command = [
            executable,
            *("-I", "-X", "utf8"),
            *(["-B"] if sys.dont_write_bytecode else []),
            str(Path(__file__).with_name("child_main.py")),
            *(str(theirs.fileno()), str(os.getpid())),
        ]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command,
                    bufsize=0,
                    stdin=subprocess.PIPE,  # held open until this process ends
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    env=self.environment,
                )
            except BaseException:
                self.channel.close()
                raise
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # not Linux, an old kernel, or a sandbox that forbids it
            self._pidfd = -1
        try:
            threading.Thread(target=self._watch, name=f"dynamo-{self.name}", daemon=True).start()
        except RuntimeError:
            self._process.kill()
            self._process.wait()
            self._has_ended.set()
            raise
        setup = json.dumps(
            {
                "python": f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}",
                "path": [folder or os.getcwd() for folder in sys.path if isinstance(folder, str)],
                "package": list(dynamo_llm.__path__),
                "is_bare": self.is_bare,
                "log_level": logging.getLogger("dynamo_llm").getEffectiveLevel(),
                "module": self.module,
                "arguments": self.arguments,
            }
        ).encode()
        self.channel.settimeout(seconds)
        try:
            with contextlib.suppress(ConnectionError):  # it has ended, and its output is reported below
                send(self.channel, len(setup).to_bytes(4, "big") + setup)
            # The child sends a byte when it has checked its interpreter, and one when it has imported the
            # module.
            for error in (_WrongInterpreterError, ChildProcessError):
                with contextlib.suppress(ConnectionError):
                    if self.channel.recv(1):
                        continue
                self._has_ended.wait(KILL_TIMEOUT)
                output = "\n".join(self.last_lines) or "nothing"
                raise error(f"it {self.ending or 'closed its channel'}; its output: {output}")
        except TimeoutError:
            raise TimeoutError(f"it was not ready after {seconds:g} seconds") from None
        self.channel.settimeout(None)

    # ---------------------------------------------------------------------------------------- end

    def _watch(self) -> None:
        """Logs the child's output until it has ended, and collects its exit status."""
        process = self._process
        assert process is not None and process.stdout is not None and process.stderr is not None
        logger = logging.getLogger(f"dynamo_llm.child.{self.name}")
        streams = {
            process.stdout.fileno(): Lines(logger, logging.INFO),
            process.stderr.fileno(): Lines(
                logger, logging.WARNING, lambda level, line: self.last_lines.append(line)
            ),
        }
        poll = select.poll()
        for number in streams:
            os.set_blocking(number, False)
            poll.register(number, select.POLLIN)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        ending = None
        while ending is None:
            ready = poll.poll(None if self._pidfd >= 0 else _poll_interval * 1000)
            # Before the streams are read: if the child has ended, the reads below get all that it wrote.
            ending = _ending(process.pid)
            for number, _ in ready:
                if number in streams and not _read(number, streams[number]):
                    poll.unregister(number)
        for number, lines in streams.items():
            _read(number, lines)
            lines.end()
        if ending:  # until the status is collected, the ids of the process and its group are not reused
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        process.poll()
        self.ending = ending or "ended"
        self._has_ended.set()
        if self.on_end is not None:
            self.on_end()

    def wait(self, seconds: float) -> bool:
        """Blocks until the child has ended, for at most so many seconds. Returns whether it has ended."""
        return self._has_ended.wait(seconds)

    def terminate(self) -> None:
        """Sends SIGTERM to the child. Does not block."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL to the child; the processes that it started are killed after it. Does not block."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if os.getpid() != self._owner:
            return
        with self._releasing, contextlib.suppress(OSError):  # it has ended
            if self._process is None or self._has_ended.is_set():
                return
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                self._process.send_signal(number)

    def stop(self, ask: float = 5.0, terminate: float = 2.0) -> None:
        """Stops the child and releases its resources. Blocks.

        :param ask: seconds to wait after the channel was closed for writing, before SIGTERM.
        :param terminate: seconds to wait after SIGTERM, before SIGKILL.
        """
        if self._process is None or os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):  # it has ended
            self.channel.shutdown(socket.SHUT_WR)
        if not self.wait(ask):
            self.terminate()
            self.wait(terminate)
        self._release()

    def _release(self) -> None:
        if self._process is None:
            return
        self.channel.close()
        self.kill()
        if not self.wait(KILL_TIMEOUT):
            _log.error("the child process %s (%d) was killed but has not ended", self.name, self.pid)
            return
        with self._releasing:
            process, self._process = self._process, None
            if process is None:  # another thread has released it meanwhile
                return
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                stream.close()
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1


def send(channel: socket.socket, data: bytes) -> None:
    """Writes to a channel. Blocks. Never raises SIGPIPE, which may be fatal in the host.

    :raises BrokenPipeError: the child has ended.
    """
    view = memoryview(data)
    while view:
        view = view[channel.send(view, socket.MSG_NOSIGNAL) :]


def executables() -> list[str]:
    """Returns the interpreters that a child may run with, the most likely first.

    In a Python program, and in one whose Python this library started, ``sys.executable`` is right. A program
    that embeds Python itself may leave it empty or set it to its own file, which must not be started: so only
    files named like Python count. Such a program names its interpreter with
    :func:`multiprocessing.set_executable` or ``DYNAMO_LLM_PYTHON``.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    named = [*_proven]
    is_embedded = not sys.orig_argv
    if is_embedded and not runtime.owns_python:
        spawn = sys.modules.get("multiprocessing.spawn")
        chosen = os.fsdecode(spawn.get_executable() or "") if spawn is not None else ""
        if chosen != sys.executable:
            named.append(chosen)
        named.append(_core.variable("DYNAMO_LLM_PYTHON") or "")
    found = [
        sys.executable,
        getattr(sys, "_base_executable", None),
        *(str(Path(folder, "bin", version)) for folder in (sys.prefix, sys.base_prefix)),
        str(Path(sysconfig.get_config_var("BINDIR") or sys.base_prefix, version)),
    ]
    named += [path for path in found if path and Path(path).name.lower().startswith("python")]
    return [path for path in dict.fromkeys(named) if path and os.access(path, os.X_OK)]


def _pair() -> tuple[socket.socket, socket.socket]:
    """Creates a socket pair with descriptors above 2, even if the host has closed stdin, stdout, stderr."""
    ends = []
    for end in socket.socketpair():
        with end:
            ends.append(socket.socket(fileno=fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)))
    return ends[0], ends[1]


def _read(number: int, lines: Lines) -> bool:
    """Reads what a descriptor has. Returns False at its end."""
    try:
        while data := os.read(number, 65536):
            lines.feed(data)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _ending(pid: int) -> str | None:
    """Returns how a process has ended; "" if someone else has collected its status; None while it runs."""
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ""
    if result is None:
        return None
    if result.si_code == os.CLD_EXITED:
        return f"exited with status {result.si_status}"
    try:
        return f"was killed by {signal.Signals(result.si_status).name}"
    except ValueError:  # most real-time signals have no name
        return f"was killed by signal {result.si_status}"

# SPDX-License-Identifier: Apache-2.0
"""The main program of a child process: :class:`dynamo_llm.runtime.child.Child` runs this file by its path.

It imports only the standard library, since ``sys.path`` is not the parent's until :func:`_main` sets it.
"""

import fcntl
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
from types import ModuleType
from typing import Any

#: Linux's ``F_SETSIG``, which :mod:`fcntl` lacks before Python 3.13.
_F_SETSIG = 10

#: Seconds between two checks of the parent where there are no pidfds.
_poll_interval = 1.0


def _reset_signals() -> None:
    """Resets inherited signal settings: signals that the host ignores, and those that the thread that started
    this process blocks. SIGINT is ignored: the parent handles Ctrl-C, and stops its children itself.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # Python itself ignores SIGPIPE and SIGXFSZ.
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with(parent: int) -> None:
    """Makes this process, and those that it starts, end with the parent, however that ends.

    The parent holds the other end of stdin and never writes. When it is closed, the kernel kills this process
    group, even while C code holds the GIL. A fork of the host may keep it open, so a thread also waits for
    the end of the parent itself.
    """
    if sys.platform == "linux":
        fcntl.fcntl(0, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    interval: float | None = _poll_interval
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
        interval = None
    except (AttributeError, OSError):  # not Linux, an old kernel, or a sandbox that forbids it
        pass

    def watch() -> None:
        while os.getppid() == parent and not poll.poll(interval and interval * 1000):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="dynamo-parent", daemon=True).start()


def _read(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = channel.recv(count - len(data))
        if not more:
            sys.exit(1)  # the parent has closed the channel
        data += more
    return data


def _import_package(folders: list[str], is_bare: bool) -> None:
    """Imports ``dynamo_llm`` from the parent's folders, even if they are not on ``sys.path``."""
    file = os.path.join(folders[0], "__init__.py")
    spec = importlib.util.spec_from_file_location("dynamo_llm", file, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    package = ModuleType("dynamo_llm") if is_bare else importlib.util.module_from_spec(spec)
    package.__path__ = folders
    sys.modules["dynamo_llm"] = package
    if not is_bare:
        spec.loader.exec_module(package)


def _main(number: int, parent: int) -> None:
    _reset_signals()
    _end_with(parent)
    channel = socket.socket(fileno=number)
    channel.set_inheritable(False)
    setup: dict[str, Any] = json.loads(_read(channel, int.from_bytes(_read(channel, 4), "big")))
    running = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
    if running != setup["python"]:
        sys.exit(f"{sys.executable} is {running}, but the parent process runs {setup['python']}")
    channel.sendall(b"\0")
    sys.path[:] = setup["path"]
    _import_package(setup["package"], setup["is_bare"])
    if not setup["is_bare"]:
        import logging

        from dynamo_llm.runtime.child_log import handler

        logging.basicConfig(handlers=[handler()], level=setup["log_level"])
    module = importlib.import_module(setup["module"])
    channel.sendall(b"\1")
    module.serve(channel, setup["arguments"])


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))

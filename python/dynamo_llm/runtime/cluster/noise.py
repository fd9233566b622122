# SPDX-License-Identifier: Apache-2.0
"""Keeps NVIDIA Dynamo from writing to the host's standard error stream.

Dynamo's Rust code decides at the import of ``dynamo._core`` what it logs, and logs to descriptor 2. Its
filter has a rule of its own for the target ``request_span``, a line for each request, which ``DYN_LOG=off``
does not undo, and others for errors of libraries, such as that NATS cannot be reached. A rule for those of
their events that have a message is narrower, so it wins. Dynamo answers rules of that kind with a warning of
36 lines, once, from the thread that imports it.
"""

import ctypes
import importlib
import os
import signal
import sys
import threading
from typing import Any

#: Whoever sets one of these sees to Dynamo's log himself.
_variables = ("DYN_LOG", "DYN_LOGGING_CONFIG_PATH", "OTEL_EXPORT_ENABLED")

#: Targets that Dynamo has rules of its own for.
_targets = (
    "request_span", "async_nats", "axum", "h2", "hf_hub", "hyper_util", "neli", "rustls", "tokenizers",
    "tonic", "tower",
)  # fmt: skip

_silence = ",".join(["off", *(f"{target}[{{message}}]=off" for target in _targets)])

_CLONE_FILES = 0x400

#: Signals that a thread gets for what it did itself.
_of_crashes = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}

_lock = threading.Lock()


def prepare() -> Any:
    """Import ``dynamo._core`` so that it stays silent, if nobody has imported it yet.

    The environment variable ``DYN_LOG`` is set, unless Dynamo's log is configured already: by it, by
    ``DYN_LOGGING_CONFIG_PATH``, or by ``OTEL_EXPORT_ENABLED``. Then nothing is changed and nothing hidden.

    Any thread; blocks for the import, which may take a second.

    :returns: the module.
    :raises ImportError: Dynamo is not installed.
    """
    with _lock:
        if "dynamo._core" in sys.modules or any(name in os.environ for name in _variables):
            return importlib.import_module("dynamo._core")
        os.environ["DYN_LOG"] = _silence
        try:
            return _import_unheard()
        except BaseException:
            del os.environ["DYN_LOG"]
            raise


def _import_unheard() -> Any:
    """Import it in a thread whose descriptor 2 is /dev/null; all other threads keep theirs."""
    result: list[Any] = []

    def run() -> None:
        try:
            # No handler of the host's shall run here, where its messages would not be seen.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _of_crashes)
            _leave_stderr()
            result.append(importlib.import_module("dynamo._core"))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run, name="dynamo-import")
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def _leave_stderr() -> None:
    """Give this thread a table of descriptors of its own, with /dev/null for stderr.

    Where the system does not let it, the import is heard: better once than a line for each request.
    """
    try:
        is_apart = ctypes.CDLL(None).unshare(_CLONE_FILES) == 0
    except AttributeError:  # not Linux
        is_apart = False
    if is_apart:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)

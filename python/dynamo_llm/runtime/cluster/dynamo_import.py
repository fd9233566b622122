# SPDX-License-Identifier: Apache-2.0
"""Imports ``dynamo._core`` in a way that keeps it from writing to the host's standard error stream.

Dynamo's Rust code decides at the import what it logs, and logs to descriptor 2. Its filter has built-in rules
for some targets, which ``DYN_LOG=off`` does not override: ``request_span``, a line for each request, and
libraries' errors, such as an unreachable NATS server. A rule restricted to events that have a message is more
specific, so it wins. Dynamo answers rules of that kind with a warning of 36 lines, once, from the importing
thread.
"""

import ctypes
import importlib
import os
import signal
import sys
import threading
from typing import Any

#: Whoever sets one of these configures Dynamo's log.
_variables = ("DYN_LOG", "DYN_LOGGING_CONFIG_PATH", "OTEL_EXPORT_ENABLED")

#: Targets that Dynamo has built-in rules for.
_targets = (
    "request_span", "async_nats", "axum", "h2", "hf_hub", "hyper_util", "neli", "rustls", "tokenizers",
    "tonic", "tower",
)  # fmt: skip

_silence = ",".join(["off", *(f"{target}[{{message}}]=off" for target in _targets)])

_CLONE_FILES = 0x400

#: Signals that a thread gets for its own faults.
_fault_signals = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}

_lock = threading.Lock()


def import_core() -> Any:
    """Imports ``dynamo._core`` so that it stays silent, unless it has been imported before.

    Sets the environment variable ``DYN_LOG``, unless Dynamo's log is configured already: by it, by
    ``DYN_LOGGING_CONFIG_PATH``, or by ``OTEL_EXPORT_ENABLED``. Then nothing is changed and nothing hidden.

    May be called on any thread; blocks during the import, which may take a second.

    :returns: the module.
    :raises ImportError: Dynamo is not installed.
    """
    with _lock:
        if "dynamo._core" in sys.modules or any(name in os.environ for name in _variables):
            return importlib.import_module("dynamo._core")
        os.environ["DYN_LOG"] = _silence
        try:
            return _import_silently()
        except BaseException:
            del os.environ["DYN_LOG"]
            raise


def _import_silently() -> Any:
    """Imports it on a thread whose descriptor 2 is /dev/null; all other threads keep theirs."""
    result: list[Any] = []

    def run() -> None:
        try:
            # The host's signal handlers must not run here, where their messages would be lost.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _fault_signals)
            _redirect_stderr()
            result.append(importlib.import_module("dynamo._core"))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run, name="dynamo-import")
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def _redirect_stderr() -> None:
    """Gives this thread its own descriptor table, with /dev/null for stderr.

    Where the system refuses that, the warning is printed: better once than a line for each request.
    """
    try:
        is_separate = ctypes.CDLL(None).unshare(_CLONE_FILES) == 0
    except AttributeError:  # not Linux
        is_separate = False
    if is_separate:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)

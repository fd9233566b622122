# SPDX-License-Identifier: Apache-2.0
"""How long a client waits for a worker: ``cluster.stall_ms`` and ``cluster.request_timeout_ms``.

NVIDIA Dynamo reads both from environment variables, in whole seconds: the first one whenever it creates the
router of a model, the other one once in a process. When a time is over, Dynamo puts the worker aside, and
moves the request to another one.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from dynamo_llm.errors import InvalidConfigError

_stall_variable = "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS"
#: For requests over TCP and over NATS.
_request_variables = ("DYN_TCP_REQUEST_TIMEOUT", "DYN_NATS_REQUEST_TIMEOUT_SECS")
#: Long, because a worker is silent while it reads a long prompt, or while the request is in its queue.
_default_stall_ms = 60_000
#: A worker acknowledges a request before it executes it.
_default_request_ms = 5_000


@dataclass(frozen=True)
class Timeouts:
    """Both times in milliseconds; None where the configuration omits them."""

    stall_ms: int | None = None
    """How long a stream may be silent; 0: no limit."""
    request_ms: int | None = None
    """How long a worker may take to acknowledge a request."""


_claimed = Timeouts()
_lock = threading.Lock()


def claim(given: Timeouts) -> None:
    """Sets Dynamo's variables; to be called before the process's first Dynamo runtime is created, and by each
    later user. They stay set. What nobody configures keeps the value of the environment. Thread-safe.

    :raises InvalidConfigError: another user of the process has configured another value.
    """
    global _claimed
    with _lock:
        for key, first, value in (
            ("stall_ms", _claimed.stall_ms, given.stall_ms),
            ("request_timeout_ms", _claimed.request_ms, given.request_ms),
        ):
            if first is not None and value is not None and first != value:
                raise InvalidConfigError(
                    f'"cluster.{key}" of the configuration is {value}, but another runtime of this process '
                    f"uses {first}: NVIDIA Dynamo has one value for a process"
                )
        _set((_stall_variable,), given.stall_ms, _default_stall_ms)
        _set(_request_variables, given.request_ms, _default_request_ms)
        _claimed = Timeouts(
            _claimed.stall_ms if given.stall_ms is None else given.stall_ms,
            _claimed.request_ms if given.request_ms is None else given.request_ms,
        )


def stall_seconds() -> float | None:
    """Returns how long a stream of this process may be silent; None: for any time."""
    with _lock:
        if _claimed.stall_ms is not None:
            return _claimed.stall_ms / 1000 or None
    text = os.environ.get(_stall_variable, "")
    return float(text) or None if text.isascii() and text.isdigit() else None


@contextlib.contextmanager
def unlimited_silence() -> Iterator[None]:
    """Clients of endpoints that Dynamo creates inside the context do not limit the silence of a stream."""
    with _lock:
        before = os.environ.pop(_stall_variable, None)
    try:
        yield
    finally:
        with _lock:
            if before is not None:
                os.environ.setdefault(_stall_variable, before)


def _set(names: tuple[str, ...], given: int | None, default: int) -> None:
    for name in names:
        if given is not None:
            os.environ[name] = str(math.ceil(given / 1000))
        else:
            os.environ.setdefault(name, str(math.ceil(default / 1000)))

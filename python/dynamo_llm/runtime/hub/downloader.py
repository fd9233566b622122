# SPDX-License-Identifier: Apache-2.0
"""The program of the child process that finds a model of the Hugging Face Hub, and downloads it.

huggingface_hub runs here and not in the host: it starts threads of native code, logs, waits as long as a
server asks it to, and keeps the token in its memory. A process can be ended at any moment, and what it had
downloaded completely stays in the cache.
"""

import json
import logging
import os
import re
import socket
import threading
from typing import Any, NoReturn

from dynamo_llm.errors import DynamoError, EngineFailedError, EngineUnavailableError
from dynamo_llm.runtime.child_log import handler
from dynamo_llm.runtime.hub.refusal import AnswerError
from dynamo_llm.runtime.hub.repository import Repository
from dynamo_llm.runtime.hub.watchdog import Watchdog
from dynamo_llm.runtime.secret import redact

_log = logging.getLogger("dynamo_llm.hub")

#: What names of files in the cache are made of.
_safe_header = re.compile(r'(W/)?"?[A-Za-z0-9_.+=-]{1,200}"?')
#: Bytes that are read at once. huggingface_hub's 10 MB would show no progress for minutes on a slow network.
_block = 256 << 10


class _Channel:
    """Writes messages to the parent, one JSON text on a line."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock:
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def progress(self, phase: str, count: int, total: int) -> None:
        self.send(progress=[phase, count, total])

    def end(self, **message: Any) -> NoReturn:
        """Sends the last message, and ends the process without waiting for downloads."""
        with self._lock:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
            os._exit(0)

    def fail(self, error: DynamoError) -> NoReturn:
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "dynamo_llm.errors")
        self.end(error=kind.__name__, message=redact(error.message))


class _Redacting(logging.Formatter):
    """Formats records without the token."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return redact(self._inner.format(record))


def _log_redacted(level: int) -> None:
    own = handler()
    own.setFormatter(_Redacting(own.formatter))
    logging.basicConfig(handlers=[own], level=level)


def serve(channel: socket.socket, arguments: Any) -> None:
    """Finds the model, tells the parent where it is, and ends the process.

    :param arguments: ``name``, ``repository``, ``quantization``, ``revision``, ``formats``, ``refresh``,
        ``offline``, ``log_level``.
    """
    out = _Channel(channel)
    _log_redacted(arguments["log_level"])
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if arguments["offline"]:
        os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        hub = _import_hub()
        seconds = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT

        repository = Repository(hub, arguments)

        def fail(reason: str) -> None:
            out.fail(repository.refusal.stalled(reason))

        path = repository.find(Watchdog(out.progress, fail, seconds))
    except DynamoError as error:
        out.fail(error)
    except BaseException as error:
        _log.exception("the lookup of %s failed", arguments["name"])
        out.fail(EngineFailedError(f"{arguments['name']}: {type(error).__name__}: {error}"))
    out.end(path=str(path))


def _import_hub() -> Any:
    try:
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils._http import default_client_factory
    except ImportError as error:
        raise EngineUnavailableError(
            f"models of the Hugging Face Hub need the Python package huggingface_hub ({error}); run: "
            f'python -m pip install "huggingface_hub>=1.31,<3"'
        ) from error
    constants.DOWNLOAD_CHUNK_SIZE = _block
    logger = logging.getLogger("huggingface_hub")
    logger.handlers.clear()  # it has one of its own, which would print the token
    logger.propagate = True
    logger.getChild("_snapshot_download").setLevel(logging.ERROR)  # that no file was asked for is intended

    def client() -> Any:
        made = default_client_factory()
        made.event_hooks = {**made.event_hooks, "response": [_check_headers]}
        return made

    huggingface_hub.set_client_factory(client)
    return huggingface_hub


def _check_headers(response: Any) -> None:
    """Refuses headers that huggingface_hub makes names of files in the cache of, if they could leave it. It
    takes them from answers to HEAD.
    """
    if response.request.method != "HEAD":
        return
    for name in ("ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Xet-Hash"):
        value = response.headers.get(name)
        if value is not None and (not _safe_header.fullmatch(value) or ".." in value):
            raise AnswerError(f"its header {name} is not valid")

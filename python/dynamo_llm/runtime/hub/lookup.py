# SPDX-License-Identifier: Apache-2.0
"""Finds a model of the Hugging Face Hub by name: in the cache, or by downloading it."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dynamo_llm import errors
from dynamo_llm.errors import (
    DynamoError,
    EngineNotFoundError,
    NotSupportedError,
    SystemFailedError,
    UnavailableError,
)
from dynamo_llm.runtime import registry
from dynamo_llm.runtime.child import Child
from dynamo_llm.runtime.hub import hub_name
from dynamo_llm.runtime.hub.progress import Progress

#: Seconds within which the child process must give a sign of life; it gives several in a second.
_silence = 60.0
_longest_line = 1 << 20


def formats_of(engine: type[Any], options: dict[str, Any]) -> tuple[str, ...]:
    """Returns what an engine loads of a repository; empty if it does not load model files by path."""
    formats: tuple[str, ...] = tuple(getattr(engine, "model_formats", ()))
    return (*formats, "code") if formats and options.get("trust_remote_code") is True else formats


def find(
    model: str,
    formats: Sequence[str],
    *,
    refresh: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Returns the folder or the GGUF file of a model. Blocks, for as long as a download takes.

    :param model: the name, with or without ``hf:``.
    :param formats: what the engine loads: see :func:`formats_of`.
    :param refresh: whether to ask the hub even if the cache has the model.
    :param offline: whether to look in the cache only.
    :param progress: called in this thread. An exception of it ends the download.
    :raises InvalidConfigError: the name is not valid.
    :raises ModelNotFoundError: the repository, revision, or quantization does not exist, needs a permission,
        or is not in the cache and must not be downloaded.
    :raises UnavailableError: the hub cannot be reached, or is too slow.
    :raises SystemFailedError: the model cannot be saved, or no child process can be started.
    """
    name = hub_name.parse(model)
    child = Child(
        "dynamo_llm.runtime.hub.downloader",
        name="hub",
        is_bare=True,
        arguments={
            "name": str(name),
            "repository": name.repository,
            "quantization": name.quantization,
            "revision": name.revision,
            "formats": list(formats),
            "refresh": refresh,
            "offline": offline,
            "log_level": logging.getLogger("dynamo_llm").getEffectiveLevel(),
        },
    )
    child.start()
    try:
        last = None
        for message in _messages(child):
            if "path" in message:
                return Path(message["path"])
            if "error" in message:
                raise _error(message)
            if progress is not None and message["progress"] != last:
                last = message["progress"]
                progress(*last)
        raise SystemFailedError(
            f'the process that looks the model "{name}" up {child.ending or "ended"} without an answer'
        )
    finally:
        child.stop(0.0, 0.0)


def find_for(
    engine: str, model: str, options: dict[str, Any], *, progress: Progress | None = None, **more: bool
) -> Path:
    """Does the same as :func:`find` for the engine of a name.

    :param options: the engine's options.
    :raises NotSupportedError: the engine does not load model files.
    """
    try:
        formats = formats_of(registry.find(engine), options)
    except EngineNotFoundError:
        if engine not in registry.names():
            raise
        formats = ()  # one that is built into the library
    if not formats:
        raise NotSupportedError(
            f'the engine "{engine}" does not load models of the Hugging Face Hub by name; engines that do '
            f"are mistralrs, transformers, and vllm"
        )
    return find(model, formats, progress=progress, **more)


def _messages(child: Child) -> Iterator[dict[str, Any]]:
    child.channel.settimeout(_silence)
    rest = b""
    while True:
        try:
            data = child.channel.recv(65536)
        except TimeoutError:
            child.kill()
            raise SystemFailedError(
                f"the process that looks models up did not answer for {_silence:g} seconds"
            ) from None
        except ConnectionError:
            data = b""
        if not data:
            child.wait(5.0)
            return
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _longest_line:
            raise SystemFailedError("the process that looks models up sent a line that is too long")
        for line in lines:
            yield json.loads(line)


def _error(message: dict[str, Any]) -> DynamoError:
    kind: type[DynamoError] = getattr(errors, message["error"])
    error = kind(message["message"])
    error.details = {
        "status": error.status,
        "name": error.status_name,
        "message": error.message,
        "retriable": kind is UnavailableError,
    }
    return error

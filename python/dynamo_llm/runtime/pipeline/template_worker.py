# SPDX-License-Identifier: Apache-2.0
"""Runs in a child process and renders chat templates. Started by
:mod:`dynamo_llm.runtime.pipeline.template_pool`.

A request is two values: ``{"id", "drop", "memory", "most"}`` and ``{"set", "body"}``. ``id`` identifies a
model's templates; ``set`` contains them if this process does not have them yet. An answer is a line of JSON,
followed by ``size`` bytes of text if it has a ``size``.
"""

import contextlib
import json
import os
import resource
import socket
import traceback
from typing import Any

from dynamo_llm.errors import DynamoError
from dynamo_llm.runtime.pipeline import marshalled_value
from dynamo_llm.runtime.pipeline.template import ChatTemplates

#: Memory growth in bytes after which this process ends, to be replaced by a new one.
_most_growth = 64 << 20
#: Maximum number of warnings in an answer, and maximum characters of each and of an error: names in a request
#: may be long.
_most_warnings, _most_characters = 8, 4000
#: Maximum bytes of a text that is sent together with its head: each send wakes the parent.
_together = 1 << 16


def _size() -> int:
    """Returns the size of this process's address space in bytes; 0 if the system does not report it."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit(size: int) -> None:
    """Limits the address space; 0 for no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = size or hard
    if hard != resource.RLIM_INFINITY:
        bound = min(bound, hard)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def _utf8(text: str) -> bytes:
    """Encodes a text as UTF-8, with U+FFFD for lone surrogates, which a template may write."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


class _Worker:
    def __init__(self) -> None:
        self._templates: dict[int, ChatTemplates] = {}
        self._warnings: list[str] = []

    def answer(self, header: dict[str, Any], file: Any) -> tuple[dict[str, Any], bytes]:
        self._warnings.clear()
        before = _size()
        if before:
            _limit(before + header["memory"])
        try:
            text = _utf8(self._text(header, marshalled_value.load(file)))
            if len(text) > header["most"]:
                return {"error": "size", "message": ""}, b""
            warnings = [warning[:_most_characters] for warning in self._warnings[:_most_warnings]]
            return {"size": len(text), "warnings": warnings}, text
        except DynamoError as error:
            if isinstance(error.__cause__, MemoryError):
                return {"error": "memory", "message": ""}, b""
            name = error.status_name.removeprefix("DYNAMO_ERROR_")
            return {"error": name, "message": error.message[:_most_characters]}, b""
        except MemoryError:
            return {"error": "memory", "message": ""}, b""
        except Exception as error:
            message = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-20)}"
            return {"error": "failed", "message": message[:_most_characters]}, b""
        finally:
            _limit(0)

    def _text(self, header: dict[str, Any], content: dict[str, Any]) -> str:
        for number in header["drop"]:
            self._templates.pop(number, None)
        if content["set"] is not None:
            sources, special_tokens, media = content["set"]
            warn = self._warnings.append
            self._templates[header["id"]] = ChatTemplates(sources, special_tokens, warn, media)
        templates = self._templates[header["id"]]
        if content["body"] is None:
            templates.prepare()
            return ""
        return templates.render(content["body"])


def serve(channel: socket.socket, arguments: Any) -> None:
    """Answers requests until the channel is closed."""
    # When memory runs out, the kernel should kill this process first.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    requests: Any = channel.makefile("rb", buffering=1 << 16)
    worker = _Worker()
    at_start = _size()
    while header := marshalled_value.load(requests):
        head, text = worker.answer(header, requests)
        ends = _size() - at_start > _most_growth or head.get("error") == "memory"
        line = json.dumps({**head, "ends": ends}).encode() + b"\n"
        for data in (line + text,) if len(text) < _together else (line, text):
            channel.sendall(data)
        del text, data
        if ends:
            os._exit(0)

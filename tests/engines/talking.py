# SPDX-License-Identifier: Apache-2.0
"""Engines that talk: to stdout, stderr, loggers, warnings and sockets."""

import logging
import os
import socket
import sys
import warnings
from typing import Any


class Base:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Talker(Base):
    async def generate(self, request: Any) -> Any:
        print("printed to stdout")
        print("printed", "in", "parts", end="")
        print("printed to stderr", file=sys.stderr)
        log = logging.getLogger("talker.inner")
        log.debug("a debug record")
        log.info("an info record")
        log.warning("a warning record: %s", "é")
        log.error("not UTF-8: %s", "\udc80")
        try:
            raise KeyError("why")
        except KeyError:
            log.exception("an error record")
        warnings.warn("a Python warning", stacklevel=1)
        yield {"text": "talked"}


class Broken(Base):
    """Sends to a socket whose other end is closed."""

    async def generate(self, request: Any) -> Any:
        yield {"text": _send()}


class BrokenInThread(Base):
    def generate(self, request: Any) -> Any:
        yield {"text": _send()}


def _send() -> str:
    ours, theirs = socket.socketpair()
    theirs.close()
    try:
        ours.send(b"x")
    except BrokenPipeError:
        pass
    else:
        return "sent"
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    except BrokenPipeError:
        return "BrokenPipeError"
    finally:
        os.close(write)
        ours.close()
    return "written"

# SPDX-License-Identifier: Apache-2.0
"""Brings what an engine's child processes say to the library's log: stdout and stderr are the host's."""

import asyncio
import json
import logging
import os
import re
import shutil
import socket
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

_record = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+: .*)")
#: Characters after which a line is cut.
_longest = 8000


class ChildLog:
    """A socket that child processes connect their stdout and stderr to; lines become log records.

    :param name: of the logger.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._folder = Path(tempfile.mkdtemp(prefix="dynamo-llm-"))
        self._server: asyncio.Server | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self.errors: deque[str] = deque(maxlen=50)
        """The latest lines with level error or above."""

    async def open(self) -> None:
        """Listen, on the running loop."""
        self._server = await asyncio.start_unix_server(self._accept, self._folder / "log")

    def config_file(self, logger: str) -> Path:
        """A file for :func:`logging.config.dictConfig`, with which a child process connects.

        :param logger: name of the logger whose records it sends.
        """
        config = {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "dynamo": {
                    "()": f"{__name__}.connect",
                    "path": str(self._folder / "log"),
                    "host": os.getpid(),
                }
            },
            "loggers": {
                logger: {
                    "handlers": ["dynamo"],
                    "level": self._logger.getEffectiveLevel(),
                    "propagate": False,
                }
            },
        }
        path = self._folder / "logging.json"
        path.write_text(json.dumps(config))
        return path

    async def settle(self, seconds: float) -> None:
        """Wait until all that connected have gone, for so long at most."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=seconds)

    def close(self) -> None:
        """Listen no more. On the loop; what is still connected is read to its end."""
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._read(reader, writer))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            level = logging.INFO if await reader.readexactly(1) == b"1" else logging.WARNING
            line = ""
            while more := await reader.read(65536):
                *lines, line = re.split(r"[\r\n]+", line + more.decode("utf-8", "replace"))
                for one in [*lines, line] if len(line) > _longest else lines:
                    self._log(level, one)
                line = "" if len(line) > _longest else line
            self._log(level, line)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it died; whoever waits for its work says so
        finally:
            writer.close()

    def _log(self, level: int, line: str) -> None:
        if found := _record.match(line):
            level = getattr(logging, found[1])
            line = found[2]
        if level >= logging.ERROR:
            self.errors.append(line)
        if line.strip():
            self._logger.log(level, "%s", line[:_longest])


class _Lines(logging.Formatter):
    """Each line of a record with its level and logger."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(
            f"{record.levelname} {record.name}: {line}" for line in super().format(record).splitlines()
        )


def connect(path: str, host: int) -> logging.Handler:
    """Connect this process's stdout and stderr to a :class:`ChildLog`; dictConfig calls it.

    :param path: of its socket.
    :param host: id of the process that listens; there it does nothing.
    """
    if os.getpid() == host:
        return logging.NullHandler()
    for number in (1, 2):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(str(number).encode())
            os.dup2(connection.fileno(), number)
    stream: Any = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines())
    return handler

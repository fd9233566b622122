# SPDX-License-Identifier: Apache-2.0
"""Forwards the output of child processes to the library's log, since stdout and stderr belong to the host."""

import asyncio
import codecs
import json
import logging
import os
import re
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

_record = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+: .*)")
#: Characters of a line that are logged; the rest is cut off.
_longest = 8000


class Lines:
    """Logs the output of a child process line by line. A line written by :func:`handler` keeps its level;
    others have ``level``. ``on_line`` is called with the level and the text of each.
    """

    def __init__(
        self,
        logger: logging.Logger,
        level: int,
        on_line: Callable[[int, str], None] = lambda level, line: None,
    ) -> None:
        self._logger = logger
        self._level = level
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Takes more output, and logs the complete lines."""
        self._log(self._rest + self._decoder.decode(data))

    def end(self) -> None:
        """Logs the last line, if it does not end with a newline."""
        self._log(self._rest + self._decoder.decode(b"", final=True) + "\n")

    def _log(self, text: str) -> None:
        *lines, self._rest = re.split(r"[\r\n]+", text)
        if len(self._rest) > _longest:
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            if not line.strip():
                continue
            found = _record.match(line)
            level, what = (getattr(logging, found[1]), found[2]) if found else (self._level, line)
            self._on_line(level, what)
            self._logger.log(level, "%s", what[:_longest])


class ChildLog:
    """A socket that child processes connect stdout and stderr to. Each line becomes a record of a logger."""

    def __init__(self, logger: str) -> None:
        self._logger = logging.getLogger(logger)
        self._folder = Path(tempfile.mkdtemp(prefix="dynamo-llm-"))
        self._server: asyncio.Server | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self.errors: deque[str] = deque(maxlen=50)
        """The latest lines with level error or above."""

    async def open(self) -> None:
        """Starts to listen, on the running event loop."""
        self._server = await asyncio.start_unix_server(self._accept, self._folder / "log")

    def config_file(self, logger: str) -> Path:
        """Writes a file for :func:`logging.config.dictConfig` that makes a child process connect.

        :param logger: name of the logger whose records the child sends.
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
        """Waits until all connections are closed, for at most so many seconds."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=seconds)

    def close(self) -> None:
        """Stops listening. On the event loop. Open connections are read to their end."""
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
            lines = Lines(self._logger, level, self._on_line)
            while more := await reader.read(65536):
                lines.feed(more)
            lines.end()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the child died; that is reported where its work is awaited
        finally:
            writer.close()

    def _on_line(self, level: int, line: str) -> None:
        if level >= logging.ERROR:
            self.errors.append(line)


class _Formatter(logging.Formatter):
    """Writes the level and the logger in front of each line of a record."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(
            f"{record.levelname} {record.name}: {line}" for line in super().format(record).splitlines()
        )


def connect(path: str, host: int) -> logging.Handler:
    """Connects this process's stdout and stderr to a :class:`ChildLog`. dictConfig calls it.

    :param path: path of the socket.
    :param host: id of the process that listens; in that process the function does nothing.
    """
    if os.getpid() == host:
        return logging.NullHandler()
    for number in (1, 2):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(str(number).encode())
            os.dup2(connection.fileno(), number)
    return handler()


def handler() -> logging.Handler:
    """Creates a handler for a child process: it writes records to stderr as :class:`Lines` reads them."""
    stream: Any = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter())
    return handler

# SPDX-License-Identifier: Apache-2.0
"""Writes the results of a batch, and continues those of an earlier run."""

import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dynamo_llm.errors import InvalidArgumentError, InvalidStateError, SystemFailedError
from dynamo_llm.printable import dump_json

if sys.platform != "win32":
    import fcntl

#: How each line of this module begins.
_beginning = b'{"id": "batch_req_'
#: Bytes of a line that was written by an earlier run. A longer one is not a result.
_longest = 1 << 30
#: Pages of 4 KiB that a table of ids keeps in memory.
_cached_pages = 8192


class CustomIds:
    """The ``custom_id`` of each line so far, in a temporary file, so that memory does not grow with their
    number. One thread uses it at a time.
    """

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            f"PRAGMA cache_size = {_cached_pages}",
            "CREATE TABLE ids (id BLOB PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID",
        ):
            self._table.execute(statement)

    def add_done(self, custom_id: str) -> None:
        """Adds the id of a request that an earlier run has answered."""
        self._table.execute("INSERT OR IGNORE INTO ids VALUES (?, 0)", (_key(custom_id),))

    def add(self, custom_id: str, line: int) -> int | None:
        """Adds the id of a line of the input.

        :returns: None if it is new; 0 if an earlier run has answered it; otherwise the line that has the same
            id.
        """
        key = _key(custom_id)
        found = self._table.execute("SELECT line FROM ids WHERE id = ?", (key,)).fetchone()
        if found is None or found[0] == 0:
            self._table.execute("INSERT OR REPLACE INTO ids VALUES (?, ?)", (key, line))
        return None if found is None else int(found[0])

    def close(self) -> None:
        """Deletes the table."""
        self._table.close()


def _key(custom_id: str) -> bytes:
    return custom_id.encode("utf-8", "surrogatepass")


class BatchOutput:
    """The file with the results: a line for each request, in the order of completion.

    A file of an earlier run is continued: its results of failed requests are removed, and so is a line that
    was cut off.

    :param ids: receives the ids of the requests that the file already answers.
    :raises InvalidArgumentError: the file cannot be written, or has other content.
    :raises InvalidStateError: another batch writes the file.
    """

    def __init__(self, path: str | os.PathLike[str], ids: CustomIds) -> None:
        self._path = Path(os.path.realpath(path))
        self._lock = threading.Lock()
        try:
            self._file = self._open()
        except OSError as error:
            raise InvalidArgumentError(f'the output "{path}" cannot be written: {error.strerror}') from error
        try:
            self._continue(ids)
        except OSError as error:
            self._file.close()
            raise InvalidArgumentError(
                f'the output "{path}" cannot be continued: {error.strerror}'
            ) from error
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> BinaryIO:
        # Not Path.open("a+b"), which would create a file of a device or wait for the reader of a pipe.
        if self._path.exists() and not self._path.is_file():
            raise InvalidArgumentError(
                f'the output "{self._path}" is not a file; results can be continued in a regular file only'
            )
        file = self._path.open("a+b", buffering=0)
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed
            except BlockingIOError:
                file.close()
                raise InvalidStateError(f'another batch is writing the output "{self._path}"') from None
        return file

    # ------------------------------------------------------------------------------ earlier runs

    def _continue(self, ids: CustomIds) -> None:
        """Reads and repairs the results of an earlier run."""
        has_failed = False

        def look(_line: bytes, custom_id: str | None) -> None:
            nonlocal has_failed
            if custom_id is None:
                has_failed = True
            else:
                ids.add_done(custom_id)

        self._each_result(look)
        if has_failed:
            self._remove_failed()

    def _each_result(self, function: Callable[[bytes, str | None], None]) -> None:
        """Calls a function with each line, and the ``custom_id`` of a success. Removes a line that was cut
        off.
        """
        end = 0
        with self._path.open("rb", buffering=1 << 20) as reader:
            for number, line in enumerate(iter(lambda: reader.readline(_longest), b""), 1):
                is_whole = line.endswith(b"\n")
                try:
                    custom_id = _success_of(line)
                except ValueError:
                    if is_whole or line[: len(_beginning)] != _beginning[: len(line)]:
                        raise InvalidArgumentError(
                            f'line {number} of the output "{self._path}" is not a result of a batch; give '
                            f"the output of an earlier run, or a file that does not exist"
                        ) from None
                    os.ftruncate(self._file.fileno(), end)
                    return
                end += len(line)
                function(line if is_whole else line + b"\n", custom_id)
                if not is_whole:
                    self._file.write(b"\n")
                    return

    def _remove_failed(self) -> None:
        """Replaces the file by one without the results of failed requests."""
        folder, name = self._path.parent, self._path.name
        with tempfile.NamedTemporaryFile("wb", prefix=f".{name}.", dir=folder, delete=False) as kept:
            try:

                def keep(line: bytes, custom_id: str | None) -> None:
                    if custom_id is not None:
                        kept.write(line)

                self._each_result(keep)
                kept.flush()
                os.fsync(kept.fileno())
                os.chmod(kept.name, os.fstat(self._file.fileno()).st_mode & 0o7777)
                os.replace(kept.name, self._path)
            except BaseException:
                os.unlink(kept.name)
                raise
        self._file.close()
        self._file = self._open()

    # ---------------------------------------------------------------------------------- this run

    def append(self, result: dict[str, Any]) -> None:
        """Writes a result. Thread-safe.

        :raises SystemFailedError: it cannot be written. The file still ends with a whole line.
        """
        left = memoryview(dump_json(result).encode() + b"\n")
        with self._lock:
            end = os.fstat(self._file.fileno()).st_size
            try:
                while left:
                    left = left[self._file.write(left) or 0 :]
            except OSError as error:
                os.ftruncate(self._file.fileno(), end)
                raise SystemFailedError(
                    f'the output "{self._path}" cannot be written: {error.strerror}'
                ) from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()


def _success_of(line: bytes) -> str | None:
    """Returns the ``custom_id`` of a result; None if its request failed.

    :raises ValueError: the line is not a result.
    """
    try:
        result = json.loads(line.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(result, dict) or not {"custom_id", "response", "error"} <= result.keys():
        raise ValueError("not a result")
    response, custom_id = result["response"], result["custom_id"]
    is_success = (
        result["error"] is None
        and isinstance(response, dict)
        and response.get("status_code") == 200
        and isinstance(custom_id, str)
    )
    return custom_id if is_success else None

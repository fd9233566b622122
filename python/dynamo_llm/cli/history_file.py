# SPDX-License-Identifier: Apache-2.0
"""Keeps what was typed at a prompt across runs."""

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

#: Entries that are kept; the oldest are dropped.
_most_entries = 1000
#: Bytes of the file that are kept, and of an entry that is stored.
_most_bytes = 1 << 20
_longest_entry = 1 << 16


def default_path() -> Path:
    """Returns the file in the folder for state of the XDG base directory specification."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a relative path is not valid, and ignored.
    state = Path(folder) if os.path.isabs(folder) else Path("~/.local/state").expanduser()
    return state / "dynamo-llm" / "chat_history"


class HistoryFile(History):
    """What was typed, in a file with one JSON string on each line, the newest last. Only the user can read
    the file. Entries of several runs at the same time go to the same file.

    :raises OSError: the file cannot be created or read, or it is not a regular file.
    """

    problem: str | None = None
    """Why the last entry was not stored; None if it was."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._open(os.O_RDONLY), encoding="utf-8", errors="replace") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _most_bytes))
            self._entries = _parsed(file.read().splitlines())[-_most_entries:]

    def _open(self, flags: int) -> int:
        # A link, such as one of a prepared home directory, could lead to any file.
        fd = os.open(self._path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(f"{self._path} is not a regular file")
        os.fchmod(fd, 0o600)
        return fd

    def load_history_strings(self) -> Iterable[str]:
        """Returns the entries, the newest first."""
        return reversed(self._entries)

    def store_string(self, string: str) -> None:
        """Appends an entry. One that is too long, such as a pasted file, is not stored."""
        line = json.dumps(string) + "\n"
        if len(line) > _longest_entry:
            return
        try:
            self._append(line)
            self.problem = None
        except OSError as error:  # prompt_toolkit would end the prompt, and what was typed would be lost
            self.problem = str(error)

    def _append(self, line: str) -> None:
        with open(self._open(os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8") as file:
            file.write(line)
            size = file.tell()
        if size > 2 * _most_bytes:
            self._shorten()

    def _shorten(self) -> None:
        with open(self._open(os.O_RDONLY), encoding="utf-8", errors="replace") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _most_bytes))
            kept = _parsed(file.read().splitlines())[-_most_entries:]
        shorter = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fd = os.open(shorter, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        os.replace(shorter, self._path)


def _parsed(lines: list[str]) -> list[str]:
    """Returns the entries of lines; one that is cut off, or that something else has written, is left out."""
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, str):
            entries.append(entry)
    return entries

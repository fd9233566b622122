# SPDX-License-Identifier: Apache-2.0
"""Creates temporary files and folders for mistral.rs, which reads them while it loads a model.

Each folder has a file that is locked while the folder is in use. So folders left behind by a killed process
are recognized, and removed when the next folder is created.
"""

import itertools
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dynamo_llm.errors import NotSupportedError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_prefix, _lock_name = "dynamo-llm-", ".lock"
#: Maximum number of entries in the temporary folder to check, because other users may have filled it.
_most_entries = 10_000


@contextmanager
def file(name: str, text: str) -> Iterator[str]:
    """Creates a temporary file, which is removed at the end of the block. Yields its path.

    On Linux the file is in memory, so that a killed process leaves nothing behind.
    """
    if not hasattr(os, "memfd_create") or not os.path.isdir("/proc/self/fd"):
        with folder({name: text}) as path:
            yield str(path / name)
        return
    with os.fdopen(os.memfd_create(name), "w", encoding="utf-8", newline="") as opened:
        opened.write(text)
        opened.flush()
        yield f"/proc/self/fd/{opened.fileno()}"


@contextmanager
def folder(files: Mapping[str, str], links: Iterable[Path] = ()) -> Iterator[Path]:
    """Creates a temporary folder that only this user can enter, with an unpredictable name. Removes it at the
    end of the block.

    :param files: texts by file name.
    :param links: files and folders that the folder links to, each under its own name.
    :raises NotSupportedError: the file system supports neither symbolic nor hard links.
    """
    _remove_left_folders()
    path = Path(tempfile.mkdtemp(prefix=_prefix))
    try:
        with (path / _lock_name).open("w") as lock:
            _lock(lock)
            for name, text in files.items():
                (path / name).write_text(text, encoding="utf-8", newline="")
            for target in links:
                _link(path / target.name, target.absolute())
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target.is_dir())
    except OSError as error:  # on Windows, only administrators and developers may create links
        if target.is_dir():
            shutil.copytree(target, path)  # a module of an embedding model, which is small
            return
        try:
            path.hardlink_to(target)
        except OSError:
            raise NotSupportedError(
                f'cannot link "{path}" to "{target}": {error}; allow symbolic links, or put the model on the '
                f"drive of the temporary folder"
            ) from error


def _lock(file: IO[str]) -> bool:
    """Locks a file. Returns False if another process has locked it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left_folders() -> None:
    """Removes folders left behind by killed processes of this user. Entries of other users in the shared
    temporary folder are not opened, even if they have such a name, so they cannot block this process.
    """
    place = Path(tempfile.gettempdir())
    with suppress(OSError), os.scandir(place) as entries:
        for entry in itertools.islice(entries, _most_entries):
            if entry.name.startswith(_prefix) and _is_own(entry.path, stat.S_ISDIR):
                _remove_if_left(Path(entry.path))


def _is_own(path: str | Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether a file belongs to this user, is not a link, and is of the given kind."""
    with suppress(OSError):
        state = os.lstat(path)
        return is_kind(state.st_mode) and (not hasattr(os, "geteuid") or state.st_uid == os.geteuid())
    return False


def _remove_if_left(folder: Path) -> None:
    if not _is_own(folder / _lock_name, stat.S_ISREG):
        return
    with suppress(OSError), open(folder / _lock_name, opener=_open_without_blocking) as file:
        # A folder that was just created is not locked yet.
        if time.time() - os.fstat(file.fileno()).st_mtime > 60 and _lock(file):
            shutil.rmtree(folder, ignore_errors=True)


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))

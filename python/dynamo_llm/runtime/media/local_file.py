# SPDX-License-Identifier: Apache-2.0
"""Reads files that requests name as file URLs, from the allowed folders only."""

import logging
import os
import stat
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

_log = logging.getLogger("dynamo_llm.media")

#: Flags for every open: never block, for instance on a FIFO, and never follow a link.
_flags = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)


def read(url: str, folders: Sequence[str], most: int) -> bytes:
    """Returns the content of the file that a URL names. Blocks as reading a file does.

    Neither the file nor a folder between it and the allowed one may be a symbolic link. Each is opened
    relative to the one above it, so that none can be replaced by a link between check and use.

    :param folders: absolute paths of the allowed folders.
    :param most: maximum size in bytes.
    :raises InvalidRequestError: the URL is not allowed, or the file cannot be read; the message continues
        the name of the URL's key.
    """
    path = _path_of(url)
    if os.open not in os.supports_dir_fd:
        raise NotSupportedError("is a file URL, which this operating system cannot restrict to folders")
    for folder in folders:
        if path.is_relative_to(folder):
            return _read_below(folder, path.relative_to(folder), most)
    _log.info(
        "a request names a file outside of the allowed folders, which are %s", ", ".join(folders) or "none"
    )
    # Without the folders: the sender of a request need not know the paths of this machine.
    allowed = "only those that the configuration names" if folders else "none"
    raise InvalidRequestError(
        f'is a file URL of a folder that is not allowed; allowed are {allowed} ("media.allow_files" of the '
        "configuration)"
    )


def _path_of(url: str) -> PurePath:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("file:")
    text = unquote(parts.path, errors="surrogateescape")
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not text.startswith("/"):
        raise InvalidRequestError('must name a file as "file:///folder/name.png"')
    if "\0" in text or ".." in text.split("/"):
        raise InvalidRequestError('must be a path without ".." and NUL characters')
    return PurePath(text)


def _read_below(folder: str, path: PurePath, most: int) -> bytes:
    try:
        number = _open_below(folder, path)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise InvalidRequestError("does not name a regular file")
            with open(number, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(number)
    except OSError as error:
        # For a link, the system's message (ELOOP, or ENOTDIR) would not tell the reason.
        is_link = any(
            os.path.islink(os.path.join(folder, *path.parts[: n + 1])) for n in range(len(path.parts))
        )
        why = "symbolic links are not followed" if is_link else error.strerror
        raise InvalidRequestError(f"names a file that cannot be read: {why}") from error
    if len(data) > most:
        raise too_large(most)
    return data


def _open_below(folder: str, path: PurePath) -> int:
    """Returns a descriptor of a file below a folder."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[:-1]:
            below = os.open(name, _flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(path.name or ".", _flags, dir_fd=at)
    finally:
        os.close(at)


def too_large(most: int, size: int | None = None) -> InvalidRequestError:
    """Returns the error for data of more than ``most`` bytes."""
    given = f"more than {most}" if size is None else f"{size}"
    return InvalidRequestError(
        f'has {given} bytes; at most {most} are allowed ("media.max_bytes" of the configuration)'
    )

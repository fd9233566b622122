# SPDX-License-Identifier: Apache-2.0
"""Opens the files of a model safely, for all engines, tokenizers, and the command line.

A model's folder is untrusted. Opening a FIFO in it would block, reading a device or a kernel file would not
end, and a JSON file of several gigabytes would exhaust memory. So only regular files are opened, without
blocking, and only up to a size limit. Links to regular files are followed, because the cache of the Hugging
Face Hub consists of them.

Each function that takes a path raises :class:`ModelNotFoundError` with the path in its message.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dynamo_llm.errors import ModelNotFoundError

_MIB = 1 << 20
#: Maximum bytes of a text or JSON file.
most_bytes = 16 * _MIB
#: The same for files that grow with the vocabulary or the number of tensors; the largest known has 40 MB.
most_bytes_of_tables = 128 * _MIB
#: Maximum number of values in a JSON text: Python needs up to 80 bytes for each, however short it is.
most_values = 8_000_000
#: Maximum number of entries in a folder.
most_entries = 20_000
#: Maximum number of files that an index of weights may name; the largest known names hundreds.
most_parts = 4096

_tables = re.compile(r"(tokenizer|vocab)\.json|.*\.index\.json|merges\.txt|tokenizer\.model|.*\.tiktoken")
_text = re.compile(r".*\.(json|jinja|txt|model|tiktoken|py|md|yaml|yml)")
_kinds = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
#: Virtual file systems of the kernel: their files look regular, but their content is generated, or reading
#: blocks.
_kernel = ("/proc", "/sys")


def _refuse(path: Path, what: str) -> ModelNotFoundError:
    return ModelNotFoundError(f'the file "{path}" of the model {what}')


def _check_kind(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = _kinds.get(stat.S_IFMT(state.st_mode), "a special file")
        link = f'a link to {kind}, "{os.path.realpath(path)}",' if path.is_symlink() else f"{kind},"
        raise _refuse(path, f"is {link} not a regular file")
    for place in _kernel:
        try:
            is_kernel = os.stat(place).st_dev == state.st_dev
        except OSError:  # not mounted
            continue
        if is_kernel:
            raise _refuse(path, f"is a kernel file, in {place}, not a regular file")


def exists(path: Path) -> bool:
    """Whether a file exists. Raises an error for a folder, a device, a FIFO, or a dangling link, so that it
    is not mistaken for a missing file.
    """
    try:
        _check_kind(path, os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise _refuse(path, f'is a link to "{os.readlink(path)}", which does not exist') from None
        return False
    except (OSError, ValueError) as error:  # a circular link, or a name with a NUL
        raise _refuse(path, f"cannot be opened: {_reason(error)}") from error
    return True


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading. Never blocks.

    Its kind is checked before opening it, because merely opening some devices has an effect, and again
    afterwards, because it may have been replaced in the meantime.
    """
    if not exists(path):
        raise _refuse(path, "does not exist")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags)
    except OSError as error:
        raise _refuse(path, f"cannot be opened: {_reason(error)}") from error
    try:
        _check_kind(path, os.fstat(number))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def size_of(file: BinaryIO) -> int:
    """Returns the current size of an open file. If it grows later, the rest is not read."""
    return os.fstat(file.fileno()).st_size


def limit(path: Path) -> int:
    """Returns the maximum bytes of a text or JSON file, by its name."""
    return most_bytes_of_tables if _tables.fullmatch(path.name) else most_bytes


def read(path: Path) -> bytes:
    """Returns the content of a text or JSON file."""
    with open_file(path) as file:
        size = size_of(file)
        if size > limit(path):
            raise _refuse(path, f"has {size} bytes; at most {limit(path)} are read")
        try:
            return file.read(size)
        except OSError as error:
            raise _refuse(path, f"cannot be read: {_reason(error)}") from error


def read_text(path: Path) -> str:
    """Returns the text of a file in UTF-8."""
    try:
        return read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(path, f"is not UTF-8: {error}") from error


def parse_json(data: bytes | str) -> Any:
    """Parses a JSON text from a model.

    :raises ValueError: it is not JSON, is nested too deeply, or has too many values.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    count = sum(text.count(mark) for mark in ",[{")  # also counts characters within strings
    if count > most_values:
        raise ValueError(f"it has about {count} values; at most {most_values} are allowed")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, kind: type = dict) -> Any:
    """Returns the JSON value in a file.

    :param kind: ``dict`` or ``list``.
    """
    try:
        value = parse_json(read(path))
    except ValueError as error:
        raise _refuse(path, f"is not valid JSON: {error}") from error
    if not isinstance(value, kind):
        word = "an object" if kind is dict else "an array"
        raise _refuse(path, f"must be {word} in JSON")
    return value


def entries(folder: Path) -> list[Path]:
    """Returns the entries of a folder, sorted by name; empty if the folder does not exist."""
    found = []
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                found.append(folder / entry.name)
                if len(found) > most_entries:
                    raise ModelNotFoundError(f'the folder "{folder}" has more than {most_entries} entries')
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f'the folder "{folder}" cannot be read: {_reason(error)}') from error
    return sorted(found)


def named(folder: Path, pattern: str) -> list[Path]:
    """Returns the files in a folder whose names match a shell pattern, sorted."""
    return [path for path in entries(folder) if path.match(pattern) and exists(path)]


def check_folder(folder: Path) -> None:
    """Checks files that another library opens: in a folder and its immediate subfolders, all files must be
    regular, and text and JSON files must not exceed the limits of :func:`read`.
    """
    for path in _files_below(folder):
        state = os.stat(path)
        if _text.fullmatch(path.name) and state.st_size > limit(path):
            raise _refuse(path, f"has {state.st_size} bytes; at most {limit(path)} are read")


def _files_below(folder: Path) -> Iterator[Path]:
    for path in entries(folder):
        if path.name.startswith("."):
            continue
        if not os.path.isdir(path):
            if exists(path):
                yield path
            continue
        for below in entries(path):
            if not os.path.isdir(below) and exists(below):
                yield below


def parts_of_index(index: Path) -> list[Path]:
    """Returns the files in its folder that an index, ``model.safetensors.index.json``, names."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise _refuse(index, 'is not an index of weights: it must have a "weight_map" from tensors to files')
    names = sorted(set(places.values()))
    if len(names) > most_parts:
        raise _refuse(index, f"names {len(names)} files; at most {most_parts} are read")
    for name in names:
        if name != Path(name).name or "\\" in name or "\0" in name or not name.endswith(".safetensors"):
            raise _refuse(index, f"names {name!r}, which must be a *.safetensors file in the same folder")
        if not exists(index.parent / name):
            raise ModelNotFoundError(f'the folder "{index.parent}" lacks {name}, which {index.name} names')
    return [index.parent / name for name in names]

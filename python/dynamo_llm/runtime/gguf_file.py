# SPDX-License-Identifier: Apache-2.0
"""Reads the header of a GGUF file. All that it declares must be in the file, and within limits."""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import model_files

PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
"""Name of a part of a model in several files, by llama.cpp's rule: stem, number, and count."""

#: Format characters of :mod:`struct`, by GGUF's number of the type.
_numbers = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Values and bytes in a block of a tensor, by the number of its type.
_blocks = {
    **{0: (1, 4), 1: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2)},
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 20: (32, 18)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 29: (256, 56), 34: (256, 54), 35: (256, 66), 39: (32, 17)},
}
_most_header = 256 << 20
_most_text = 16 << 20
_most_name = 1024
_most_values = 100_000
_most_tensors = 500_000
_most_dimensions = 8
_most_depth = 2
_most_alignment = 1 << 16


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file."""

    shape: tuple[int, ...]
    """As in GGUF, the dimension that varies fastest comes first."""
    length: int
    """Size in bytes; a lower bound if the type is unknown."""


@dataclass(frozen=True)
class Header:
    """The contents of a file's header."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


class _Reader:
    """Reads numbers, texts, and arrays. Allocates no more items than the file has bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = min(model_files.size_of(file), _most_header)
        self._items = model_files.most_values
        self.position = 0

    def take(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError("it is cut off within its header, or that has more than 256 MiB")
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("it is cut off within its header")
        self._left -= count
        self.position += count
        return data

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self, most: int = _most_text) -> str:
        length = self.number("Q")
        if length > most:
            raise ValueError(f"it has a text of {length} bytes; at most {most} are read")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(depth + 1)
        if kind not in _numbers:
            raise ValueError(f"it has a value of the unknown type {kind}")
        return self.number(_numbers[kind])

    def _array(self, depth: int) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if depth > _most_depth:
            raise ValueError(f"it has arrays in arrays, more than {_most_depth} deep")
        self._items -= count
        if self._items < 0:
            raise ValueError(f"its arrays have more than {model_files.most_values} values")
        if kind in _numbers:  # read in one call, because vocabularies are long
            size = struct.calcsize("<" + _numbers[kind])
            return list(struct.unpack(f"<{count}{_numbers[kind]}", self.take(count * size)))
        return [self.value(kind, depth) for _ in range(count)]


def read(path: Path) -> Header:
    """Reads the header of a file.

    :raises ModelNotFoundError: it is not a GGUF file of version 2 or 3, or it is incomplete.
    """
    with model_files.open_file(path) as file:
        try:
            return _read(_Reader(file), model_files.size_of(file))
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise ModelNotFoundError(f'the file "{path}" is not a model in GGUF: {error}') from error


def _read(reader: _Reader, size: int) -> Header:
    if reader.take(4) != b"GGUF":
        raise ValueError('it does not begin with "GGUF"')
    version = reader.number("I")
    if version not in (2, 3):
        raise ValueError(f"it has version {version}; known are 2 and 3")
    tensors, values = reader.number("Q"), reader.number("Q")
    if tensors > _most_tensors or values > _most_values:
        raise ValueError(
            f"it declares {tensors} tensors and {values} values; at most {_most_tensors} and {_most_values} "
            f"are read"
        )
    metadata: dict[str, Any] = {}
    for _ in range(values):
        name = reader.text(_most_name)
        metadata[name] = reader.value(reader.number("I"))
    found = [_tensor(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    is_power = type(alignment) is int and 0 < alignment <= _most_alignment and not alignment & (alignment - 1)
    if not is_power:
        raise ValueError(
            f'"general.alignment" must be a power of 2 up to {_most_alignment}, not {alignment!r}'
        )
    start = -(-reader.position // alignment) * alignment
    for name, tensor, offset in found:
        if start + offset + tensor.length > size:
            raise ValueError(
                f'the tensor "{name}" ends at the byte {start + offset + tensor.length}, and the file has '
                f"{size}; it is not whole"
            )
    return Header(metadata, {name: tensor for name, tensor, _ in found})


def _tensor(reader: _Reader) -> tuple[str, Tensor, int]:
    """Reads name, shape, and offset of a tensor."""
    name = reader.text(_most_name)
    count = reader.number("I")
    if count > _most_dimensions:
        raise ValueError(f'the tensor "{name}" has {count} dimensions; at most {_most_dimensions} are read')
    shape = struct.unpack(f"<{count}Q", reader.take(8 * count))
    kind, offset = reader.number("I"), reader.number("Q")
    values, size = _blocks.get(kind, (256, 1))
    return name, Tensor(shape, math.prod(shape) // values * size), offset


def parts(path: Path) -> tuple[Path, ...]:
    """Returns all files of a GGUF model, from its first file.

    :raises ModelNotFoundError: the path is not the first part, or a part is missing.
    """
    match = PART.fullmatch(path.name)
    if match is None:
        return (path,)
    stem, number, count = match[1], int(match[2]), int(match[3])
    first = path.with_name(f"{stem}-00001-of-{match[3]}.gguf")
    if number != 1:
        raise ModelNotFoundError(
            f'the file "{path}" is part {number} of a model in {count} files; give the first, "{first}"'
        )
    if count > model_files.most_parts:
        raise ModelNotFoundError(
            f'by its name, the file "{path}" is one of {count} files; at most {model_files.most_parts} are '
            f"allowed"
        )
    files = tuple(path.with_name(f"{stem}-{one:05d}-of-{match[3]}.gguf") for one in range(1, count + 1))
    missing = [file.name for file in files if not model_files.exists(file)]
    if missing:
        raise ModelNotFoundError(
            f'the model "{path}" consists of {count} files, of which these are missing: '
            f"{', '.join(missing[:9])}"
        )
    return files

# SPDX-License-Identifier: Apache-2.0
"""Reads the header of a safetensors file, and checks its tensors against the file."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import model_files

#: Bytes per value.
sizes = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1},
    **{"I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8},
}
_most_dimensions = 8
#: Bytes that are read at a time.
_block = 1 << 20
#: Maximum size of a header in bytes; that of the largest models has a few megabytes.
_most_header = 100_000_000


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset in the file, in bytes."""
    length: int
    """Size in bytes."""

    def blocks(self) -> Iterator[bytes]:
        """Yields the values in blocks."""
        with model_files.open_file(self.file) as file:
            file.seek(self.start)
            left = self.length
            while left > 0 and (data := file.read(min(left, _block))):
                yield data
                left -= len(data)


def tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file, without their values.

    :raises ModelNotFoundError: it is not a complete safetensors file.
    """
    with model_files.open_file(path) as file:
        size = model_files.size_of(file)
        try:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, _most_header):
                raise ValueError("its header does not fit into it")
            header = model_files.parse_json(file.read(length))
            if not isinstance(header, dict):
                raise ValueError("its header is not an object")
            metadata = header.pop("__metadata__", None) or {}
            if not isinstance(metadata, dict) or not all(isinstance(one, str) for one in metadata.values()):
                raise ValueError('its "__metadata__" must be an object of texts')
            found = {name: _tensor(path, name, entry, 8 + length) for name, entry in header.items()}
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(
                f'the file "{path}" is not in the format safetensors: {error}'
            ) from error
    end = 8 + length
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].length)):
        if tensor.start != end:
            raise ModelNotFoundError(
                f'the file "{path}" is not in the format safetensors: the tensor "{name}" begins at the byte '
                f"{tensor.start}, not at {end}, where the one before ends"
            )
        end += tensor.length
    if end != size:
        raise ModelNotFoundError(
            f'the file "{path}" is not whole: it has {size} bytes, and its header describes {end}'
        )
    return found


def _tensor(path: Path, name: str, entry: Any, start: int) -> Tensor:
    """Returns a tensor from its entry in the header.

    :param start: offset of the values of all tensors, in bytes.
    """
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f'the tensor "{name}" has no "dtype", "shape" and "data_offsets"')
    first, last = offsets
    if first > last:
        raise ValueError(f'the offsets of "{name}" are wrong')
    if dtype in sizes and math.prod(shape) * sizes[dtype] != last - first:
        raise ValueError(f'the tensor "{name}" has {last - first} bytes, which do not fit its shape {shape}')
    return Tensor(path, dtype, tuple(shape), start + first, last - first)


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _most_dimensions
        and all(type(one) is int and 0 <= one < 2**63 for one in value)
    )


def all_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Returns the tensors of all files of a model.

    :raises ModelNotFoundError: a file is broken.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        found |= tensors(file)
    return found

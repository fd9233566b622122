# SPDX-License-Identifier: Apache-2.0
"""What a model's files say of themselves, from their headers alone."""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# Of a safetensors file that is one; the format's own limit.
_max_header = 100_000_000


class Broken(Exception):
    """Why a model cannot be used."""


@dataclass
class Checkpoint:
    """A model on disk."""

    path: Path
    name: str
    format: str | None = None
    """``safetensors`` or ``GGUF``."""
    architecture: str | None = None
    context_length: int | None = None
    """In tokens."""
    bytes: int = 0
    """Of the weights."""
    problem: str | None = None
    """Why it cannot be used."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder has Hugging Face's layout of a model; other programs have a config.json, too."""
    return (folder / "config.json").is_file() and any(
        any(folder.glob(pattern)) for pattern in ("*.safetensors*", "pytorch_model*", "tokenizer*.json")
    )


def inspect(path: Path) -> Checkpoint:
    """Look at a model's folder or GGUF file."""
    found = Checkpoint(path, _name(path))
    try:
        if path.is_dir():
            _inspect_folder(found)
        else:
            _inspect_gguf(found)
    except Broken as error:
        found.problem = str(error)
    except OSError as error:
        found.problem = f"{error.filename or path} cannot be read: {error.strerror}"
    return found


def _name(path: Path) -> str:
    """``org/name`` in a Hugging Face cache."""
    for part in path.parts:
        if part.startswith("models--"):
            name = "/".join(part.split("--")[1:])
            return f"{name}/{path.name}" if path.suffix == ".gguf" else name
    return path.name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Broken(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Broken(f"{path.name} is no JSON object")
    return value


def _inspect_folder(found: Checkpoint) -> None:
    folder = found.path
    if not (folder / "config.json").is_file():
        raise Broken("it has no config.json and no .gguf file")
    config = _read_json(folder / "config.json")
    text_config = config.get("text_config")  # where a model that sees keeps its language part
    for part in (config, text_config if isinstance(text_config, dict) else {}):
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
            if found.context_length is None and isinstance(part.get(key), int):
                found.context_length = part[key]
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        found.architecture = str(architectures[0])
    weights = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise Broken(f'{index.name} has no "weight_map"')
        missing = sorted({str(name) for name in weight_map.values()} - {path.name for path in weights})
        if missing:
            raise Broken(f"{missing[0]} is missing" + f", and {len(missing) - 1} more" * (len(missing) > 1))
    if not weights:
        pickled = any(folder.glob("pytorch_model*.bin"))
        raise Broken(
            "its weights are pickled (pytorch_model.bin), which could run any code; convert it to safetensors"
            if pickled
            else "it has no *.safetensors"
        )
    found.format = "safetensors"
    for path in weights:
        found.bytes += path.stat().st_size
        _check_safetensors(path)
    if found.architecture is None:
        raise Broken('config.json has no "architectures"')
    if not (folder / "tokenizer.json").is_file():
        raise Broken('it has no tokenizer.json; name one with "options": {"tokenizer_json": "..."}')


def _check_safetensors(path: Path) -> None:
    """Compare the file's size with what its header promises."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, _max_header):
            raise Broken(f"{path.name} is no safetensors file, or is cut off")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise Broken(f"the header of {path.name} is broken") from error
    if size != expected:
        raise Broken(f"{path.name} has {size} bytes in place of {expected}; download it again")


# Formats of GGUF's numbers by the code of their type; 8 is a string and 9 an array.
_numbers = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class _Gguf:
    """Reader of a GGUF header, which never reads more than the file has."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def number(self, code: str) -> Any:
        count = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self._take(count))[0]

    def text(self) -> str:
        return self._take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A value; None for an array, which is skipped."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.number("I"), self.number("Q")
            if item in _numbers:
                self._skip(count * struct.calcsize("<" + _numbers[item]))
            elif item == _STRING:
                # Each takes its length at least: a count that is a lie ends at the end of the file.
                for _ in range(count):
                    self._skip(self.number("Q"))
            else:
                raise Broken(f"its header has an array of the unknown type {item}")
            return None
        if kind not in _numbers:
            raise Broken(f"its header has a value of the unknown type {kind}")
        return self.number(_numbers[kind])

    def _take(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise Broken("it is cut off within its header")
        return self._file.read(count)

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise Broken("it is cut off within its header")
        self._file.seek(count, 1)


def _inspect_gguf(found: Checkpoint) -> None:
    found.format = "GGUF"
    found.bytes = found.path.stat().st_size
    with found.path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise Broken("it does not start as a GGUF file does")
        header = _Gguf(file, found.bytes)
        version = header.number("I")
        if version not in (2, 3):
            raise Broken(f"it is GGUF of version {version}; versions 2 and 3 are known")
        _tensors, count = header.number("Q"), header.number("Q")
        lengths: dict[str, Any] = {}
        for _ in range(count):
            key = header.text()
            value = header.value(header.number("I"))
            if key == "general.architecture":
                found.architecture = str(value)
            elif key.endswith(".context_length"):
                lengths[key] = value
    found.context_length = lengths.get(f"{found.architecture}.context_length")
    if found.architecture is None:
        raise Broken('its header has no "general.architecture"')
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", found.path.name):
        raise Broken("it is one of several parts; only a model in a single file can be used")

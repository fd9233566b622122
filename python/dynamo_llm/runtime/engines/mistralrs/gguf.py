# SPDX-License-Identifier: Apache-2.0
"""Metadata of files in GGUF."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

from dynamo_llm.errors import ModelNotFoundError

#: Codes of :mod:`struct` by GGUF's number of the type.
_numbers = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def take(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._size else b""
        if len(data) != count:
            raise ValueError("it ends too early")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            kind, count = self.number("I"), self.number("Q")
            if kind in _numbers:  # read as one, for vocabularies are long
                size = struct.calcsize("<" + _numbers[kind])
                return list(struct.unpack(f"<{count}{_numbers[kind]}", self.take(count * size)))
            return [self.value(kind) for _ in range(count)]
        if kind not in _numbers:
            raise ValueError(f"it has a value of the unknown type {kind}")
        return self.number(_numbers[kind])


def metadata(path: Path) -> dict[str, Any]:
    """All keys and values of a file's header.

    :raises ModelNotFoundError: it is no file in GGUF, version 2 or 3.
    """
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path.stat().st_size)
            if reader.take(4) != b"GGUF":
                raise ValueError('it does not begin with "GGUF"')
            version = reader.number("I")
            if version not in (2, 3):
                raise ValueError(f"it has version {version}; known are 2 and 3")
            _tensors, count = reader.number("Q"), reader.number("Q")
            return {reader.text(): reader.value(reader.number("I")) for _ in range(count)}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelNotFoundError(f'the file "{path}" is no model in GGUF: {error}') from error


def chat_templates(metadata: dict[str, Any]) -> dict[str, str]:
    """The chat templates by name; the usual one is ``default``."""
    prefix = "tokenizer.chat_template"
    found = {"default": metadata.get(prefix)}
    found |= {
        key[len(prefix) + 1 :]: value for key, value in metadata.items() if key.startswith(prefix + ".")
    }
    return {name: text for name, text in found.items() if isinstance(text, str)}


def special_tokens(metadata: dict[str, Any]) -> dict[str, str]:
    """Special tokens by name: ``bos_token``, ``eos_token``, as texts."""
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    return {name: tokens[id] for name, id in ids.items() if isinstance(id, int) and 0 <= id < len(tokens)}

# SPDX-License-Identifier: Apache-2.0
"""Serializes JSON values with :mod:`marshal`, in pieces, for another process with the same Python version.

Writing or reading a piece takes a few milliseconds at most, so that other threads can take the GIL between
pieces, however large the value is. Read only data from a trusted process, the parent: :mod:`marshal` is not
safe for other data.
"""

import marshal
from collections.abc import Iterator
from typing import Any, BinaryIO

_VALUE, _LIST, _DICT, _TEXT = range(4)

#: Maximum members of a list or object, and maximum characters of a text (or of all texts in a container),
#: that are written in one piece.
_most_members = 256
_most_characters = 1 << 16
#: Characters in each piece of a longer text.
_piece = 1 << 20
#: Maximum values in a piece.
_most_values = 64


def dump(value: Any) -> Iterator[bytes]:
    """Serializes a value. Yields pieces, each prefixed by its length; the last one is empty."""
    values: list[tuple[int, Any]] = []
    for kind, given in _parts(value):
        values.append((kind, given))
        is_long = type(given) is str and len(given) > _most_characters
        if is_long or len(values) == _most_values:
            yield _framed(values)
            values = []
    if values:
        yield _framed(values)
    yield bytes(4)


def _framed(values: list[tuple[int, Any]]) -> bytes:
    data = marshal.dumps(values)
    return len(data).to_bytes(4, "big") + data


def _parts(value: Any) -> Iterator[tuple[int, Any]]:
    stack: list[Iterator[Any]] = [iter((value,))]
    while stack:
        for item in stack[-1]:
            kind = type(item)
            if kind is str and len(item) > _piece:
                yield _TEXT, -(-len(item) // _piece)
                for at in range(0, len(item), _piece):
                    yield _VALUE, item[at : at + _piece]
            elif kind is dict and not _is_small(item.values(), len(item)):
                yield _DICT, list(item)
                stack.append(iter(item.values()))
                break
            elif kind is list and not _is_small(item, len(item)):
                yield _LIST, len(item)
                stack.append(iter(item))
                break
            else:
                yield _VALUE, item
        else:
            stack.pop()


def _is_small(items: Any, count: int) -> bool:
    """Whether there are few items, and none of them is long or a container."""
    if count > _most_members:
        return False
    length = 0
    for item in items:
        kind = type(item)
        if kind is str:
            length += len(item)
        elif kind is dict or kind is list:
            return False
    return length <= _most_characters


def load(file: BinaryIO) -> Any:
    """Reads a value. Returns None at the end of the file.

    :raises MemoryError: memory is exhausted; the file was still read to the end of the value.
    """
    stack: list[_Open] = []
    result = None
    frames = _frames(file)
    data = b""
    try:
        for data in frames:
            for kind, given in marshal.loads(data):
                if kind != _VALUE and given:
                    stack.append(_Open(kind, given))
                    continue
                value = given if kind == _VALUE else {} if kind == _DICT else []
                while stack and stack[-1].add(value):
                    value = stack.pop().value()
                if not stack:
                    result = value
    except MemoryError:
        stack.clear()
        value = given = None
        data = b""
        for _ in frames:
            pass
        raise
    return result


def _frames(file: BinaryIO) -> Iterator[bytes]:
    while (size := int.from_bytes(file.read(4), "big")) > 0:
        yield file.read(size)


class _Open:
    """A list, object, or text whose pieces are still being read."""

    __slots__ = ("_count", "_items", "_keys", "_kind")

    def __init__(self, kind: int, given: Any) -> None:
        self._kind = kind
        self._keys = given if kind == _DICT else ()
        self._count = len(given) if kind == _DICT else given
        self._items: list[Any] = []

    def add(self, item: Any) -> bool:
        """Adds an item. Returns whether it was the last one."""
        self._items.append(item)
        return len(self._items) == self._count

    def value(self) -> Any:
        """Returns the complete value."""
        if self._kind == _DICT:
            return dict(zip(self._keys, self._items, strict=True))
        return "".join(self._items) if self._kind == _TEXT else self._items

# SPDX-License-Identifier: Apache-2.0
"""Joins surrogate pairs that a server split across two events."""

from collections.abc import Iterator
from typing import Any

#: The place of a string in a delta: the choice, then keys of objects; for an object in a list, its index
#: and id.
_Path = tuple[Any, ...]
#: Keys whose strings are sent whole, never in parts.
_whole = frozenset({"id", "type", "role"})


def _joined(text: str) -> str:
    """Replaces surrogate pairs by their character, and single halves by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _step(value: Any) -> Any:
    """An index or id that identifies a tool call; None for other values, which a server may send, too."""
    return value if isinstance(value, str | int | float) else None


class SurrogateHalves:
    """Joins the halves in the deltas of one answer. A half at the end of a string is held back until the next
    part of that string. (The library does the same for the text.)
    """

    def __init__(self) -> None:
        self._kept: dict[_Path, str] = {}
        self._ids: dict[_Path, Any] = {}

    def join(self, choice: int, delta: dict[str, Any]) -> dict[str, Any]:
        """Returns a choice's delta with the halves held back before, and without those held back now."""
        return {key: self._value((choice, key), value) for key, value in delta.items()}

    def rest(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields, for each half that stayed alone, its choice and a delta with U+FFFD. Call it at the end."""
        for choice, *path in self._kept:
            value: Any = "\ufffd"
            for step in reversed(path):
                if isinstance(step, str):
                    value = {step: value}
                else:
                    names = dict(zip(("index", "id"), step, strict=True))
                    value = [{name: one for name, one in names.items() if one is not None} | value]
            yield choice, value
        self._kept.clear()

    def _value(self, path: _Path, value: Any) -> Any:
        if isinstance(value, str):
            return _joined(value) if path[-1] in _whole else self._text(path, value)
        if isinstance(value, dict) and path[-1] != "arguments":  # arguments that are an object are sent whole
            return {key: self._value((*path, key), one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._item(path, one) for one in value]
        return value

    def _item(self, path: _Path, item: Any) -> Any:
        """An item of a list, such as a part of a tool call."""
        if not isinstance(item, dict) or (path[1] != "tool_calls" and "index" not in item):
            return _joined(item) if isinstance(item, str) else item
        # A new id begins a new call, even with the same index.
        index = _step(item.get("index"))
        name = _step(item.get("id")) or self._ids.get((path, index))
        self._ids[path, index] = name
        return self._value((*path, (index, name)), item)

    def _text(self, path: _Path, text: str) -> str:
        if not text or (text.isascii() and not self._kept):
            return text
        text = self._kept.pop(path, "") + text
        if "\ud800" <= text[-1] < "\udc00":
            self._kept[path] = text[-1]
            text = text[:-1]
        return _joined(text)

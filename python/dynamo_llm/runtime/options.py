# SPDX-License-Identifier: Apache-2.0
"""Checks an engine's options against a dataclass."""

import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from dynamo_llm.errors import InvalidConfigError

T = TypeVar("T")

_words = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def _fits(value: object, kind: object) -> bool:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    plain = typing.get_origin(kind) or kind  # dict[str, int] is looked at as dict
    return isinstance(value, plain) if isinstance(plain, type) else True


def _describe(kind: object) -> str:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_describe(one) for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(str(one) for one in typing.get_args(kind))
    return _words.get(kind, str(kind))  # type: ignore[call-overload,no-any-return]


def read(kind: type[T], options: dict[str, Any], where: str = "options") -> T:
    """Make a dataclass of options.

    :param kind: a dataclass whose fields all have defaults; their names are the known keys, without an
        underscore at the end, which a field needs whose key is a word of Python.
    :param options: what the configuration says.
    :param where: its path in the configuration, for messages; empty for the whole.
    :raises InvalidConfigError: an unknown key (the nearest known one is named) or a wrong type.
    """
    hints = {name.rstrip("_"): hint for name, hint in typing.get_type_hints(kind).items()}
    fields = {field.name.rstrip("_"): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known = list(fields)
    prefix = f"{where}." if where else ""
    for key, value in options.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f'did you mean "{prefix}{close[0]}"?' if close else "known: " + ", ".join(known)
            raise InvalidConfigError(f'unknown key "{prefix}{key}" in the configuration; {hint}')
        if not _fits(value, hints[key]):
            # What an object does not say of itself no message says either: a key, a password.
            found = repr(value) if fields[key].repr else f"a value of type {type(value).__name__}"
            raise InvalidConfigError(
                f'"{prefix}{key}" of the configuration must be {_describe(hints[key])}, not {found}'
            )
    return kind(**{fields[key].name: value for key, value in options.items()})

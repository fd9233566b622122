# SPDX-License-Identifier: Apache-2.0
"""Validates an object of the configuration against a dataclass."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.secret import Secret, shown, shown_value

T = TypeVar("T")

_words = {
    str: "a string",
    Secret: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "an array",
}
_plurals = {str: "strings", int: "integers", dict: "objects"}


@dataclass(frozen=True)
class Must:
    """Restricts the values of a field, as ``Annotated[type, Must(...)]``; a default is not checked."""

    be: str
    """Completes "must be ..." in the error."""
    accepts: Callable[[Any], bool]
    """Gets a value of the field's type."""


def between(low: int, high: int) -> Must:
    """Restricts an integer to a range that includes both bounds."""
    return Must(f"an integer from {low} to {high}", lambda value: low <= value <= high)


def at_least(low: int) -> Must:
    """Restricts an integer from below."""
    return Must(f"an integer of at least {low}", lambda value: value >= low)


#: Rejects "".
non_empty = Must("a non-empty string", bool)


def unknown_key(
    key: str, known: Iterable[str], prefix: str = "", place: str = "in the configuration", hint: str = ""
) -> str:
    """Returns the message for an unknown key: it names the nearest known key, or else all of them.

    :param prefix: goes before each key, such as ``options.``.
    :param place: where the key was found.
    :param hint: says which keys are known, if they are too many to list.
    """
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1)
    if close:
        hint = f'did you mean "{prefix}{close[0]}"?'
    hint = hint or "known keys: " + ", ".join(names)
    return f'unknown key "{prefix}{key if close else shown(key)}" {place}; {hint}'


def _fits(value: object, kind: object) -> bool:
    if typing.get_origin(kind) is typing.Annotated:
        base, must = typing.get_args(kind)
        return _fits(value, base) and bool(must.accepts(value))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if kind is Secret:
        return isinstance(value, str)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    plain = typing.get_origin(kind) or kind  # the members of a dict are not checked
    if plain is list and isinstance(value, list):
        return all(_fits(one, of) for of in typing.get_args(kind) for one in value)
    return isinstance(value, plain) if isinstance(plain, type) else True


def _describe(kind: object) -> str:
    if typing.get_origin(kind) is typing.Annotated:
        return str(typing.get_args(kind)[1].be)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_describe(one) for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(str(one) for one in typing.get_args(kind))
    plain: Any = typing.get_origin(kind) or kind
    items: list[Any] = [typing.get_origin(one) or one for one in typing.get_args(kind)]
    if plain is list and items and items[0] in _plurals:
        return f"an array of {_plurals[items[0]]}"
    return _words.get(plain, str(kind))


def read(kind: type[T], options: Mapping[str, Any], where: str = "options") -> T:
    """Make a dataclass of options.

    :param kind: a dataclass whose fields all have defaults; their names are the known keys, without the
        underscore that a field ends with if its key is a Python keyword. A string becomes a
        :class:`~dynamo_llm.runtime.secret.Secret` where that is the field's type; :class:`Must` restricts
        the values of a field.
    :param where: path of the options in the configuration, for messages; empty for the whole.
    :raises InvalidConfigError: an unknown key (the nearest known one is named), a wrong type or value.
    """
    hints = {
        name.rstrip("_"): hint for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    }
    fields = {field.name.rstrip("_"): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in fields:
            raise InvalidConfigError(unknown_key(key, fields, prefix))
        hint = hints[key]
        # A value that the object's repr() hides is hidden here, too.
        is_hidden = not fields[key].repr or _is_secret(hint)
        found = f"a value of type {type(value).__name__}" if is_hidden else _shown(value)
        if isinstance(value, str) and "\0" in value:  # C functions would truncate it there
            raise InvalidConfigError(
                f'"{prefix}{key}" of the configuration must not contain a NUL character: {found}'
            )
        if not _fits(value, hint):
            raise InvalidConfigError(
                f'"{prefix}{key}" of the configuration must be {_describe(hint)}, not {found}'
            )
        values[fields[key].name] = Secret(value) if isinstance(value, str) and _is_secret(hint) else value
    return kind(**values)


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) <= 8:
        return f"[{', '.join(map(shown_value, value))}]"
    return '""' if value == "" else shown_value(value)


def _is_secret(kind: object) -> bool:
    return kind is Secret or Secret in typing.get_args(kind)


def require_at_least(chosen: object, least: Mapping[str, float]) -> None:
    """Checks the lower limits of a dataclass's options. None is allowed.

    :raises InvalidConfigError: a value is below its limit.
    """
    for name, limit in least.items():
        value = getattr(chosen, name)
        if value is not None and value < limit:
            raise InvalidConfigError(
                f'"options.{name}" of the configuration must be at least {limit}, not {value}'
            )

# SPDX-License-Identifier: Apache-2.0
"""Keeps keys and passwords out of logs: a type that cannot be printed, and functions that redact texts.

All texts that this package passes to a host (errors, their details, logs, spans, descriptions of engines) go
through :func:`redact`, so that a key does not get into a log even if a server repeats it.
"""

import base64
import contextlib
import html
import itertools
import json
import re
import threading
import urllib.parse
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

HIDDEN = "***"
"""Replaces a secret in texts."""

#: Shorter secrets are not redacted: they are words that servers accept instead of a key ("EMPTY", "none").
_shortest = 6
#: Parts of secrets that are longer than this are recognized, too.
_longest_whole = 11
_part = 8


class Secret:
    """A key or a password. ``str()``, ``repr()``, and formatting return ``***``. It cannot be pickled or
    copied. Secrets with the same text compare equal.
    """

    __slots__ = ("__value", "__weakref__")

    def __init__(self, value: str) -> None:
        self.__value = value
        _known.add(self, value)

    def reveal(self) -> str:
        """Returns the text. Do not pass it to anything that logs."""
        return self.__value

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __str__(self) -> str:
        return HIDDEN

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.__value == other.__value

    def __hash__(self) -> int:
        return hash(self.__value)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:  # the module copy calls it, too
        raise TypeError("a secret cannot be pickled or copied; use reveal() where its text is needed")


class _Known:
    """The secrets that exist in this process, and the strings by which they are recognized. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._alive: dict[int, tuple[weakref.ref[Secret], str]] = {}
        # The garbage collector appends to it, maybe while this thread holds the lock.
        self._gone: deque[int] = deque()
        self._has_changed = False
        self._parts: frozenset[str] = frozenset()
        self._whole: frozenset[str] = frozenset()

    def add(self, secret: Secret, value: str) -> None:
        number = next(self._numbers)
        gone = self._gone
        entry = (weakref.ref(secret, lambda _: gone.append(number)), value)
        with self._lock:
            self._alive[number] = entry
            self._has_changed = True

    def forms(self) -> tuple[frozenset[str], frozenset[str]]:
        """Returns parts of :data:`_part` characters, and whole texts, all in lower case."""
        with self._lock:
            while self._gone:
                self._alive.pop(self._gone.popleft(), None)
                self._has_changed = True
            if self._has_changed:
                values = {value for _, value in self._alive.values()}
                forms = {form.translate(_lower) for value in values for form in _forms(value)}
                self._whole = frozenset(form for form in forms if _shortest <= len(form) <= _longest_whole)
                self._parts = frozenset(
                    form[i : i + _part]
                    for form in forms
                    if len(form) > _longest_whole
                    for i in range(len(form) - _part + 1)
                )
                self._has_changed = False
            return self._parts, self._whole


_known = _Known()
#: Unlike str.lower(), this keeps the length.
_lower = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_scheme = re.compile(r"(Basic|Bearer|Token|ApiKey|Key)\s+", re.IGNORECASE)


def _forms(value: str) -> Iterator[str]:
    """Yields a secret in the encodings in which servers repeat it."""
    if scheme := _scheme.match(value):
        value = value[scheme.end() :]
        if scheme[1].lower() == "basic":
            with contextlib.suppress(ValueError):
                yield from _forms(base64.b64decode(value).decode().partition(":")[2])
    if len(value) < _shortest:
        return
    data = value.encode("utf-8", "surrogatepass")
    yield value
    yield urllib.parse.quote(data, safe="")
    yield urllib.parse.quote(data)
    yield urllib.parse.quote_plus(data)
    yield "".join(f"%{byte:02x}" for byte in data)
    yield json.dumps(value)[1:-1]
    yield repr(value)[1:-1]
    yield html.escape(value)
    yield data.hex()
    # The base64 form of a text depends on its offset modulo 3; its first and last letters also depend on the
    # adjacent bytes, so they are omitted.
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        core = encoded[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        yield core
        yield core.translate(str.maketrans("+/", "-_"))


def redact(text: str) -> str:
    """Replaces the secrets that exist in this process by ``***``. Each is also recognized if it is
    URL-encoded, in base64, in hexadecimal, or escaped. Of a secret with more than eleven characters, each
    part of eight characters is recognized, too. Secrets with fewer than six characters are not. Thread-safe.
    """
    parts, whole = _known.forms()
    if not parts and not whole:
        return text
    lower = text.translate(_lower)
    spans = [(at, at + _part) for at in range(len(lower) - _part + 1) if lower[at : at + _part] in parts]
    for form in whole:
        at = lower.find(form)
        while at >= 0:
            spans.append((at, at + len(form)))
            at = lower.find(form, at + 1)
    pieces: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if start > end or not pieces:
            pieces += [text[end:start], HIDDEN]
        end = max(end, stop)
    return "".join([*pieces, text[end:]])


def redact_all(value: Any) -> Any:
    """Applies :func:`redact` to all texts in a JSON value except the keys."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(one) for one in value]
    return value


# ----------------------------------------------------------------------------- names in messages

_class = re.compile(r"[A-Za-z_][\w.]*:[\w.]+", re.ASCII)
_word = re.compile(r"[A-Za-z_. -]{1,32}")
_variable = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def shown(name: str) -> str:
    """Returns a name from a configuration as error messages may show it: ``***`` unless it looks like a name,
    because it may be a key or a password in the wrong place. cpp/base/schema.cpp has the same rule.
    """
    if len(name) <= 100 and _class.fullmatch(name):
        return name
    has_upper = any("A" <= sign <= "Z" for sign in name)
    is_word = _word.fullmatch(name) is not None and not (has_upper and (len(name) > 16 or "-" in name))
    return name if is_word else HIDDEN


def shown_variable(name: str) -> str:
    """Does the same as :func:`shown` for the name of an environment variable."""
    return name if len(name) <= 64 and _variable.fullmatch(name) else HIDDEN


def shown_value(value: Any) -> str:
    """Returns a value of a configuration for error messages: texts only if they look like names."""
    if isinstance(value, str):
        return f'"{shown(value)}"'
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return f"a value of type {type(value).__name__}"

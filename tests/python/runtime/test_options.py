# SPDX-License-Identifier: Apache-2.0
"""Checks of an engine's options."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.secret import Secret


@dataclass(frozen=True)
class Options:
    size: int = 1
    share: float = 0.5
    name: str = "x"
    fast: bool = False
    limit: int | None = None
    kind: Literal["small", "large"] = "small"
    extra: dict[str, Any] | None = None
    names: list[str] | None = None
    rank: Annotated[int, options.between(0, 7)] | None = None
    label: Annotated[str, options.non_empty] = ""
    count: Annotated[int, options.at_least(1)] = 0
    password: Secret | None = None


def test_defaults() -> None:
    """Absent options have their default."""
    assert options.read(Options, {}) == Options()


@pytest.mark.parametrize(
    "given",
    [
        {"size": 7},
        {"share": 0.25},
        {"share": 1},
        {"name": ""},
        {"fast": True},
        {"limit": None},
        {"limit": 3},
        {"kind": "large"},
        {"names": ["a", "b"]},
        {"names": []},
        {"rank": 7},
        {"rank": None},
        {"label": "x", "count": 1},
        {"size": 2, "name": "y", "extra": {"a": 1}},
    ],
)
def test_right_values(given: dict[str, Any]) -> None:
    """Values of the right type are used unchanged."""
    assert options.read(Options, given) == Options(**given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"size": "7"}, "an integer"),
        ({"size": 7.0}, "an integer"),
        ({"size": True}, "an integer"),
        ({"size": None}, "an integer"),
        ({"share": "half"}, "a number"),
        ({"share": False}, "a number"),
        ({"name": 1}, "a string"),
        ({"name": "a\0b"}, "must not contain a NUL character"),
        ({"fast": 1}, "true or false"),
        ({"limit": "3"}, "an integer"),
        ({"kind": "medium"}, "one of small, large"),
        ({"extra": []}, "an object"),
        ({"names": "a"}, "an array of strings"),
        ({"names": ["a", 1]}, 'an array of strings, not ["a", 1]'),
        ({"rank": 8}, "an integer from 0 to 7, not 8"),
        ({"rank": -1}, "an integer from 0 to 7, not -1"),
        ({"rank": True}, "an integer from 0 to 7"),
        ({"label": ""}, 'a non-empty string, not ""'),
        ({"count": 0}, "an integer of at least 1, not 0"),
        ({"password": 12345678}, "a string, not a value of type int"),
    ],
)
def test_wrong_values(given: dict[str, Any], wanted: str) -> None:
    """The error names a value of another type, and what would be right."""
    with pytest.raises(InvalidConfigError) as raised:
        options.read(Options, given)
    (key,) = given
    assert f'"options.{key}"' in str(raised.value)
    assert wanted in str(raised.value)


def test_unknown_key_with_a_near_one() -> None:
    """The error names the known key that a misspelled one resembles."""
    with pytest.raises(InvalidConfigError, match=r'"options.siez".*did you mean "options.size"\?'):
        options.read(Options, {"siez": 1})


def test_unknown_key_far_from_all() -> None:
    """The error lists the known keys if none is similar."""
    with pytest.raises(
        InvalidConfigError, match="known keys: size, share, name, fast, limit, kind, extra, names"
    ):
        options.read(Options, {"qqqqqqqq": 1})


def test_status() -> None:
    """The error has the status that a C caller gets."""
    assert InvalidConfigError("x").status == -5


def test_key_that_is_a_python_keyword() -> None:
    """Its field has a trailing underscore, which the configuration does not have."""

    @dataclass(frozen=True)
    class Worded:
        class_: str = "x"

    assert options.read(Worded, {"class": "y"}) == Worded("y")
    with pytest.raises(InvalidConfigError, match=r'did you mean "options.class"\?'):
        options.read(Worded, {"class_": "y"})
    with pytest.raises(InvalidConfigError, match=r'"options.class".*a string'):
        options.read(Worded, {"class": 1})

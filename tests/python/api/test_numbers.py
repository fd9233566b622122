# SPDX-License-Identifier: Apache-2.0
"""Numbers that Python programs pass: each is used unchanged, or a documented error names it."""

import decimal
import fractions
import math
from typing import Any

import pytest
from dynamo_llm import InvalidArgumentError, InvalidConfigError, InvalidRequestError, Runtime
from dynamo_llm.api.numbers import FOREVER, integer, milliseconds, number, token_ids, words
from reliability import reliability

numpy = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def echo() -> Runtime:
    """A runtime whose engine repeats the prompt."""
    return Runtime(engine="echo")


_taken: list[dict[str, Any]] = [
    {"max_tokens": numpy.int64(2)},
    {"max_tokens": numpy.uint8(2)},
    {"max_tokens": numpy.array(2)},
    {"max_tokens": 2, "temperature": numpy.float32(0.5)},
    {"max_tokens": 2, "top_p": numpy.float64(0.5), "seed": -(2**63)},
    {"max_tokens": 2, "seed": 2**63 - 1, "priority": -(2**31)},
    {"max_tokens": 2, "stream": numpy.bool_(True)},
]


@pytest.mark.parametrize("body", _taken)
def test_accepted(echo: Runtime, body: dict[str, Any]) -> None:
    """NumPy scalars are accepted like Python numbers."""
    assert echo.complete("a b c", **body).result().text == "a b"


_refused: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"max_tokens": 2**32}, InvalidRequestError),
    ({"max_tokens": 2**64}, InvalidRequestError),
    ({"max_tokens": -1}, InvalidRequestError),
    ({"max_tokens": 5.0}, InvalidRequestError),
    ({"max_tokens": True}, InvalidRequestError),
    ({"max_tokens": numpy.float64(5)}, InvalidRequestError),
    ({"max_tokens": numpy.int64(-1)}, InvalidRequestError),
    ({"max_tokens": 10**5000}, InvalidRequestError),
    ({"max_tokens": [3]}, InvalidRequestError),
    ({"seed": 2**63}, InvalidRequestError),
    ({"seed": 10**30}, InvalidRequestError),
    ({"priority": 2**31}, InvalidRequestError),
    ({"nvext": {"agent_hints": {"priority": -(2**63)}}}, InvalidRequestError),
    ({"temperature": math.nan}, InvalidRequestError),
    ({"temperature": math.inf}, InvalidRequestError),
    ({"frequency_penalty": -math.inf}, InvalidRequestError),
    ({"presence_penalty": numpy.float64("nan")}, InvalidRequestError),
    ({"repetition_penalty": math.nan}, InvalidRequestError),
    ({"logit_bias": {"5": math.nan}}, InvalidRequestError),
    ({"logit_bias": {5: 101}}, InvalidRequestError),
    ({"logit_bias": {-5: 1}}, InvalidRequestError),
    ({"logit_bias": {"x": 1}}, InvalidRequestError),
    ({"logit_bias": [1]}, InvalidRequestError),
    ({"stop": [1]}, InvalidRequestError),
    ({"stop": ["a", ""]}, InvalidRequestError),
    ({"stop": {"a": 1}}, InvalidRequestError),
    ({"stop_token_ids": [2**32]}, InvalidRequestError),
    ({"stop_token_ids": [1.5]}, InvalidRequestError),
    ({"top_p": decimal.Decimal("0.5")}, TypeError),
    ({"stop": {"a"}}, TypeError),
]


@pytest.mark.parametrize(("body", "kind"), _refused)
def test_rejected(echo: Runtime, body: dict[str, Any], kind: type[Exception]) -> None:
    """The error has the same class for every engine, and the engine does not get the request."""
    with pytest.raises(kind):
        echo.complete("a", **body)
    assert echo.complete("a").result().text == "a"


def test_values_that_json_cannot_represent(echo: Runtime) -> None:
    """Circular structures, NaN, infinities, and huge integers are rejected."""
    circular: list[Any] = []
    circular.append(circular)
    for value in (circular, math.nan, [math.inf], {"a": -math.inf}, 10**5000):
        with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
            echo.data(value)
    with pytest.raises(InvalidConfigError, match="cannot be written as JSON"):
        Runtime(engine="echo", options={"tokens_per_second": math.nan})
    with pytest.raises(InvalidConfigError):
        Runtime(engine="echo", stream={"capacity": 10**30})


@pytest.mark.parametrize("ids", [[-1], [2**32], [1.0], ["1"], [None], [numpy.float64(1)]])
def test_token_ids(ids: list[Any]) -> None:
    """Token IDs for tokenizers and routers."""
    with pytest.raises(InvalidArgumentError, match="from 0 to 4294967295"):
        token_ids(ids)
    assert token_ids([numpy.int64(7), numpy.uint32(8)]) == token_ids([7, 8])


def test_times(echo: Runtime) -> None:
    """Durations may be any numeric type; an error names an invalid one."""
    assert milliseconds(None, "t") == milliseconds(math.inf, "t") == milliseconds(10**400, "t") == FOREVER
    assert milliseconds(1e300, "t") == FOREVER
    assert milliseconds(0.0001, "t") == 1
    assert milliseconds(numpy.float32(2), "t") == milliseconds(fractions.Fraction(2), "t") == 2000
    bad: list[Any] = [-1, -(10**400), math.nan, "5", True, b"5", [1], numpy.float64("nan"), 1j]
    for value in bad:
        with pytest.raises(InvalidArgumentError, match="timeout must be None or a number of seconds"):
            echo.complete("a", timeout=value)
        with pytest.raises(InvalidArgumentError, match="first_token_timeout must be"):
            echo.complete("a", first_token_timeout=value)
        with pytest.raises(InvalidArgumentError, match="timeout must be"):
            echo.complete("a").receive(value)
    assert echo.complete("a", timeout=10**400).result().text == "a"


def test_ranges() -> None:
    """The ranges that functions of workers, publishers, and routers accept."""
    assert integer(numpy.int64(3), "n", 0, 3) == 3
    assert number(numpy.float32(0.5), "n", 0, 1) == 0.5
    bad: list[Any] = [-1, 4, 10**30, 1.0, True, "1", None, math.nan]
    for value in bad:
        with pytest.raises(InvalidArgumentError, match="n must be an integer from 0 to 3"):
            integer(value, "n", 0, 3)
    bad = [-0.1, 1.1, math.nan, math.inf, 10**400, True, "1", None]
    for value in bad:
        with pytest.raises(InvalidArgumentError, match="n must be a number from 0 to 1"):
            number(value, "n", 0, 1)
    for value in (-1, 2**64, 1.5):
        with pytest.raises(InvalidArgumentError, match="ids of workers must be integers"):
            words([value], "ids of workers")
    reliability(
        "Python programs pass huge integers, NaN, infinities, booleans and numpy's numbers",
        60,
        "taken as they are, or an error of the documented class",
    )

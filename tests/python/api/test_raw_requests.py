# SPDX-License-Identifier: Apache-2.0
"""Raw requests, through engines in C and in Python."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import EngineFailedError, InvalidRequestError, NotSupportedError, Runtime

values: list[Any] = [{"a": [1, None, "ü"]}, [], "text", 0.5, None, True, b"", b"\x00\xff", "\U0001f600"]


class Async:
    """Yields the payload that it got, and then behaves as its option selects."""

    kind = "data"

    def __init__(self, config: Any) -> None:
        self._told = config.options.get("tell")

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def generate(self, request: Any) -> AsyncIterator[Any]:
        assert request.id.startswith("req-") and not request.is_cancelled()
        yield request.data
        if self._told == "bad item":
            yield {1, 2}
        if self._told == "nan":
            yield float("nan")
        if self._told == "fail":
            raise InvalidRequestError("told to fail")
        if self._told == "hang":
            await asyncio.Event().wait()


class Plain:
    kind = "data"

    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def generate(self, request: Any) -> Iterator[Any]:
        for number in range(request.data):
            yield {"number": number}


def engine(kind: type[Any], tell: str = "") -> Runtime:
    folder = str(Path(__file__).parent)
    assert sys.modules[kind.__module__].__file__
    return Runtime(
        engine=f"test_raw_requests:{kind.__name__}", options={"tell": tell}, python={"path": [folder]}
    )


@pytest.mark.parametrize("value", values, ids=repr)
def test_payloads_are_unchanged(value: Any) -> None:
    with Runtime(engine="echo") as echo, engine(Async) as own:
        assert echo.data(value).result() == [value]
        assert own.data(value).result() == [value]


def test_payloads_keep_their_order_and_boundaries() -> None:
    with engine(Plain) as runtime:
        request = runtime.data(10000)
        responses = list(request)
        items = [item for response in responses for item in response.items]
        assert items == [{"number": number} for number in range(10000)]
        assert all(not response.text and response.finish_reason is None for response in responses)


def test_await() -> None:
    async def main() -> list[Any]:
        with engine(Plain) as runtime:
            return await runtime.data(3)

    assert asyncio.run(main()) == [{"number": 0}, {"number": 1}, {"number": 2}]


@pytest.mark.parametrize(
    ("tell", "kind", "says"),
    [
        ("bad item", EngineFailedError, "neither bytes nor a JSON value"),
        ("nan", EngineFailedError, "neither bytes nor a JSON value"),
        ("fail", InvalidRequestError, "told to fail"),
    ],
)
def test_errors_come_after_the_payloads(tell: str, kind: type[Exception], says: str) -> None:
    with engine(Async, tell) as runtime:
        request = runtime.data("x")
        with pytest.raises(kind, match=says):
            list(request)
        with pytest.raises(kind, match=says):
            request.result()


def test_cancel() -> None:
    with engine(Async, "hang") as runtime:
        request = runtime.data("x")
        first = request.receive()
        assert first is not None and first.items == ["x"]
        request.cancel()


def test_an_openai_request_is_rejected() -> None:
    with engine(Async) as runtime, pytest.raises(NotSupportedError, match="accepts raw requests only"):
        runtime.chat("hi").result()
    with (
        Runtime(engine="scripted") as runtime,
        pytest.raises(NotSupportedError, match="accepts OpenAI bodies"),
    ):
        runtime.data("hi")
    with pytest.raises(InvalidRequestError, match="JSON"), engine(Async) as runtime:
        runtime.data(float("nan"))

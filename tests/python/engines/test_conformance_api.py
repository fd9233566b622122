# SPDX-License-Identifier: Apache-2.0
"""One table of cases for every engine, over every way in which the Python interface receives an answer.

The program of test_conformance.py has more cases; these are about the ways that only Python has.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import conforming
import dynamo_llm
import pytest
from conftest import patience
from dynamo_llm import Runtime
from dynamo_llm._core import STATUSES
from dynamo_llm.errors import DynamoError

names = [name for name in conforming.names if not name.startswith("babble")]


@dataclass
class Answer:
    """The result of a request."""

    text: str = ""
    finish_reason: str | None = None
    usage: Any = None
    error: DynamoError | None = None

    def add(self, response: Any) -> None:
        """Adds a response of the first choice."""
        if response.index == 0:
            self.text += response.text
            self.finish_reason = response.finish_reason or self.finish_reason
        self.usage = response.usage or self.usage

    @property
    def says(self) -> tuple[str, str | None, Any]:
        """Returns what two answers to one body have in common."""
        return self.text, self.finish_reason, self.usage and self.usage.json()


def _iterate(request: Any, answer: Answer) -> None:
    for response in request:
        answer.add(response)


def _receive(request: Any, answer: Answer) -> None:
    while True:
        try:
            response = request.receive(0.01)
        except TimeoutError:
            continue
        if response is None:
            return
        answer.add(response)


def _result(request: Any, answer: Answer) -> None:
    result = request.result()
    answer.text, answer.finish_reason, answer.usage = result.text, result.finish_reason, result.usage


def _iterate_async(request: Any, answer: Answer) -> None:
    async def run() -> None:
        async for response in request:
            answer.add(response)

    asyncio.run(run())


def _await(request: Any, answer: Answer) -> None:
    async def run() -> None:
        result = await request
        answer.text, answer.finish_reason, answer.usage = result.text, result.finish_reason, result.usage

    asyncio.run(run())


#: The ways to receive; those that return whole answers lose the text before an error.
ways: dict[str, Callable[[Any, Answer], None]] = {
    "for": _iterate,
    "receive": _receive,
    "result": _result,
    "async for": _iterate_async,
    "await": _await,
}
pieces = ("for", "receive", "async for")


@dataclass
class Subject:
    """An engine under test, and its runtimes by the capacity of their streams."""

    name: str
    profile: dict[str, Any]
    runtimes: dict[int | None, Runtime] = field(default_factory=dict)
    wholes: dict[str, Answer] = field(default_factory=dict)

    def runtime(self, capacity: int | None = None) -> Runtime:
        """Returns the runtime whose streams have this capacity; it is started once."""
        if capacity not in self.runtimes:
            config = json.loads(json.dumps(self.profile["config"]))
            if path := config.get("python", {}).get("path"):
                config["python"]["path"] = [str(conforming.folder / place) for place in path]
            stream = None if capacity is None else {"capacity": capacity}
            try:
                self.runtimes[capacity] = Runtime(config, stream=stream)
            except dynamo_llm.EngineUnavailableError as error:
                pytest.skip(str(error))
        return self.runtimes[capacity]

    def get(self, key: str) -> Any:
        """Returns a value of the profile; a text instead is the reason why the engine cannot do it."""
        value = self.profile[key]
        if isinstance(value, str):
            pytest.skip(value)
        return value

    @property
    def very_long(self) -> dict[str, Any]:
        """Returns a body whose answer takes longer than its reader stays."""
        body: dict[str, Any] = self.profile["very_long"] or self.profile["long"]
        return body

    def whole(self, body: dict[str, Any]) -> Answer:
        """Returns the answer to a body as one response."""
        key = json.dumps(body)
        if key not in self.wholes:
            self.wholes[key] = collect("result", self.runtime().request({**body, "stream": False}))
            assert self.wholes[key].error is None
        return self.wholes[key]


def collect(way: str, request: Any) -> Answer:
    """Receives a request to its end."""
    answer = Answer()
    try:
        ways[way](request, answer)
    except DynamoError as error:
        answer.error = error
    return answer


@pytest.fixture(scope="module", params=conforming.parameters(names))
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """An engine."""
    with conforming.ready(request.param) as profile:
        subject = Subject(request.param, profile)
        yield subject
        for runtime in subject.runtimes.values():
            runtime.shutdown(60)
            requests = runtime.statistics()["requests"]
            assert requests["in_flight"] == requests["queued"] == 0
            assert requests["sent"] == requests["ended"] + requests["cancelled"] + requests["failed"]


# ------------------------------------------------------------------------------------------- cases


def short_answer(subject: Subject, way: str) -> None:
    body = subject.get("short")
    answer = collect(way, subject.runtime().request(body))
    assert answer.error is None
    assert answer.says == subject.whole(body).says
    assert answer.finish_reason


def narrow_stream(subject: Subject, way: str) -> None:
    body = subject.get("long")
    answer = collect(way, subject.runtime(1).request(body))
    assert answer.error is None
    assert answer.says == subject.whole(body).says


def unicode(subject: Subject, way: str) -> None:
    body = subject.get("unicode")
    answer = collect(way, subject.runtime(1).request(body))
    assert answer.text == subject.whole(body).text
    assert not answer.text.isascii()
    assert "\ufffd" not in answer.text


def max_tokens(subject: Subject, way: str) -> None:
    answer = collect(way, subject.runtime().request({**subject.get("max_tokens"), "max_tokens": 5}))
    assert answer.finish_reason == "length"
    assert answer.usage is None or answer.usage.completion_tokens == 5


def stop_string(subject: Subject, way: str) -> None:
    body = subject.get("stop")
    whole = subject.whole(body).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 6]
    answer = collect(way, subject.runtime().request({**body, "stop": [stop]}))
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish_reason == "stop"


def usage(subject: Subject, way: str) -> None:
    subject.get("usage")
    answer = collect(way, subject.runtime().request(subject.get("short")))
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


def end_again(subject: Subject, way: str) -> None:
    request = subject.runtime().request(subject.get("short"))
    first = collect(way, request)
    assert first.error is None
    again = collect(way, request)
    assert again.error is None
    assert again.text == ("" if way in pieces else first.text)
    request.cancel()
    assert request.status == 1


def cancel(subject: Subject, way: str) -> None:
    body = subject.very_long
    request = subject.runtime(1).request(body)
    first = request.receive()
    assert first is not None
    request.cancel()
    for _ in range(2):
        answer = collect(way, request)
        assert isinstance(answer.error, dynamo_llm.CancelledError)
    whole = subject.whole(body).text
    assert whole.startswith(first.text) and first.text != whole


def cancel_from_a_thread(subject: Subject, way: str) -> None:
    request = subject.runtime().request(subject.get("stall")["body"])
    canceller = threading.Timer(0.01, request.cancel)
    canceller.start()
    answer = collect(way, request)
    canceller.join()
    assert isinstance(answer.error, dynamo_llm.CancelledError)
    if way in pieces:
        assert subject.get("stall")["text"].startswith(answer.text)


def deadline(subject: Subject, way: str) -> None:
    request = subject.runtime(1).request(subject.very_long, timeout=0.05)
    end = time.monotonic() + patience
    while request.status == STATUSES["DYNAMO_PENDING"] and time.monotonic() < end:
        time.sleep(0.001)
    answer = collect(way, request)
    assert isinstance(answer.error, dynamo_llm.DeadlineExceededError)


def first_token_deadline(subject: Subject, way: str) -> None:
    request = subject.runtime().request(subject.get("silent"), first_token_timeout=0.03)
    answer = collect(way, request)
    assert isinstance(answer.error, dynamo_llm.DeadlineExceededError)
    assert answer.text == ""


def refused(subject: Subject, way: str) -> None:
    expected = subject.get("refused")
    with pytest.raises(DynamoError) as caught:
        subject.runtime().request(expected["body"])
    check_details(subject, expected, caught.value)
    assert collect(way, subject.runtime().request(subject.get("short"))).error is None


def fails_first(subject: Subject, way: str) -> None:
    check_failure(subject, way, subject.get("fails_first"))


def fails_later(subject: Subject, way: str) -> None:
    check_failure(subject, way, subject.get("fails_later"))


def check_failure(subject: Subject, way: str, expected: dict[str, Any]) -> None:
    request = subject.runtime().request(expected["body"])
    answer = collect(way, request)
    assert answer.error is not None
    check_details(subject, expected, answer.error)
    assert answer.error.details["request_id"] == request.id
    if way in pieces:
        assert answer.text == expected.get("text", "")
    assert type(collect(way, request).error) is type(answer.error)


def check_details(subject: Subject, expected: dict[str, Any], error: DynamoError) -> None:
    assert error.details["name"] == f"DYNAMO_ERROR_{expected['status']}"
    assert expected["message"] in error.message
    assert error.details["engine"] == subject.profile["config"]["engine"]
    if "python" in expected:
        assert error.details["python"]["type"] == expected["python"]


def many_at_once(subject: Subject, way: str) -> None:
    several = subject.get("several")
    bodies = several if isinstance(several, list) else [several]
    numbered = [json.loads(json.dumps(bodies[i % len(bodies)]).replace("{i}", str(i))) for i in range(16)]
    expected = [subject.whole(body).text for body in numbered]
    assert len(set(expected)) > 1
    requests = [subject.runtime().request(body) for body in numbered]
    if way == "await":

        async def run() -> list[str]:
            return [result.text for result in await asyncio.gather(*requests)]

        assert asyncio.run(run()) == expected
        return
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda request: collect(way, request), requests))
    assert [answer.text for answer in answers] == expected


cases = [
    short_answer,
    narrow_stream,
    unicode,
    max_tokens,
    stop_string,
    usage,
    end_again,
    cancel,
    cancel_from_a_thread,
    deadline,
    first_token_deadline,
    refused,
    fails_first,
    fails_later,
    many_at_once,
]


@pytest.mark.many(3)
@pytest.mark.parametrize("way", ways)
@pytest.mark.parametrize("case", cases, ids=lambda case: case.__name__)
def test_case(subject: Subject, case: Callable[[Subject, str], None], way: str) -> None:
    case(subject, way)

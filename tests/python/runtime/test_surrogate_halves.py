# SPDX-License-Identifier: Apache-2.0
"""Surrogate halves from servers and Python engines: a pair becomes one character, a single half U+FFFD."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import Completion, Runtime
from dynamo_llm.runtime.openai_chunks import OpenAIChunks
from wire import Call, Wire

high, low = "\ud83d", "\ude00"
face = "\U0001f600"
texts = {
    "split": ([f"a{high}", f"{low}b"], f"a{face}b"),
    "split, alone in both": ([high, low], face),
    "in one": ([f"a{high}{low}", "b"], f"a{face}b"),
    "a high one alone": ([f"a{high}", "b"], "a�b"),
    "a high one at the end": (["a", f"b{high}"], "ab�"),
    "a low one alone": ([f"a{low}", "b"], "a�b"),
    "a low one first": ([low, "b"], "�b"),
    "two high ones": ([f"a{high}", f"{high}", f"{low}b"], f"a�{face}b"),
    "two low ones": ([f"{high}", f"{low}{low}"], f"{face}�"),
    "others between": ([f"é{high}", f"{low}語{high}", "", f"{low}"], f"é{face}語{face}"),
    "both ends": ([f"{low}x{high}", f"{low}y"], f"�x{face}y"),
}

engine = textwrap.dedent(
    """
    import json


    class Kind:
        def __init__(self, config):
            pass

        def start(self):
            pass

        def stop(self):
            pass


    def chunks_of(body):
        content = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        return json.loads(content)


    class Asynchronous(Kind):
        async def generate(self, request):
            for chunk in chunks_of(request.body):
                yield chunk


    class Plain(Kind):
        def generate(self, request):
            yield from chunks_of(request.body)


    class Sinks(Kind):
        kind = "steps"

        def add(self, request, sink):
            for chunk in chunks_of(request.body):
                sink.push(chunk)
            sink.finish("stop")

        def cancel(self, sink):
            pass


    class Steps(Sinks):
        def add(self, request, sink):
            from dynamo_llm.runtime.sink import push_many

            for chunk in chunks_of(request.body):
                if "text" in chunk:
                    push_many([sink], None, [chunk["text"]])
                else:
                    sink.push(chunk)
            sink.finish("stop")


    class OneStep(Sinks):
        def add(self, request, sink):
            from dynamo_llm.runtime.sink import push_many

            texts = [chunk["text"] for chunk in chunks_of(request.body)]
            push_many([sink] * len(texts), None, texts)
            sink.finish("stop")
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contains the module ``halves`` with engines that yield the JSON of their prompt."""
    place = tmp_path_factory.mktemp("halves")
    (place / "halves.py").write_text(engine)
    return place


def said(folder: Path, kind: str, chunks: list[dict[str, Any]]) -> Completion:
    with Runtime(engine=f"halves:{kind}", python={"path": [str(folder)]}) as runtime:
        return runtime.request(
            {"messages": [{"role": "user", "content": json.dumps(chunks)}], "max_tokens": 1}
        ).result()


@pytest.mark.parametrize("kind", ["Asynchronous", "Plain", "Sinks", "Steps", "OneStep"])
def test_texts_of_engines(folder: Path, kind: str) -> None:
    """However a Python engine pushes them; nothing is left for the next request."""
    with Runtime(engine=f"halves:{kind}", python={"path": [str(folder)]}) as runtime:
        for pieces, expected in texts.values():
            content = json.dumps([{"text": piece} for piece in pieces])
            answer = runtime.request({"messages": [{"role": "user", "content": content}]}).result()
            assert answer.text == expected


def test_choices_do_not_mix(folder: Path) -> None:
    """Each choice has its own halves."""
    chunks = [
        {"index": 0, "text": f"a{high}"},
        {"index": 1, "text": f"b{high}"},
        {"index": 0, "text": f"{low}A", "finish_reason": "stop"},
        {"index": 1, "text": "B", "finish_reason": "stop"},
    ]
    with Runtime(engine="halves:Asynchronous", python={"path": [str(folder)]}) as runtime:
        answer = runtime.request({"prompt": json.dumps(chunks), "n": 2}).result()
    assert [choice.text for choice in answer.choices] == [f"a{face}A", "b�B"]


def test_objects_of_engines(folder: Path) -> None:
    """Deltas, log-probs, keys of both, and finish reasons."""
    token = {"token": high, "logprob": -1.0, "bytes": None, "top_logprobs": []}
    chunks = [
        {"delta": {"own": {f"k{low}": [f"a{high}b", face, f"{high}{low}"]}, "path": "a\\ud83d"}},
        {"text": "x", "logprobs": {"content": [token]}},
        {"finish_reason": f"st{high}op"},
    ]
    choice = said(folder, "Asynchronous", chunks).json()["choices"][0]
    assert choice["message"]["own"] == {"k�": ["a�b", face, face]}
    assert choice["message"]["path"] == "a\\ud83d"
    assert choice["logprobs"]["content"][0]["token"] == "�"
    assert choice["finish_reason"] == "st�op"


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The server."""
    pytest.importorskip("httpx2", reason="needs the extra: pip install '.[openai]'")
    server = Wire()
    yield server
    server.close()


def streamed(wire: Wire, deltas: list[dict[str, Any]]) -> Completion:
    """Returns the result of the engine ``openai`` for deltas that a server streams."""

    async def reply(call: Call) -> None:
        await call.begin()
        for delta in deltas:
            await call.events({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        await call.events({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]")
        await call.end()

    wire.replies = [reply]
    with Runtime(engine="openai", options={"base_url": wire.url, "max_retries": 0}) as runtime:
        return runtime.chat("x").result()


@pytest.mark.parametrize("name", texts)
def test_texts_of_servers(wire: Wire, name: str) -> None:
    """Content, reasoning under both names, a refusal, arguments."""
    pieces, expected = texts[name]
    assert streamed(wire, [{"content": piece} for piece in pieces]).text == expected
    for key in ("reasoning", "reasoning_content"):
        assert streamed(wire, [{key: piece} for piece in pieces]).reasoning_content == expected
    refusal = streamed(wire, [{"refusal": piece} for piece in pieces]).json()["choices"][0]["message"]
    assert refusal["refusal"] == expected and refusal["content"] is None
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": f"f{high}", "arguments": ""}}
    calls = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    (call,) = streamed(wire, [{"tool_calls": [one]} for one in (first, *calls)]).tool_calls
    assert (call.id, call.name, call.arguments) == ("a", "f�", expected)


def test_parallel_calls_do_not_mix(wire: Wire) -> None:
    """A half stays with its call, even if both have one index."""
    for index in (0, 1):
        pieces = [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": f"1{high}"}},
            {"index": index, "id": "b", "function": {"name": "g", "arguments": f"{low}2{high}"}},
            {"index": index, "function": {"arguments": f"{low}3"}},
        ]
        calls = streamed(wire, [{"tool_calls": [piece]} for piece in pieces]).tool_calls
        assert [(call.id, call.arguments) for call in calls] == [("a", "1�"), ("b", f"�2{face}3")]


nested: dict[str, tuple[dict[str, Any], dict[str, Any], list[Any]]] = {
    "function_call": ({"name": "f", "arguments": high}, {"arguments": low}, ["function_call", "arguments"]),
    "a custom tool": (
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": high}},
        {"index": 0, "custom": {"input": low}},
        ["tool_calls", 0, "custom", "input"],
    ),
    "details of reasoning": (
        {"index": 0, "type": "reasoning.text", "text": high},
        {"index": 0, "text": low},
        ["reasoning_details", 0, "text"],
    ),
}


@pytest.mark.parametrize("name", nested)
def test_strings_in_objects(wire: Wire, name: str) -> None:
    """Anywhere in the deltas, a single half is U+FFFD."""
    *pieces, path = nested[name]
    for count, expected in ((2, face), (1, "\ufffd")):
        deltas = [{path[0]: [piece] if path[1] == 0 else piece} for piece in pieces[:count]]
        found = streamed(wire, deltas).json()["choices"][0]["message"]
        for step in path:
            found = found[step]
        assert found == expected


def test_deltas_without_surrogates_are_unchanged() -> None:
    """They are not copied with other types."""
    delta = {
        "reasoning_content": "é語" + face,
        "tool_calls": [{"index": 0, "function": {"arguments": "{"}}],
    }
    (chunk,) = OpenAIChunks(1).feed({"choices": [{"index": 0, "delta": delta}]})
    assert chunk["delta"] == delta

# SPDX-License-Identifier: Apache-2.0
"""Whole answers are the same whether or not they were streamed, and however they were chunked."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import Completion, NotSupportedError, OverloadedError, Runtime

question = [{"role": "user", "content": "x"}]


def piece(**call: Any) -> dict[str, Any]:
    """Returns an entry of a script, with a piece of a tool call."""
    return {"delta": {"tool_calls": [call]}}


def function(name: str | None = None, arguments: str = "") -> dict[str, Any]:
    """Returns the function of a piece of a tool call."""
    return {"arguments": arguments} | ({} if name is None else {"name": name})


def played(script: list[dict[str, Any]], pause: bool, **body: Any) -> Completion:
    """Runs a script, and returns its result. With a pause before each entry, each is a separate chunk."""
    steps = [{**entry, "delay_ms": 15} if pause else entry for entry in script]
    steps = [step for entry in steps for step in _parted(entry)]
    with Runtime(engine="scripted", options={"script": steps}) as runtime:
        return runtime.request({"messages": question, **body}).result()


def _parted(entry: dict[str, Any]) -> list[dict[str, Any]]:
    delay = entry.pop("delay_ms", None)
    return [entry] if delay is None else [{"delay_ms": delay}, entry]


call = piece(index=0, id="c", type="function", function=function("f", "{}"))
wholes = {
    "a call": ([call, {"finish": "tool_calls"}], None),
    "a call and reasoning": ([{"delta": {"reasoning_content": "hm"}}, call, {"finish": "tool_calls"}], None),
    "text before a call": ([{"text": "See: "}, {"text": "so"}, call, {"finish": "tool_calls"}], "See: so"),
    "a call before text": ([call, {"text": "so"}, {"finish": "tool_calls"}], "so"),
    "reasoning only": ([{"delta": {"reasoning_content": "hm"}}, {"finish": "length"}], None),
    "a refusal": ([{"delta": {"refusal": "no"}}, {"finish": "content_filter"}], None),
    "nothing": ([{"finish": "stop"}], ""),
    "null only": ([{"delta": {"refusal": None, "tool_calls": None, "reasoning": None}}], ""),
    "null and text": ([{"delta": {"content": None}}, {"text": "a"}, {"delta": {"refusal": None}}], "a"),
    "text": ([{"text": "a"}, {"text": "b"}], "ab"),
}


@pytest.mark.parametrize("name", wholes)
def test_the_content(name: str) -> None:
    """The content is null if there is something else but no text; the same object in three ways."""
    script, content = wholes[name]
    messages = []
    for pause, stream in ((False, True), (True, True), (False, False)):
        answer = played(json.loads(json.dumps(script)), pause, stream=stream).json()
        (choice,) = answer["choices"]
        messages.append(choice["message"])
        assert answer["object"] == "chat.completion" and choice["index"] == 0
    assert messages[0] == messages[1] == messages[2]
    assert messages[0]["content"] == content and "refusal" in messages[0]
    for one in messages[0].get("tool_calls", ()):
        assert one == {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_chunks_of_a_stream() -> None:
    """Chunks are like OpenAI's: the role once, and a content unless the answer is something else."""
    text = [{"text": "a"}, {"text": "b"}, {"finish": "stop"}]
    refused = [{"delta": {"refusal": "n"}}, {"delta": {"refusal": "o"}}, {"finish": "stop"}]
    expected = [
        [{"role": "assistant", "content": "a"}, {"content": "b"}, {"content": ""}],
        [{"role": "assistant", "content": None, "refusal": "n"}, {"refusal": "o"}, {}],
    ]
    for script, deltas in zip((text, refused), expected, strict=True):
        steps = [step for entry in script for step in ({"delay_ms": 50}, entry)]
        with Runtime(engine="scripted", options={"script": steps}) as runtime:
            chunks = [response.json()["choices"][0] for response in runtime.request({"messages": question})]
        assert [chunk["delta"] for chunk in chunks] == deltas
        assert [chunk["finish_reason"] for chunk in chunks] == [None, None, "stop"]


def test_a_whole_answer_that_fails() -> None:
    """A whole answer that fails has no partial text, which would look complete; a stream keeps its chunks."""
    script = [{"text": "a"}, {"error": {"status": "OVERLOADED"}}]
    with Runtime(engine="scripted", options={"script": script}) as runtime:
        for stream, count in ((True, 1), (False, 0)):
            received = []
            with pytest.raises(OverloadedError):
                for response in runtime.request({"messages": question, "stream": stream}):
                    received.append(response.text)
            assert len(received) == count


parallel = {
    "one index": [
        piece(index=0, id="a", function=function("f", '{"x":1}')),
        piece(index=0, id="b", function=function("g", "{}")),
    ],
    "one index, in pieces": [
        piece(index=0, id="a", type="function", function=function("f")),
        piece(index=0, function=function(arguments='{"x"')),
        piece(index=0, id="", function=function("", ":1}")),
        piece(index=0, id="b", type="function", function=function("g")),
        piece(index=0, id=None, type=None, function=function(arguments="{}")),
    ],
    "no index": [
        piece(id="a", function=function("f", '{"x":1}')),
        piece(id="b", function=function("g", "{}")),
    ],
    "no index, in one delta": [
        {
            "delta": {
                "tool_calls": [
                    {"id": "a", "function": function("f", '{"x":1}')},
                    {"id": "b", "function": function("g", "{}")},
                ]
            }
        }
    ],
    "no index, in pieces": [
        piece(id="a", function=function("f")),
        piece(function=function(arguments='{"x":1}')),
        piece(id="b", function=function("g")),
        piece(function=function(arguments="{}")),
    ],
    "id and name in each": [
        piece(index=0, id="a", type="function", function=function("f", '{"x"')),
        piece(index=0, id="a", type="function", function=function("f", ":1}")),
        piece(index=1, id="b", type="function", function=function("g", "{")),
        piece(index=1, id="b", type="function", function=function("g", "}")),
    ],
    "indexes from 1": [
        piece(index=1, id="a", function=function("f", '{"x":1}')),
        piece(index=2, id="b", function=function("g")),
        piece(index=2, function=function(arguments="{}")),
    ],
    "interleaved": [
        piece(index=0, id="a", function=function("f")),
        piece(index=1, id="b", function=function("g")),
        piece(index=0, function=function(arguments='{"x":1}')),
        piece(index=1, function=function(arguments="{}")),
    ],
}


def accumulated(chunks: list[dict[str, Any]]) -> list[list[str]]:
    """Joins a stream as OpenAI's clients do: pieces by index, strings appended."""
    calls: list[dict[str, str]] = []
    for chunk in chunks:
        for entry in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if entry["index"] == len(calls):
                calls.append({"id": "", "name": "", "arguments": ""})
            known = calls[entry["index"]]
            known["id"] += entry.get("id") or ""
            for key in ("name", "arguments"):
                known[key] += entry["function"].get(key) or ""
    return [list(one.values()) for one in calls]


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("way", parallel)
def test_parallel_calls(way: str, pause: bool) -> None:
    """Two tool calls stay two, however a server numbers them, in the whole answer and in the chunks."""
    script = json.loads(json.dumps(parallel[way]))
    expected = [["a", "f", '{"x":1}'], ["b", "g", "{}"]]
    for stream in (True, False):
        answer = played(json.loads(json.dumps(script)), pause, stream=stream)
        assert [[one.id, one.name, one.arguments] for one in answer.tool_calls] == expected
        for entry in answer.json()["choices"][0]["message"]["tool_calls"]:
            assert "index" not in entry and entry["type"] == "function"
    steps = [step for entry in script for step in ([{"delay_ms": 15}, entry] if pause else [entry])]
    with Runtime(engine="scripted", options={"script": steps}) as runtime:
        assert accumulated([one.json() for one in runtime.request({"messages": question})]) == expected


def test_calls_without_ids() -> None:
    """A new name begins a new call; a name that repeats while arguments are unfinished does not."""
    scripts = [
        ([piece(index=0, function=function("f", "{}")), piece(index=0, function=function("g", "{}"))], "fg"),
        ([piece(function=function("f", "{}")), piece(function=function("f", "{}"))], "ff"),
        ([piece(index=0, function=function("f", "{")), piece(index=0, function=function("f", "}"))], "f"),
    ]
    for script, names in scripts:
        answer = played(script, False)
        assert "".join(one.name for one in answer.tool_calls) == names
        assert all(one.arguments == "{}" for one in answer.tool_calls)


def test_usage_in_the_json() -> None:
    """A stream has a separate usage chunk if it was requested; whole answers always have usage."""
    with Runtime(engine="echo") as runtime:
        request = runtime.chat("a b", stream_options={"include_usage": True})
        *others, last = [response.json() for response in request]
        assert others and all(chunk["usage"] is None for chunk in others)
        assert last["choices"] == [] and last["usage"]["total_tokens"] == 4
        for options in ({"include_usage": True}, {"include_usage": False}, None):
            answer = runtime.chat("a b", stream_options=options).result()
            assert answer.usage is not None and answer.usage.completion_tokens == 2
            assert answer.json()["usage"]["completion_tokens"] == 2 and answer.text == "a b"
            assert len(answer.choices) == 1 and answer.finish_reason == "stop"
        with pytest.raises(NotSupportedError, match="continuous_usage_stats"):
            runtime.chat("a", stream_options={"include_usage": True, "continuous_usage_stats": True})


@pytest.fixture
def several(tmp_path: Path) -> Runtime:
    """Two choices of an engine that has text and token IDs, which end one after the other."""
    (tmp_path / "two_choices.py").write_text(
        textwrap.dedent(
            """
            class TwoChoices:
                def __init__(self, config):
                    pass

                async def start(self):
                    pass

                async def stop(self):
                    pass

                async def generate(self, request):
                    yield {"index": 1, "text": "b", "token_ids": [2]}
                    yield {"index": 0, "text": "a", "token_ids": [1], "finish_reason": "stop"}
                    yield {"index": 1, "text": "B", "token_ids": [3], "finish_reason": "length"}
                    yield {"usage": {"prompt_tokens": 5, "completion_tokens": 3}}
            """
        )
    )
    return Runtime(engine="two_choices:TwoChoices", python={"path": [str(tmp_path)]})


@pytest.mark.parametrize("body", [{"messages": question}, {"prompt": "x"}])
def test_several_choices(several: Runtime, body: dict[str, Any]) -> None:
    """One object with one usage; no chunk of a choice follows its finish reason."""
    with several:
        whole = several.request({**body, "n": 2, "stream": False})
        (response,) = list(whole)
        answers = [Completion([response]), several.request({**body, "n": 2}).result()]
        for answer in answers:
            found = [(one.index, one.text, one.token_ids, one.finish_reason) for one in answer.choices]
            assert found == [(0, "a", [1], "stop"), (1, "bB", [2, 3], "length")]
            assert [one["index"] for one in answer.json()["choices"]] == [0, 1]
            assert answer.json()["usage"]["completion_tokens"] == 3
        for options in (None, {"include_usage": True}):
            ended: set[int] = set()
            chunks = [one.json() for one in several.request({**body, "n": 2, "stream_options": options})]
            for chunk in chunks:
                for choice in chunk["choices"]:
                    assert choice["index"] not in ended
                    ended |= {choice["index"]} if choice["finish_reason"] else set()
            assert ended == {0, 1} and chunks[-1]["usage"]["completion_tokens"] == 3
            assert (chunks[-1]["choices"] == []) == (options is not None)

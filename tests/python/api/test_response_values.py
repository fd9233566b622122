# SPDX-License-Identifier: Apache-2.0
"""Tool calls, reasoning, and log-probs of answers, whether or not they were streamed."""

import math
from typing import Any

import pytest
from dynamo_llm import Choice, Completion, Logprob, Runtime, ToolCall

question = [{"role": "user", "content": "x"}]


def script(*entries: dict[str, Any]) -> Runtime:
    """Returns a runtime whose answers are these entries, each a response of its own."""
    steps = [step for entry in entries for step in ({"delay_ms": 15}, entry)]
    return Runtime(engine="scripted", options={"script": steps})


def calls(*pieces: dict[str, Any]) -> dict[str, Any]:
    return {"delta": {"tool_calls": list(pieces)}}


tool_script = [
    {"delta": {"reasoning_content": "Two "}},
    {"delta": {"reasoning": "cities."}},
    calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}),
    calls({"index": 0, "function": {"arguments": " 1}"}}),
    calls({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}),
    {"finish": "tool_calls"},
]
expected_calls = [ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}")]


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls_and_reasoning(stream: bool) -> None:
    """They are the same, and the message of the answer continues the chat."""
    with script(*tool_script) as runtime:
        answer = runtime.chat(question, stream=stream).result()
        assert answer.tool_calls == answer.choices[0].tool_calls == expected_calls
        assert answer.reasoning_content == answer.choices[0].reasoning_content == "Two cities."
        assert answer.message == answer.choices[0].message
        assert answer.message == {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Two cities.",
            "tool_calls": [call.json() for call in expected_calls],
        }
        runtime.chat([*question, answer.message]).result()  # a valid body


def test_responses_of_a_stream() -> None:
    """The last response has all tool calls, complete; each has a part of the reasoning."""
    with script(*tool_script) as runtime:
        responses = list(runtime.chat(question))
    assert len(responses) > 2
    *before, last = responses
    assert last.tool_calls == expected_calls
    assert all(response.tool_calls == [] for response in before)
    assert "".join(response.reasoning_content for response in responses) == "Two cities."


def test_a_text_is_a_message_without_reasoning() -> None:
    with script({"delta": {"reasoning_content": "hm"}}, {"text": "Hi"}) as runtime:
        answer = runtime.chat(question).result()
    assert (answer.reasoning_content, answer.tool_calls, answer.logprobs) == ("hm", [], [])
    assert answer.message == {"role": "assistant", "content": "Hi"}
    assert Completion([]).message == Choice(0).message == {"role": "assistant", "content": ""}


def token(text: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": text, "logprob": logprob} for text, logprob in others]
    return {"token": text, "logprob": logprob, "top_logprobs": top}


@pytest.mark.parametrize("stream", [True, False])
def test_logprobs_of_a_chat(stream: bool) -> None:
    entries = [
        {"text": "a", "token_ids": [7], "logprobs": {"content": [token("a", -0.5, ("a", -0.5), ("b", -2))]}},
        {"text": "c", "token_ids": [8], "logprobs": {"content": [token("c", -1)]}},
    ]
    with script(*entries) as runtime:
        answer = runtime.chat(question, stream=stream).result()
    first, second = answer.logprobs
    assert first == Logprob("a", -0.5, 7, [Logprob("a", -0.5), Logprob("b", -2)])
    assert second == Logprob("c", -1, 8)
    assert answer.choices[0].logprobs == answer.logprobs


@pytest.mark.parametrize("stream", [True, False])
def test_logprobs_of_a_completion(stream: bool) -> None:
    logprobs = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -0.25],
        "top_logprobs": [None, {"a": -3, "b": -0.25}],
    }
    with script({"text": "ab", "logprobs": logprobs}) as runtime:
        first, second = runtime.complete("x", stream=stream).result().logprobs
    assert math.isnan(first.logprob) and (first.text, first.token_id, first.alternatives) == ("a", None, [])
    assert second == Logprob("b", -0.25, None, [Logprob("b", -0.25), Logprob("a", -3)])


class Chooser:
    """An engine with several choices."""

    def __init__(self, config: Any) -> None:
        pass

    def start(self) -> None:
        pass

    async def generate(self, request: Any) -> Any:
        for index in range(request.body["n"]):
            call = {"id": f"c{index}", "function": {"name": "f", "arguments": "{}"}}
            yield {
                "index": index,
                "text": str(index),
                "token_ids": [index],
                "logprobs": {"content": [token(str(index), -1, ("z", -2))]},
                "delta": {"tool_calls": [call], "reasoning_content": f"hm {index}"},
                "finish_reason": "tool_calls",
            }

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("stream", [True, False])
def test_each_choice_has_its_own(stream: bool) -> None:
    """Also of a whole answer, whose other choices are read from its JSON."""
    with Runtime(engine=f"{__name__}:Chooser") as runtime:
        answer = runtime.chat(question, n=3, stream=stream).result()
    for index, choice in enumerate(answer.choices):
        assert choice.tool_calls == [ToolCall(f"c{index}", "f", "{}")]
        assert choice.reasoning_content == f"hm {index}"
        assert choice.logprobs == [Logprob(str(index), -1, index, [Logprob("z", -2)])]
        assert choice.message["content"] == str(index)

# SPDX-License-Identifier: Apache-2.0
"""Bodies of OpenAI's Responses API, from Python: streamed and whole answers are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import Batch, ModelResponse, Runtime
from dynamo_llm.errors import InvalidRequestError, NotSupportedError

script = [
    {"delta": {"reasoning_content": "Let "}},
    {"delta": {"reasoning_content": "me think."}},
    {"text": "An "},
    {"text": "answer."},
    {"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]}},
    {"delta": {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}]}},
    {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}},
    {"delta": {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}},
    {"finish": "tool_calls"},
]


def shape(value: Any) -> Any:
    """Returns a JSON value without what differs between two requests."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items() if key not in ("id", "created_at")}
    return [shape(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_whole_and_streamed(isolation: str) -> None:
    """Pieces of two calls alternate; each item is complete, and has its place."""
    with Runtime(engine="scripted", isolation=isolation, options={"script": script}) as runtime:
        whole = runtime.respond("x", stream=False).result()
        streamed = runtime.respond("x").result()
    assert isinstance(whole, ModelResponse)
    assert shape(whole.json()) == shape(streamed.json())
    kinds = [item["type"] for item in whole.output]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    assert whole.output[0]["content"] == [{"type": "reasoning_text", "text": "Let me think."}]
    assert [item["arguments"] for item in whole.output[2:]] == ["{}", "{}"]
    assert whole.json()["status"] == "completed"
    for answer in (whole, streamed):
        assert (answer.text, answer.reasoning_content) == ("An answer.", "Let me think.")
        assert [call.id for call in answer.tool_calls] == ["a", "b"]


def test_events_in_parts() -> None:
    """However often a stream is read, its events have consecutive numbers, and the texts that they have."""
    entries = [{"text": f"{number} ", "delay_ms": 1} for number in range(30)]
    with Runtime(engine="scripted", options={"script": entries}) as runtime:
        parts = [response.json()["events"] for response in runtime.respond("x")]
    events = [event for part in parts for event in part]
    assert len(parts) > 1
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "".join(f"{number} " for number in range(30))


def test_empty_answer() -> None:
    """It is a message without text."""
    with Runtime(engine="scripted", options={"script": [{"finish": "stop"}]}) as runtime:
        (item,) = runtime.respond("x", stream=False).result().output
    assert item["content"][0]["text"] == "" and item["status"] == "completed"


def test_filtered_answer() -> None:
    entries = [{"text": "a"}, {"finish": "content_filter"}]
    with Runtime(engine="scripted", options={"script": entries}) as runtime:
        whole = runtime.respond("x").result().json()
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})


def test_the_model_sees_the_chat() -> None:
    """The demo model answers as it answers the chat, also to an output that is sent back."""
    question, more = "What is a KV cache?", "What is prefill?"
    with Runtime() as runtime:
        first = runtime.respond(question, instructions="Be brief.", temperature=0).result()
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
        chat = runtime.chat(messages, temperature=0).result()
        assert first.text == chat.text
        assert first.usage is not None and chat.usage is not None
        assert first.usage.prompt_tokens == chat.usage.prompt_tokens
        items = [{"role": "user", "content": question}, *first.output, {"role": "user", "content": more}]
        second = runtime.respond(items, max_output_tokens=4).result()
        turns = [messages[1], chat.message, {"role": "user", "content": more}]
        expected = runtime.chat(turns, max_tokens=4).result()
        assert second.text == expected.text
        assert second.usage is not None and expected.usage is not None
        assert second.usage.prompt_tokens == expected.usage.prompt_tokens


def test_structured_output() -> None:
    schema = {
        "type": "object",
        "properties": {"shade": {"type": "boolean"}},
        "required": ["shade"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}}
    with Runtime() as runtime:
        answer = runtime.respond("x", text=form, max_output_tokens=40).result()
    assert isinstance(json.loads(answer.text)["shade"], bool)
    assert answer.json()["text"] == form


def test_batch(tmp_path: Path) -> None:
    lines = [
        {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "one two"}},
        {"custom_id": "b", "method": "POST", "url": "/v1/responses", "body": {"input": "x", "task": "embed"}},
    ]
    (tmp_path / "in").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Runtime(engine="echo") as runtime, Batch(tmp_path / "in", tmp_path / "out") as batch:
        report = batch.run(runtime)
    assert (report.done, report.failed) == (1, 1)
    assert '"task" of the request must be left out' in report.problems[0]
    answers = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    (body,) = [one["response"]["body"] for one in answers if one["response"]]
    assert body["output"][0]["content"][0]["text"] == "one two" and body["object"] == "response"


def test_limits() -> None:
    """The chat that a body becomes is checked like any other."""
    with Runtime(engine="echo", limits={"request": {"messages": 1}}) as runtime:
        with pytest.raises(InvalidRequestError, match='"messages" of the request has 2 messages'):
            runtime.respond("x", instructions="y").result()
        with pytest.raises(NotSupportedError, match='"stop" of the request'):
            runtime.respond("x", stop=["a"]).result()

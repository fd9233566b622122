# SPDX-License-Identifier: Apache-2.0
"""Responses, rerank, score, and classification over HTTP, with OpenAI's client."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from conftest import patience
from served import Served, scripted, serve

openai = pytest.importorskip("openai", reason="needs the package openai")

pytest.importorskip("uvicorn", reason="needs the packages of the extra serve")

question = "What is a KV cache?"
tool = {
    "type": "function",
    "name": "clock",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
fragments = [
    {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}},
    {"index": 0, "function": {"arguments": ": 1}"}},
    {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
]


def client(served: Served) -> Any:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=patience, max_retries=0)


def script(*entries: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of a body that is answered with a script."""
    return {"model": "scripted", "input": json.dumps(entries)}


@pytest.fixture(scope="module")
def script_server() -> Iterator[Served]:
    with serve(scripted) as served:
        yield served


@pytest.fixture(scope="module")
def demo_server() -> Iterator[Served]:
    with serve({}) as served:
        yield served


def test_response(demo_server: Served) -> None:
    """The text, the usage, and what the client sent are those of the chat."""
    api = client(demo_server)
    response = api.responses.create(
        model="demo", input=question, instructions="Be brief.", temperature=0, metadata={"a": "b"}
    )
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    chat = api.chat.completions.create(model="demo", messages=messages, temperature=0)
    assert response.output_text == chat.choices[0].message.content
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
        chat.usage.total_tokens,
    )
    assert (response.status, response.object, response.model) == ("completed", "response", "demo")
    assert (response.instructions, response.temperature, response.metadata) == ("Be brief.", 0, {"a": "b"})
    assert response.id.startswith("resp_") and response.output[0].id.startswith("msg_")
    openai.types.responses.Response.model_validate(response.model_dump(warnings=False))


def test_stream(demo_server: Served) -> None:
    """The events, each valid for OpenAI's types, in the order that OpenAI's client needs."""
    api = client(demo_server)
    whole = api.responses.create(model="demo", input=question)
    some = list(api.responses.create(model="demo", input=question, stream=True))
    names = [event.type.removeprefix("response.") for event in some]
    assert names[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert names[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(names[4:-4]) == {"output_text.delta"} and len(names) > 10
    assert [event.sequence_number for event in some] == list(range(len(some)))
    text = "".join(event.delta for event in some if event.type == "response.output_text.delta")
    assert text == whole.output_text == some[-1].response.output_text
    assert some[-1].response.usage == whole.usage
    for event in some:
        type(event).model_validate(event.model_dump(warnings=False))
    with api.responses.stream(model="demo", input=question) as stream:
        assert stream.get_final_response().output_text == text


def test_cut_answer(demo_server: Served) -> None:
    response = client(demo_server).responses.create(model="demo", input=question, max_output_tokens=3)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output[0].status == "incomplete" and response.usage.output_tokens == 3


def test_events_on_the_wire(demo_server: Served) -> None:
    """Each event has its name, and the stream has no [DONE]."""
    body = {"input": question, "max_output_tokens": 2, "stream": True}
    reply = demo_server.ask("POST", "/v1/responses", body)
    blocks = reply.text.strip().split("\n\n")
    for block in blocks:
        name, data = block.split("\n")
        assert name == "event: " + json.loads(data.removeprefix("data: "))["type"]
    assert "[DONE]" not in reply.text and blocks[-1].startswith("event: response.incomplete")


def test_structured_output(demo_server: Served) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Shade(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        shade: bool

    parsed = client(demo_server).responses.parse(
        model="demo", input=question, text_format=Shade, max_output_tokens=40
    )
    assert isinstance(parsed.output_parsed.shade, bool)


def test_tool_calls(script_server: Served) -> None:
    """Reasoning, text, and two calls, whole and streamed; their items can be sent back."""
    asked = script(
        {"delta": {"reasoning_content": "Hm."}},
        {"text": "Let me see."},
        *({"delta": {"tool_calls": [one]}} for one in fragments),
        {"finish": "tool_calls"},
    )
    api = client(script_server)
    whole = api.responses.create(**asked)
    reasoning, message, first, second = whole.output
    assert reasoning.content[0].text == "Hm." and message.content[0].text == "Let me see."
    assert [(one.call_id, one.name, one.arguments) for one in (first, second)] == [
        ("a", "f", '{"x": 1}'),
        ("b", "g", "{}"),
    ]
    assert whole.status == "completed" and first.status == "completed"
    with api.responses.stream(**asked) as stream:
        some = list(stream)
        final = stream.get_final_response()
    deltas = [one.delta for one in some if one.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == '{"x": 1}{}'
    without = {"id", "status"}
    for one, other in zip(final.output, whole.output, strict=True):
        assert one.model_dump(exclude=without, exclude_none=True) | {"parsed_arguments": 0} == (
            other.model_dump(exclude=without, exclude_none=True) | {"parsed_arguments": 0}
        )
    results = [
        {"type": "function_call_output", "call_id": one.call_id, "output": "3"} for one in (first, second)
    ]
    items = [{"role": "user", "content": "x"}, *(one.to_dict() for one in whole.output), *results]
    again = api.responses.create(
        model="scripted", input=[*items, {"role": "user", "content": json.dumps([{"text": "done"}])}]
    )
    assert again.output_text == "done"


def test_refusal(script_server: Served) -> None:
    """A part of the message for OpenAI's client, whole and streamed, which can be sent back."""
    asked = script({"delta": {"refusal": "I can't "}}, {"delay_ms": 50, "delta": {"refusal": "help."}})
    api = client(script_server)
    whole = api.responses.create(**asked)
    assert [one.refusal for one in whole.output[0].content] == ["I can't help."]
    with api.responses.stream(**asked) as stream:
        some = list(stream)
        final = stream.get_final_response()
    names = [one.type for one in some]
    assert "response.refusal.delta" in names and names.count("response.refusal.done") == 1
    assert "".join(one.delta for one in some if one.type == "response.refusal.delta") == "I can't help."
    assert final.output[0].content == whole.output[0].content
    for event in api.responses.create(**asked, stream=True):
        type(event).model_validate(event.model_dump(warnings=False))
    items = [*(one.to_dict() for one in whole.output), {"role": "user", "content": '[{"text": "done"}]'}]
    assert api.responses.create(model="scripted", input=items).output_text == "done"


def test_cut_reasoning_can_be_sent_back(script_server: Served) -> None:
    api = client(script_server)
    cut = api.responses.create(**script({"delta": {"reasoning_content": "Hm."}}, {"finish": "length"}))
    assert [one.type for one in cut.output] == ["reasoning"] and cut.status == "incomplete"
    items = [*(one.to_dict() for one in cut.output), {"role": "user", "content": '[{"text": "done"}]'}]
    assert api.responses.create(model="scripted", input=items).output_text == "done"


def test_text_around_a_call(script_server: Served) -> None:
    """The streamed output is that of the whole answer."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    slowly = {"delay_ms": 50}
    asked = script({"text": "a"}, slowly | {"delta": {"tool_calls": [call]}}, slowly | {"text": "b"})
    api = client(script_server)
    whole = api.responses.create(**asked)
    *_, last = api.responses.create(**asked, stream=True)
    for message, one in (whole.output, last.response.output):
        assert (message.content[0].text, one.type, one.arguments) == ("ab", "function_call", "{}")


def test_tools_reach_the_model(tmp_path: Path) -> None:
    with serve({"model": str(tiny_models.llama(tmp_path / "model"))}) as served:
        create = client(served).responses.create
        with_tools = create(model="m", input=question, max_output_tokens=1, tools=[tool])
        without = create(model="m", input=question, max_output_tokens=1)
    assert with_tools.usage.input_tokens > without.usage.input_tokens
    assert with_tools.tools[0].name == "clock"


def test_failures(script_server: Served) -> None:
    """What is not supported has a status; a failure within a stream is its last event."""
    api = client(script_server)
    for more in ({"previous_response_id": "resp_1"}, {"store": True}, {"tools": [{"type": "web_search"}]}):
        with pytest.raises(openai.APIStatusError, match="is not supported") as caught:
            api.responses.create(**script({"text": "x"}), **more)
        assert caught.value.status_code in (400, 501)
    asked = script({"text": "a"}, {"delay_ms": 200, "error": {"message": "broken"}})
    some = list(api.responses.create(**asked, stream=True))
    assert some[-1].type == "response.failed"
    assert some[-1].sequence_number == len(some) - 1
    assert some[-1].response.status == "failed" and "broken" in some[-1].response.error.message


def test_ranking(tmp_path: Path) -> None:
    """The bodies and answers of vLLM's server, on all of its paths."""
    documents = ["Prefill processes the prompt.", "A KV cache keeps keys and values."]
    with serve({"model": str(tiny_models.embedder(tmp_path / "model")), "name": "e"}) as served:
        data = served.ask("POST", "/v1/embeddings", {"input": [question, *documents]}).json()["data"]
        first, *others = (entry["embedding"] for entry in data)
        expected = [
            sum(a * b for a, b in zip(first, other, strict=True)) / math.hypot(*first) / math.hypot(*other)
            for other in others
        ]
        for path in ("/v1/rerank", "/rerank"):
            reply = served.ask("POST", path, {"model": "e", "query": question, "documents": documents})
            results = reply.json()["results"]
            assert {one["index"]: one["relevance_score"] for one in results} == {
                at: pytest.approx(score, abs=1e-5) for at, score in enumerate(expected)
            }
        for path in ("/v1/score", "/score"):
            reply = served.ask("POST", path, {"text_1": question, "text_2": documents})
            assert [one["score"] for one in reply.json()["data"]] == pytest.approx(expected, abs=1e-5)
        refused = served.ask("POST", "/classify", {"input": "a"})
        assert refused.status in (400, 501) and '"classify" requests' in refused.error()["message"]
        assert "/v1/rerank" in served.ask("GET", "/metrics").text

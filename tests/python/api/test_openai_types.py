# SPDX-License-Identifier: Apache-2.0
"""The JSON of answers, validated strictly with the models of OpenAI's own Python package."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import compile_c, dynamo_config, run
from dynamo_llm import Completion, Runtime

types = pytest.importorskip("openai.types", reason="needs the package openai")
chat_types = pytest.importorskip("openai.types.chat")

chat = {"messages": [{"role": "user", "content": "What is a KV cache?"}], "max_tokens": 6}
completion = {"prompt": "A KV cache", "max_tokens": 6}
token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
pieces = [
    {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
    {"index": 0, "function": {"arguments": "{}"}},
    {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
]
scripts: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": "a"}, {"text": "b"}, {"finish": "stop"}],
    "nothing": [],
    "calls": [*({"delta": {"tool_calls": [piece]}} for piece in pieces), {"finish": "tool_calls"}],
    "calls without index": [
        {"delta": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}},
        {"finish": "tool_calls"},
    ],
    **{
        name: [{"delta": {"tool_calls": [call]}}, {"finish": "tool_calls"}]
        for name, call in {
            "a call without an id": {"index": 0, "function": {"name": "f", "arguments": "{}"}},
            "a call whose function is null": {"index": 0, "id": "a", "type": "function", "function": None},
            "a call whose arguments are null": {"id": "a", "function": {"name": "f", "arguments": None}},
            "a call without arguments": {"index": 0.0, "id": "a", "type": None, "function": {"name": "f"}},
            "a call with a list of arguments": {"id": "a", "function": {"name": "f", "arguments": [1]}},
        }.items()
    },
    "a call whose function comes later": [
        {"delta": {"tool_calls": [{"index": 0, "id": "a"}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "}"}}]}},
        {"finish": "tool_calls"},
    ],
    "a refusal": [{"delta": {"refusal": "no"}}, {"finish": "content_filter"}],
    "reasoning": [{"delta": {"reasoning": "hm"}}, {"text": "a"}, {"finish": "length"}],
    "log-probs": [{"text": "a", "logprobs": {"content": [token]}}, {"finish": "stop"}],
}

#: Keys of the library, or of other servers.
extensions = {"reasoning_content", "token_ids"}


def extra_keys(value: Any) -> set[str]:
    """Returns the keys, at any depth of a model, that it does not declare."""
    if isinstance(value, list):
        return {key for item in value for key in extra_keys(item)}
    if not hasattr(value, "model_extra"):
        return set()
    fields = [getattr(value, name) for name in type(value).model_fields]
    return set(value.model_extra or ()) | {key for field in fields for key in extra_keys(field)}


def check(value: dict[str, Any]) -> None:
    """Validates an object as the type that it declares itself to be."""
    if value["object"] == "text_completion":
        # OpenAI streams these with null before the end, which its own model does not allow.
        choices = [{**one, "finish_reason": one["finish_reason"] or "stop"} for one in value["choices"]]
        model, value = types.Completion, {**value, "choices": choices}
    else:
        model = {
            "chat.completion": chat_types.ChatCompletion,
            "chat.completion.chunk": chat_types.ChatCompletionChunk,
            "list": types.CreateEmbeddingResponse,
        }[value["object"]]
    assert extra_keys(model.model_validate(value, strict=True)) <= extensions
    if value["object"] == "chat.completion":
        # OpenAI's specification requires these, its Python models do not.
        for choice in value["choices"]:
            assert {"content", "refusal"} <= choice["message"].keys() and "logprobs" in choice
            assert choice["logprobs"] is None or {"content", "refusal"} <= choice["logprobs"].keys()


def check_all(runtime: Runtime, body: dict[str, Any]) -> None:
    """Checks a body's chunks, with and without usage, their accumulated result, and the whole answer."""
    for options in (None, {"include_usage": True}, {"include_usage": False}):
        responses = list(runtime.request({**body, "stream_options": options}))
        for response in responses:
            check(response.json())
        check(Completion(responses).json())
    (whole,) = runtime.request({**body, "stream": False})
    check(whole.json())
    assert {choice["finish_reason"] for choice in whole.json()["choices"]} != {None}
    assert whole.json()["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("name", scripts)
def test_scripts(name: str) -> None:
    """Deltas of all kinds, at once and one by one."""
    for pause in ([], [{"delay_ms": 10}]):
        script = [step for entry in scripts[name] for step in (*pause, entry)]
        with Runtime(engine="scripted", options={"script": script}) as runtime:
            check_all(runtime, {"messages": chat["messages"]})


def test_tool_calls_in_unusual_pieces() -> None:
    """A null is ignored, arguments are text, and a name may follow the first arguments."""
    expected = {
        "a call without an id": ("", "f", "{}"),
        "a call whose function is null": ("a", "", ""),
        "a call whose arguments are null": ("a", "f", ""),
        "a call without arguments": ("a", "f", ""),
        "a call with a list of arguments": ("a", "f", "[1]"),
        "a call whose function comes later": ("a", "f", "{}"),
    }
    for name, call in expected.items():
        with Runtime(engine="scripted", options={"script": scripts[name]}) as runtime:
            for stream in (True, False):
                answer = runtime.request({"messages": chat["messages"], "stream": stream}).result()
                (got,) = answer.tool_calls
                assert (got.id, got.name, got.arguments) == call


def test_echo() -> None:
    """Chats and completions."""
    with Runtime(engine="echo") as runtime:
        check_all(runtime, chat)
        check_all(runtime, completion)


tool = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]},
    },
}
bodies = {
    "chat": chat,
    "completion": completion,
    "two choices": {**chat, "n": 2},
    "two completions": {**completion, "n": 2},
    "log-probs": {**chat, "logprobs": True, "top_logprobs": 2},
    "log-probs of two choices": {**chat, "n": 2, "logprobs": True, "top_logprobs": 1},
    "log-probs of a completion": {**completion, "logprobs": 2},
    "a tool": {
        "messages": chat["messages"],
        "max_tokens": 30,
        "chat_template": "{{ tools | tojson }}<|user|>{{ messages[0].content }}<|assistant|>",
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
    },
    "a schema": {
        **chat,
        "max_tokens": 40,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": ["a"]}}},
    },
}


@pytest.fixture(scope="module")
def demo() -> Any:
    """The demo model on mistral.rs."""
    with Runtime(trust_request_chat_template=True) as runtime:
        yield runtime


@pytest.mark.parametrize("name", bodies)
def test_demo_model(demo: Runtime, name: str) -> None:
    """A real engine."""
    check_all(demo, bodies[name])


def test_embeddings(tmp_path: Path) -> None:
    """Embeddings of a Python engine."""
    (tmp_path / "vectors.py").write_text(
        "class Vectors:\n"
        "    def __init__(self, config): pass\n"
        "    def start(self): pass\n"
        "    def stop(self): pass\n"
        "    def generate(self, request):\n"
        "        data = [{'object': 'embedding', 'index': i, 'embedding': [0.5, 1.0]} for i in range(2)]\n"
        "        yield {'delta': {'data': data}, 'usage': {'prompt_tokens': 4}}\n"
    )
    with Runtime(engine="vectors:Vectors", python={"path": [str(tmp_path)]}) as runtime:
        answer = runtime.embed(["a", "b"]).result()
    check(answer.json())
    assert answer.vectors == [[0.5, 1.0]] * 2


def test_a_program_in_c(programs: Path) -> None:
    """The output of dynamo_response_json(), for chunks and whole answers."""
    flags = dynamo_config("--cflags", "--libs").split()
    program = compile_c(Path(__file__).with_name("responses.c"), programs / "responses", *flags)
    asked = [
        {**body, **more}
        for body in (*bodies.values(), chat)
        for more in ({"stream": False}, {"stream_options": {"include_usage": True}})
    ]
    result = run([program, '{"trust_request_chat_template": true}', *map(json.dumps, asked)])
    assert result.returncode == 0, result.stderr
    values = [json.loads(line) for line in result.stdout.splitlines()]
    for value in values:
        check(value)
    assert sum(value["object"] == "chat.completion" for value in values) == 7
    assert sum(value["choices"] == [] for value in values) == len(asked) // 2

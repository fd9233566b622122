# SPDX-License-Identifier: Apache-2.0
"""Bodies as well-known clients send them: accepted and honored, ignored with a warning, or rejected."""

import json
import sys
from typing import Any

import pytest
from conftest import engine, engines_dir
from dynamo_llm import Runtime
from dynamo_llm.errors import NotSupportedError

sys.path.append(str(engines_dir))
import tokens  # the engines run in this process

parameters = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
weather = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": parameters, "strict": True},
}
call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
user = {"role": "user", "content": "hi"}
answer_format = {
    "type": "json_schema",
    "json_schema": {"name": "Answer", "schema": parameters, "strict": True},
}

#: Chats with tools, or that continue after a call.
tool_loops: dict[str, dict[str, Any]] = {
    "openai-python, a dumped message": {
        "messages": [
            user,
            {
                "content": None,
                "refusal": None,
                "role": "assistant",
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [call],
            },
            result,
        ],
        "model": "m",
        "tools": [weather],
        "parallel_tool_calls": True,
    },
    "openai-python, functions": {
        "messages": [
            user,
            {"role": "assistant", "content": None, "function_call": call["function"]},
            {"role": "function", "name": "weather", "content": "sunny"},
        ],
        "model": "m",
        "functions": [],
        "function_call": "none",
    },
    "openai-node, runTools": {
        "messages": [user, {"role": "assistant", "content": None, "tool_calls": [call]}, result],
        "model": "m",
        "stream": False,
        "tool_choice": "auto",
        "tools": [weather],
    },
    "langchain": {
        "messages": [user, {"content": None, "role": "assistant", "tool_calls": [call]}, result],
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [weather],
    },
    "litellm, no content": {
        "model": "m",
        "messages": [user, {"role": "assistant", "tool_calls": [call]}, {**result, "name": "weather"}],
        "tools": [weather],
    },
    "llama-index": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            user,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            result,
        ],
        "model": "m",
        "stream": False,
        "temperature": 0.1,
        "max_tokens": None,
        "tools": [weather],
        "tool_choice": "auto",
    },
    "autogen": {
        "messages": [
            {"content": "You are helpful.", "role": "system"},
            {"role": "user", "name": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [call], "content": None},
            result,
        ],
        "model": "m",
        "stream": False,
        "tools": [weather],
    },
    "pydantic-ai": {
        "messages": [user, {"role": "assistant", "content": None, "tool_calls": [call]}, result],
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tool_choice": "auto",
        "tools": [weather],
    },
    "ai-sdk": {
        "model": "m",
        "messages": [user, {"role": "assistant", "content": None, "tool_calls": [call]}, result],
        "max_completion_tokens": 5,
        "store": False,
        "metadata": {"a": "b"},
        "user": "u",
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "tools": [weather],
        "tool_choice": "auto",
    },
    "crewai, an answer that was reasoning only": {
        "messages": [user, {"role": "assistant", "content": None, "reasoning_content": "hm"}, user],
        "model": "m",
    },
}

#: Other chats that an engine can answer.
others: dict[str, dict[str, Any]] = {
    "openai-python, all keys null": {
        "messages": [{"role": "developer", "content": "Be brief."}, user],
        "model": "m",
        **dict.fromkeys(
            (
                "audio",
                "frequency_penalty",
                "function_call",
                "functions",
                "logit_bias",
                "logprobs",
                "max_completion_tokens",
                "max_tokens",
                "metadata",
                "modalities",
                "moderation",
                "n",
                "parallel_tool_calls",
                "prediction",
                "presence_penalty",
                "prompt_cache_key",
                "prompt_cache_options",
                "prompt_cache_retention",
                "reasoning_effort",
                "response_format",
                "safety_identifier",
                "seed",
                "service_tier",
                "stop",
                "store",
                "stream",
                "stream_options",
                "temperature",
                "tool_choice",
                "tools",
                "top_logprobs",
                "top_p",
                "user",
                "verbosity",
                "web_search_options",
            )
        ),
    },
    "openai-python, parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "model": "m",
        "modalities": ["text"],
        "prediction": {"type": "content", "content": "hi"},
        "prompt_cache_retention": "24h",
    },
    "instructor, JSON": {
        "messages": [user],
        "model": "m",
        "response_format": answer_format,
    },
    "dspy through litellm": {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, user],
        "temperature": 0.0,
        "max_tokens": 20,
        "n": 1,
        "stream": False,
        "response_format": {"type": "json_object"},
    },
    "vllm's extra_body": {
        "model": "m",
        "messages": [user],
        "structured_outputs": {"regex": "a+"},
        "top_k": -1,
        "min_p": 0,
        "repetition_penalty": 1.0,
        "length_penalty": 1.0,
        "skip_special_tokens": True,
        "request_id": "r-1",
    },
    "langchain, logprobs": {
        "messages": [user],
        "model": "m",
        "logprobs": True,
        "top_logprobs": 1,
        "logit_bias": {},
        "seed": 3,
        "temperature": 0.0,
    },
}

template = (
    "{% if tools %}{% for tool in tools %}[{{ tool.function.name }}]{% endfor %}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}({{ call.function.name }}){% endfor %}{% endfor %}"
)


def both() -> list[Any]:
    return [pytest.param(body, id=name) for name, body in {**tool_loops, **others}.items()]


@pytest.mark.parametrize("body", both())
def test_accepted_by_a_text_engine(body: dict[str, Any]) -> None:
    """A text-level engine gets them unchanged."""
    with Runtime(engine="scripted", options={"script": [{"text": "a"}]}) as runtime:
        assert runtime.request(body).result().text == "a"


@pytest.mark.parametrize("body", both())
def test_answered_by_a_token_level_engine(body: dict[str, Any]) -> None:
    """A model whose template supports tools answers them all."""
    trusting = engine("tokens:Async", options={"say": [410, 411]}, trust_request_chat_template=True)
    with Runtime(trusting) as runtime:
        request = {**body, "chat_template": template}
        assert runtime.request(request).result().token_ids == [410, 411]
        guided = tokens.Base.requests[-1].guided
    wanted = body.get("response_format") or body.get("structured_outputs")
    assert (guided is None) == (wanted is None)


def test_answered_by_mistralrs() -> None:
    """The default engine answers them all in one runtime."""
    with Runtime(trust_request_chat_template=True) as runtime:
        for name, body in {**tool_loops, **others}.items():
            request = {**body, "chat_template": template, "max_tokens": 2, "max_completion_tokens": 2}
            got = runtime.request(request).result()
            assert got.finish_reason in ("stop", "length"), name
        assert runtime.request({**others["vllm's extra_body"], "stream": False}).result().json()["id"] == (
            "chatcmpl-r-1"
        )


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"web_search_options": {}}, '"web_search_options"'),
        ({"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"]}, '"audio"'),
        ({"modalities": ["text", "audio"]}, '"modalities"'),
        ({"functions": [{"name": "f"}]}, '"functions".*use "tools"'),
        ({"function_call": {"name": "f"}}, '"function_call".*use "tool_choice"'),
        ({"moderation": {"model": "m"}}, '"moderation"'),
        ({"bad_words": ["a"]}, '"bad_words"'),
        ({"allowed_token_ids": [5]}, '"allowed_token_ids"'),
        ({"length_penalty": 0.5}, '"length_penalty"'),
        ({"return_token_ids": True}, '"return_token_ids"'),
        ({"extra": {"top_a": 1}}, '"extra"'),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "what is this?"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                        ],
                    }
                ]
            },
            r"messages\[0\].content\[1\].*image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "input_audio",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, '"file"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_rejected_by_key(more: dict[str, Any], match: str) -> None:
    """Both kinds of engines reject what a text model cannot do, with the same messages."""
    with (
        Runtime(engine("tokens:Async", options={"say": [410]})) as token_level,
        Runtime() as mistralrs,
    ):
        for runtime in (token_level, mistralrs):
            with pytest.raises(NotSupportedError, match=match):
                runtime.request({"messages": [user], "max_tokens": 2, **more}).result()


def test_a_body_from_json() -> None:
    """As a gateway gets it."""
    with Runtime(engine="scripted", options={"script": [{"text": "a"}]}) as runtime:
        text = json.dumps(tool_loops["openai-python, a dumped message"])
        assert runtime.request(json.loads(text)).result().text == "a"

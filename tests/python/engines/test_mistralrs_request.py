# SPDX-License-Identifier: Apache-2.0
"""How the engine mistralrs reads a body: sampling, stop tokens, tool choices, and what it rejects."""

from collections.abc import Iterator
from typing import Any

import pytest
import tiny_models
from dynamo_llm import Runtime
from dynamo_llm.errors import DynamoError, InvalidRequestError, NotSupportedError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with Runtime(model=tiny_models.llama(tmp_path_factory.mktemp("models") / "tiny")) as runtime:
        yield runtime


# The model's weights are random, so that with temperature 1 two answers of 12 tokens are never the same.
@pytest.mark.parametrize(
    "bound",
    [
        {"top_p": 0},
        {"top_p": 1e-30},
        {"top_p": 1e-60},
        {"min_p": 1},
        {"min_p": 1.0, "top_p": 1},
        {"min_p": 0.99999999999},
        {"top_k": 1},
        {"top_p": 0, "top_k": 50, "min_p": 0},
        {"temperature": 1e-9},
        {"temperature": 0},
    ],
    ids=str,
)
def test_strictest_bounds(tiny: Runtime, bound: dict[str, Any]) -> None:
    """They keep only the most likely token, as in transformers and vLLM."""
    body = {"prompt": "hello", "max_tokens": 12, "ignore_eos": True}
    greedy = tiny.request(body).result().text
    for _ in range(3):
        assert tiny.request({**body, "temperature": 1, **bound}).result().text == greedy


@pytest.mark.parametrize("bound", [{"top_k": 0}, {"top_k": -1}, {"top_p": 1}, {"min_p": 0}, {}], ids=str)
def test_no_bound(tiny: Runtime, bound: dict[str, Any]) -> None:
    """These keep all tokens."""
    body = {"prompt": "hello", "max_tokens": 12, "ignore_eos": True, "temperature": 1, **bound}
    assert len({tiny.request(body).result().text for _ in range(4)}) > 1


def test_dry(tiny: Runtime) -> None:
    """DRY sampling ends a repetition that greedy decoding would go on with."""

    def repeated(body: dict[str, Any]) -> int:
        """Counts the sequences of four tokens that occurred before in the same answer."""
        found = tiny.request({**body, "max_tokens": 160, "ignore_eos": True, "logprobs": 0}).result()
        entries = found.json()["choices"][0]["logprobs"]["tokens"]
        fours = [tuple(entries[i : i + 4]) for i in range(len(entries) - 3)]
        return len(fours) - len(set(fours))

    body = {"prompt": "hello hello hello hello hello hello", "logit_bias": {"17": 100, "23": 99.9}}
    assert repeated(body) > 100
    assert repeated({**body, "dry_multiplier": 0}) > 100
    assert repeated({**body, "dry_multiplier": 50, "dry_base": 2, "dry_sequence_breakers": []}) < 20


@pytest.mark.parametrize(
    ("body", "kind", "match"),
    [
        ({"stop": ""}, InvalidRequestError, r'"stop\[0\]"'),
        ({"stop": ["a", ""]}, InvalidRequestError, r'"stop\[1\]"'),
        ({"stop": [1]}, InvalidRequestError, r'"stop\[0\]"'),
        ({"stop": [["a"]]}, InvalidRequestError, r'"stop\[0\]"'),
        ({"logit_bias": {"-1": 1}}, InvalidRequestError, "logit_bias"),
        ({"logit_bias": {"2048": 1}}, InvalidRequestError, "from 0 to 2047"),
        ({"logit_bias": {"5": 100.5}}, InvalidRequestError, "from -100 to 100"),
        ({"logit_bias": {"5": None}}, InvalidRequestError, "logit_bias.5"),
        ({"logit_bias": {"5": "3"}}, InvalidRequestError, "logit_bias.5"),
        ({"repetition_penalty": 0}, InvalidRequestError, "greater than 0"),
        ({"stop_token_ids": [2048]}, InvalidRequestError, r"stop_token_ids\[0\]"),
        ({"stop_token_ids": ["a"]}, InvalidRequestError, r"stop_token_ids\[0\]"),
        (
            {"stop_token_ids": [2], "include_stop_str_in_output": True},
            NotSupportedError,
            "include stop tokens",
        ),
        ({"min_tokens": 1, "max_tokens": 2}, NotSupportedError, '"min_tokens"'),
        ({"cache_salt": "s"}, NotSupportedError, '"cache_salt"'),
        ({"nvext": {"cache_salt": "s"}}, NotSupportedError, '"nvext.cache_salt"'),
        ({"seed": 1, "temperature": 1}, NotSupportedError, "options.seed"),
        ({"dry_multiplier": -1}, InvalidRequestError, '"dry_multiplier" of the request must be a number'),
        ({"dry_multiplier": True}, InvalidRequestError, "not true"),
        ({"dry_base": 0.5}, InvalidRequestError, "at least 1, not 0.5"),
        ({"dry_base": [1.75]}, InvalidRequestError, '"dry_base"'),
        ({"dry_allowed_length": 0}, InvalidRequestError, '"dry_allowed_length"'),
        ({"dry_allowed_length": 1.5}, InvalidRequestError, "an integer of at least 1"),
        ({"dry_sequence_breakers": "x"}, InvalidRequestError, "a list of at most 64 strings"),
        ({"dry_sequence_breakers": [""]}, InvalidRequestError, "1 to 256 characters"),
        ({"dry_sequence_breakers": ["x"] * 65}, InvalidRequestError, '"dry_sequence_breakers"'),
        ({"dry_sequence_breakers": [1]}, InvalidRequestError, '"dry_sequence_breakers"'),
    ],
    ids=str,
)
def test_rejected_values(tiny: Runtime, body: dict[str, Any], kind: type[DynamoError], match: str) -> None:
    """Token-level engines reject the same values, with the same messages."""
    with pytest.raises(kind, match=match):
        tiny.request({"prompt": "hello", **body}).result()


@pytest.mark.parametrize("token", [1, 2, 4, 73, 410])
@pytest.mark.parametrize("body", [{"prompt": "hello"}, {"messages": [{"role": "user", "content": "hello"}]}])
def test_stop_token_ids(tiny: Runtime, token: int, body: dict[str, Any]) -> None:
    """The token ends the answer and is not shown, special or not; otherwise it does not end it."""
    more = {"max_tokens": 3, "ignore_eos": True, "logit_bias": {str(token): 100}}
    result = tiny.request({**body, **more, "stop_token_ids": [token]}).result()
    assert (result.text, result.finish_reason) == ("", "stop")
    assert result.usage is not None and result.usage.completion_tokens == 1
    result = tiny.request({**body, **more, "stop_token_ids": [3]}).result()
    assert result.finish_reason == "length"


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


no_arguments = {"type": "object", "properties": {}, "additionalProperties": False}
tools = [
    {"type": "function", "function": {"name": name, "parameters": no_arguments}}
    for name in ("clock", "weather", "news")
]


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [function(name) for name in names]},
    }


@pytest.mark.parametrize("names", [("clock",), ("weather", "news"), ("news", "clock", "weather")])
def test_allowed_tools(tiny: Runtime, names: tuple[str, ...]) -> None:
    """One of the allowed tools is called."""
    result = tiny.chat("hello", tools=tools, tool_choice=allowed("required", *names), max_tokens=60).result()
    assert result.finish_reason == "tool_calls"
    assert [call.name in names for call in result.tool_calls] == [True]


@pytest.mark.parametrize(
    ("choice", "kind", "match"),
    [
        (allowed("auto", "clock"), NotSupportedError, 'leave the others out of "tools"'),
        (allowed("required", "other"), InvalidRequestError, 'names "other"'),
        (allowed("always", "clock"), InvalidRequestError, "allowed_tools"),
        (allowed("auto"), InvalidRequestError, "allowed_tools"),
        ({"type": "allowed_tools"}, InvalidRequestError, "allowed_tools"),
        ({"type": "custom", "custom": {"name": "x"}}, NotSupportedError, 'the type "custom"'),
    ],
    ids=str,
)
def test_unsupported_tool_choices(tiny: Runtime, choice: Any, kind: type[DynamoError], match: str) -> None:
    with pytest.raises(kind, match=match):
        tiny.chat("hello", tools=tools, tool_choice=choice, max_tokens=4).result()
    assert tiny.chat(
        "a", tools=tools, tool_choice=allowed("auto", "news", "clock", "weather"), max_tokens=2
    ).result()


@pytest.mark.parametrize(
    ("form", "text"),
    [({"choice": ["yes"]}, "yes"), ({"regex": "ab{2}c"}, "abbc"), ({"grammar": 'start: "x" "y"'}, "xy")],
)
def test_structured_outputs(tiny: Runtime, form: dict[str, Any], text: str) -> None:
    """vLLM's newer key works like the older ones."""
    assert tiny.chat("hello", structured_outputs=form, max_tokens=20).result().text == text

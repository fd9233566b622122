# SPDX-License-Identifier: Apache-2.0
"""The reader of request bodies, which is the same for all engines, and keys that engines declare."""

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import engine, engines_dir
from dynamo_llm import Runtime
from dynamo_llm.errors import DynamoError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engine import ModelInfo
from dynamo_llm.runtime.pipeline import structured_output
from dynamo_llm.runtime.pipeline.request_body import BodyReader

sys.path.append(str(engines_dir))
import tokens  # the engines run in this process

able: ModelInfo = {"capabilities": ["json_schema", "regex", "grammar", "choice", "logprobs", "seed"]}
chat: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def reader(*keys: str, **info: Any) -> BodyReader:
    return BodyReader("toy", {**able, **info}, 100, keys)


class Records(logging.Handler):
    """Collects log messages."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def records() -> Iterator[list[str]]:
    handler = Records()
    logger = logging.getLogger("dynamo_llm.requests")
    logger.addHandler(handler)
    yield handler.texts
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def able_runtime() -> Iterator[Runtime]:
    """An engine that takes the optional keys."""
    info = {"request_keys": ["allowed_token_ids", "bad_words"]}
    with Runtime(engine("tokens:Async", options={"say": [410], "info": info})) as runtime:
        yield runtime


# ------------------------------------------------------------------------------ optional keys

#: A value that asks for something, and one that does not, if there is one.
optional: list[tuple[str, Any, Any]] = [
    ("allowed_token_ids", [1], None),
    ("audio", {"voice": "alloy", "format": "wav"}, {}),
    ("bad_words", ["a"], []),
    ("best_of", 3, 1),
    ("cache_salt", "s", None),
    ("echo", True, False),
    ("extra", {"a": 1}, {}),
    ("function_call", {"name": "f"}, "none"),
    ("functions", [{"name": "f"}], []),
    ("length_penalty", 1.5, 1.0),
    ("min_tokens", 2, 0),
    ("modalities", ["text", "audio"], ["text"]),
    ("moderation", {"model": "m"}, {}),
    ("return_token_ids", True, False),
    ("skip_special_tokens", False, True),
    ("stop_token_ids", [3], []),
    ("suffix", "x", ""),
    ("truncate_prompt_tokens", 5, None),
    ("web_search_options", {}, None),
]


@pytest.mark.parametrize(("key", "asks", "idle"), optional)
def test_optional_keys(key: str, asks: Any, idle: Any) -> None:
    """A key that the engine does not support is rejected, unless its value requests nothing; null counts as
    absent.
    """
    with pytest.raises(NotSupportedError, match=f'the engine "toy" does not support "{key}"'):
        reader().read({**chat, key: asks})
    reader().read({**chat, key: idle})
    reader().read({**chat, key: None})
    reader(key).read({**chat, key: asks})
    reader(request_keys=[key]).read({**chat, key: asks})


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_tool_choice(choice: Any) -> None:
    """Required calls are rejected; a choice of the model is accepted."""
    with pytest.raises(NotSupportedError, match='the engine "toy" does not support a "tool_choice"'):
        reader().read({**chat, "tools": [tool], "tool_choice": choice})
    with pytest.raises(NotSupportedError, match='"parallel_tool_calls": false'):
        reader().read({**chat, "tools": [tool], "parallel_tool_calls": False})
    for idle in ({"tool_choice": "auto"}, {"tool_choice": "none"}, {"parallel_tool_calls": False}):
        reader().read({**chat, **idle})
    reader("tool_choice").read({**chat, "tools": [tool], "tool_choice": choice})


def test_keys_that_reach_the_engine() -> None:
    """Declared keys are passed on unchanged; the pipeline's own are not."""
    body = {
        **chat,
        "bad_words": ["a"],
        "top_a": 0.5,
        "min_tokens": 1,
        "extra": {"x": [None]},
        "cache_salt": "s",
    }
    settings = reader("min_tokens", "cache_salt", request_keys=["bad_words", "top_a", "extra"]).read(body)
    assert settings.keys == {"bad_words": ["a"], "top_a": 0.5}
    assert (settings.extra, settings.cache_salt, settings.min_tokens) == ({"x": [None]}, "s", 1)
    assert reader().read(chat).keys is None and reader().read(chat).extra is None


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ({"allowed_token_ids": [10**6]}, r'"allowed_token_ids\[0\]" .* from 0 to \d+, not 1000000'),
        ({"allowed_token_ids": []}, '"allowed_token_ids" .* not be empty'),
        ({"bad_words": [""]}, r'"bad_words\[0\]" .* not empty'),
        ({"bad_words": [3]}, r'"bad_words\[0\]"'),
        ({"truncate_prompt_tokens": 0}, '"truncate_prompt_tokens" .* at least 1'),
        ({"cache_salt": ""}, '"cache_salt" .* not empty'),
        ({"nvext": {"cache_salt": ""}}, '"nvext.cache_salt" .* not empty'),
        ({"stop": ""}, r'"stop\[0\]"'),
        ({"stop": ["a", ["b"]]}, r'"stop\[1\]"'),
        ({"stop_token_ids": [10**6]}, r'"stop_token_ids\[0\]"'),
        ({"stop_token_ids": [True]}, r'"stop_token_ids\[0\]"'),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"1000000": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"0" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"5": "3"}}, "logit_bias.5"),
        ({"logit_bias": {"5": -100.5}}, "from -100 to 100"),
        ({"logit_bias": {"5": True}}, "logit_bias.5"),
        ({"repetition_penalty": 0}, "greater than 0"),
    ],
)
def test_wrong_values(able_runtime: Runtime, body: dict[str, Any], match: str) -> None:
    """They are refused by the library, or by the reader if the rule depends on the engine."""
    with pytest.raises(InvalidRequestError, match=match):
        able_runtime.request({**chat, **body}).result()


@pytest.mark.parametrize(
    "bound",
    [{"top_p": 0}, {"top_p": 1e-60}, {"min_p": 1}, {"min_p": 1.0, "top_p": 0.5, "top_k": 40}],
    ids=str,
)
def test_strictest_bounds(bound: dict[str, Any]) -> None:
    """They keep only the most likely token, in values that every engine supports."""
    sampling = reader().read({**chat, "temperature": 1, **bound}).sampling
    assert (sampling.top_k, sampling.top_p, sampling.min_p) == (1, None, None)


@pytest.mark.parametrize(
    "bound", [{"top_p": 0.001}, {"min_p": 0.999}, {"top_p": 1, "min_p": 0, "top_k": -1}], ids=str
)
def test_other_bounds(bound: dict[str, Any]) -> None:
    """They are unchanged."""
    sampling = reader().read({**chat, "temperature": 1, **bound}).sampling
    assert {key: getattr(sampling, key) for key in bound} == bound


# ------------------------------------------------------------------------------- ignored keys


@pytest.mark.parametrize(
    ("key", "value", "idle"),
    [
        ("user", "u", ""),
        ("metadata", {"a": "b"}, {}),
        ("store", True, False),
        ("service_tier", "flex", "auto"),
        ("service_tier", "priority", "default"),
        ("safety_identifier", "x", ""),
        ("prompt_cache_key", "k", ""),
        ("prompt_cache_retention", "24h", None),
        ("prompt_cache_options", {"mode": "x"}, {}),
        ("prediction", {"type": "content", "content": "a"}, None),
    ],
)
def test_ignored_keys(records: list[str], key: str, value: Any, idle: Any) -> None:
    """One warning for each reader and key, and none for a value that requests nothing."""
    one = reader()
    one.read({**chat, key: idle})
    assert records == []
    for _ in range(3):
        one.read({**chat, key: value})
    assert len(records) == 1 and f'the engine "toy" ignores "{key}"' in records[0]
    reader().read({**chat, key: value})
    assert len(records) == 2


def test_a_runtime_warns_once(records: list[str]) -> None:
    """One warning for each runtime."""
    for count in (1, 2):
        with Runtime(engine("tokens:Async", options={"say": [410]})) as runtime:
            for _ in range(3):
                runtime.complete("x", user="u").result()
        assert len(records) == count


# ------------------------------------------------------------------------- structured output

schema = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("old", "new", "form"),
    [
        ({"guided_json": schema}, {"json": schema}, {"json": schema}),
        ({"guided_json": '{"type": "array"}'}, {"json": '{"type": "array"}'}, {"json": {"type": "array"}}),
        ({"guided_json": True}, {"json": True, "regex": None}, {"json": True}),
        ({"guided_regex": "a+"}, {"regex": "a+", "json_object": False}, {"regex": "a+"}),
        ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"guided_grammar": "root ::= x"}, {"grammar": "root ::= x"}, {"grammar": "root ::= x"}),
        (
            {"response_format": {"type": "json_object"}},
            {"json_object": True},
            {"json": {"type": "object"}},
        ),
        ({"response_format": {"type": "text"}}, {}, None),
        ({"response_format": {"type": "json_object", "schema": schema}}, {"json": schema}, {"json": schema}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}},
            {"json": schema, "whitespace_pattern": None, "disable_fallback": False},
            {"json": schema},
        ),
    ],
)
def test_structured_outputs(old: dict[str, Any], new: dict[str, Any], form: Any) -> None:
    """vLLM's newer key works like the older ones."""
    assert reader().read({**chat, **old}).guided == form
    assert reader().read({**chat, "structured_outputs": new}).guided == form


@pytest.mark.parametrize(
    ("body", "kind", "match"),
    [
        ({"structured_outputs": {"json": {}, "regex": "a"}}, InvalidRequestError, "give only one of them"),
        (
            {"structured_outputs": {"regex": "a"}, "guided_json": {}},
            InvalidRequestError,
            "give only one of them",
        ),
        ({"structured_outputs": {"jsn": {}}}, InvalidRequestError, r'"structured_outputs.jsn"'),
        (
            {"structured_outputs": {"json": "{"}},
            InvalidRequestError,
            '"structured_outputs.json" .* not valid',
        ),
        ({"structured_outputs": {"json_object": 3}}, InvalidRequestError, "true or false"),
        ({"structured_outputs": {"choice": []}}, InvalidRequestError, '"structured_outputs.choice"'),
        ({"structured_outputs": {"regex": 3}}, InvalidRequestError, '"structured_outputs.regex"'),
        ({"structured_outputs": {"structural_tag": "x"}}, NotSupportedError, "structural_tag"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, NotSupportedError, "whitespace_pattern"),
        ({"guided_choice": ["a", ""]}, InvalidRequestError, '"guided_choice"'),
        ({"guided_regex": ""}, InvalidRequestError, '"guided_regex"'),
        ({"response_format": {"type": "grammar", "grammar": "x"}}, NotSupportedError, 'not "grammar"'),
        ({"response_format": {"type": "structural_tag"}}, NotSupportedError, "structural_tag"),
        ({"response_format": {"type": "xml"}}, InvalidRequestError, 'not "xml"'),
        ({"response_format": {}}, InvalidRequestError, "not null"),
    ],
)
def test_invalid_structured_outputs(body: dict[str, Any], kind: type[DynamoError], match: str) -> None:
    with pytest.raises(kind, match=match):
        reader().read({**chat, **body})


strict = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@pytest.mark.parametrize(
    ("body", "sent", "sent_to_dynamo"),
    [
        ({"guided_json": schema}, {"response_format": strict}, {"guided_json": schema}),
        (
            {"structured_outputs": {"json_object": True}},
            {"response_format": {"type": "json_object"}},
            {"guided_json": {"type": "object"}},
        ),
        (
            {"structured_outputs": {"choice": ["a"]}},
            {"structured_outputs": {"choice": ["a"]}, "guided_choice": ["a"]},
            {"guided_choice": ["a"]},
        ),
        (
            {"guided_grammar": "g"},
            {"structured_outputs": {"grammar": "g"}, "guided_grammar": "g"},
            {"guided_grammar": "g"},
        ),
        ({"response_format": strict}, {"response_format": strict}, {"response_format": strict}),
        ({"response_format": {"type": "text"}},) * 3,
        ({"structured_outputs": {"json": {}, "whitespace_pattern": " "}},) * 3,
        ({},) * 3,
    ],
)
def test_structured_outputs_for_servers(body: dict[str, Any], sent: Any, sent_to_dynamo: Any) -> None:
    """Each server gets the keys that it supports."""
    assert structured_output.for_server({**chat, **body}, True) == {**chat, **sent}
    assert structured_output.for_server({**chat, **body}, False) == {**chat, **sent_to_dynamo}


# --------------------------------------------------------------------------- engines and keys


def test_a_token_level_engine_declares_its_keys() -> None:
    """They reach it, and a model lists which it accepts; other engines reject them, by key."""
    info = {"request_keys": ["top_a", "extra", "bad_words"]}
    with (
        Runtime(engine("tokens:Async", options={"say": [410], "info": info})) as with_keys,
        Runtime(engine("tokens:Async", options={"say": [410]})) as without,
    ):
        assert {"top_a", "extra", "min_tokens"} <= set(with_keys.models()[0]["request_keys"])
        body = {"prompt": "x", "top_a": [0.5], "extra": {"deep": {"er": None}}, "bad_words": ["no"]}
        with_keys.request(body).result()
        request = tokens.Base.requests[-1]
        assert request.keys == {"top_a": [0.5], "bad_words": ["no"]}
        assert request.extra == {"deep": {"er": None}}
        for key, kind in (
            ("top_a", InvalidRequestError),
            ("extra", NotSupportedError),
            ("bad_words", NotSupportedError),
        ):
            with pytest.raises(kind, match=f'"{key}"'):
                without.request({"prompt": "x", key: body[key]}).result()
        with pytest.raises(InvalidRequestError, match='did you mean "temperature"'):
            with_keys.request({"prompt": "x", "temprature": 1})


def test_truncated_prompts() -> None:
    """The last tokens of the prompt are kept."""
    with Runtime(engine("tokens:Async", options={"say": [410], "info": {"context_length": 12}})) as runtime:
        ids = list(range(20, 30))
        for count, kept in ((3, ids[-3:]), (99, ids), (-1, ids)):
            runtime.complete(ids, truncate_prompt_tokens=count, max_tokens=2).result()
            assert tokens.Base.requests[-1].token_ids == kept
        runtime.complete(ids * 3, truncate_prompt_tokens=-1, max_tokens=4).result()
        assert tokens.Base.requests[-1].token_ids == (ids * 3)[-8:]

# SPDX-License-Identifier: Apache-2.0
"""The engine mistralrs: chats and completions of tiny models."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from dynamo_llm import (
    ContextLengthError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    Runtime,
)
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig
from dynamo_llm.runtime.engines.mistralrs import MistralRsEngine

question = [{"role": "user", "content": "hello world"}]
weather = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "$defs": {"unit": {"enum": ["C", "F"]}},
            "type": "object",
            "properties": {
                "day": {"type": "integer", "minimum": 1, "maximum": 7},
                "unit": {"$ref": "#/$defs/unit"},
            },
            "required": ["day", "unit"],
            "additionalProperties": False,
        },
    },
}
clock = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Runtime]:
    with Runtime(model=folder, trust_request_chat_template=True) as runtime:
        yield runtime


def prompt_tokens(runtime: Runtime, **body: Any) -> int:
    usage = runtime.request({"max_tokens": 1, **body}).result().usage
    assert usage is not None
    return int(usage.prompt_tokens)


# ------------------------------------------------------------------------------------ prompts


def test_completions_have_no_template(tiny: Runtime) -> None:
    """A completion uses its prompt unchanged; a chat uses the template."""
    as_chat = "<user>hello world<answer>"
    assert prompt_tokens(tiny, prompt="hello world") < prompt_tokens(tiny, messages=question)
    assert prompt_tokens(tiny, prompt=as_chat) == prompt_tokens(tiny, messages=question)
    same = [{"prompt": as_chat, "max_tokens": 8}, {"messages": question, "max_tokens": 8}]
    first, second = (tiny.request(body).result().text for body in same)
    assert first == second


def test_completions_of_the_demo_model() -> None:
    """It continues a sentence, where a chat answers a question."""
    with Runtime() as runtime:
        text = runtime.complete("A KV cache keeps the attention keys", max_tokens=6).result().text
        assert text.startswith(" and values of the tokens")


def test_forms_of_prompts(tiny: Runtime) -> None:
    """A list with one text, and the text's token IDs, are equivalent to the text."""
    text = tiny.complete("hello world", max_tokens=4).result().text
    assert tiny.request({"prompt": ["hello world"], "max_tokens": 4}).result().text == text
    ids = [410, 326, 83, 1982]
    assert tiny.request({"prompt": ids, "max_tokens": 4}).result().text == text
    assert tiny.request({"prompt": [ids], "max_tokens": 4}).result().text == text


@pytest.mark.parametrize("stream", [True, False])
def test_several_prompts(folder: Path, stream: bool) -> None:
    """Each prompt has the answer that it has alone, also if there are more of them than slots."""
    texts = ["hello world", "a", "A KV cache keeps", "you", "the"]
    with Runtime(model=folder, options={"max_seqs": 4}) as runtime:
        alone = [runtime.complete(text, max_tokens=4).result() for text in texts]
        body = {"prompt": [*texts[:4], [*alone_ids(folder, texts[4])]], "max_tokens": 4, "n": 2}
        answer = runtime.request({**body, "stream": stream}).result()
    assert [choice.index for choice in answer.choices] == list(range(10))
    assert [choice.text for choice in answer.choices] == [one.text for one in alone for _ in range(2)]
    counts = [one.usage.json() for one in alone if one.usage is not None]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(one["prompt_tokens"] for one in counts)
    assert answer.usage.completion_tokens == 2 * sum(one["completion_tokens"] for one in counts)


def alone_ids(folder: Path, text: str) -> list[int]:
    """Returns the token ids of a text."""
    with dynamo_llm.Tokenizer(model=folder) as tokenizer:
        return list(tokenizer.encode(text))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({"prompt": ["a", ""]}, InvalidRequestError, r'"prompt\[1\]" of the request has no tokens'),
        ({"prompt": ["a", "b"], "max_tokens": 100000}, dynamo_llm.ContextLengthError, r'"prompt\[0\]" has'),
        ({"prompt": [73, 70]}, NotSupportedError, "no text is encoded as these token ids"),
        ({"prompt": [99999]}, dynamo_llm.DynamoError, "99999|token"),
        ({"prompt": [1, "a"]}, InvalidRequestError, r'"prompt\[1\]"'),
        ({"prompt": ""}, InvalidRequestError, "no tokens"),
        ({"prompt": []}, InvalidRequestError, "no tokens"),
        ({"prompt": "a", "suffix": "b"}, NotSupportedError, '"suffix".*format the prompt'),
        ({"prompt": "a", "echo": True}, NotSupportedError, '"echo"'),
        ({"prompt": "a", "best_of": 2}, NotSupportedError, '"best_of"'),
        ({"prompt": "a", "min_tokens": 2}, NotSupportedError, '"min_tokens"'),
        ({"prompt": "a", "seed": 1, "temperature": 1}, NotSupportedError, "options.seed"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, InvalidRequestError, "logit_bias"),
        ({"prompt": "a", "max_tokens": 0}, InvalidRequestError, "max_tokens"),
        ({"prompt": "a", "adapter": "x"}, InvalidRequestError, "it has: none"),
        ({"messages": question, "top_logprobs": 2}, InvalidRequestError, '"logprobs": true'),
        ({"input": "a"}, NotSupportedError, "does not make embeddings.*modules.json"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            NotSupportedError,
            "image_url",
        ),
        (
            {"messages": question, "tools": [weather], "chat_template": "x"},
            NotSupportedError,
            'does not use "tools"',
        ),
        ({"messages": question, "chat_template": "{{ raise_exception('no') }}"}, InvalidRequestError, "no"),
    ],
    ids=str,
)
def test_unsupported_requests(
    tiny: Runtime, body: dict[str, Any], error: type[dynamo_llm.DynamoError], message: str
) -> None:
    """Each error says what is wrong; the runtime stays usable."""
    with pytest.raises(error, match=f"(?s){message}"):
        tiny.request(body).result()
    assert tiny.complete("a", max_tokens=1).result().usage is not None


def test_usual_values(tiny: Runtime) -> None:
    """Keys that request the default behavior are accepted."""
    nvext = {"extra_fields": ["timing"]}
    body: dict[str, Any] = {"nvext": nvext, "priority": 1, "temperature": 0, "min_tokens": 0}
    body |= {
        "prompt": "a",
        "echo": False,
        "best_of": 1,
        "suffix": "",
        "top_k": -1,
        "seed": 1,
        "max_tokens": 1,
    }
    assert tiny.request({**body, "skip_special_tokens": True}).result().usage is not None


def test_begin(tmp_path: Path) -> None:
    """A tokenizer's BOS is added to texts, as the tokenizers library does, but not to chats and token IDs."""
    model = tiny_models.add_begin(tiny_models.llama(tmp_path / "begin"))
    with Runtime(model=model, trust_request_chat_template=True) as runtime:
        assert prompt_tokens(runtime, prompt="hello world") == 5
        assert prompt_tokens(runtime, prompt="<|begin|>hello world") == 6
        assert prompt_tokens(runtime, prompt=[1, 410, 326, 83, 1982]) == 5
        assert prompt_tokens(runtime, prompt=[410, 326, 83, 1982]) == 4
        assert prompt_tokens(runtime, messages=question, chat_template="{{ messages[0].content }}") == 4


def test_context_length(tmp_path: Path) -> None:
    """A prompt that does not fit is an error with both numbers; an answer ends at the context length."""
    with Runtime(model=tiny_models.llama(tmp_path / "short", context=32)) as runtime:
        with pytest.raises(ContextLengthError, match=r"has 33 tokens, but the model's context length is 32"):
            runtime.complete([73, 74] * 16 + [73]).result()
        with pytest.raises(ContextLengthError, match="length is 32"):
            runtime.chat("hello " * 40).result()
        with pytest.raises(ContextLengthError, match=r'the answer may have 100 \("max_tokens"\)'):
            runtime.complete("a b c d", max_tokens=100).result()
        result = runtime.complete("a b c d", ignore_eos=True).result()
        assert result.finish_reason == "length"


# --------------------------------------------------------------------------------- templates


def test_template_values(tiny: Runtime) -> None:
    """A template gets all documented values."""
    bare = prompt_tokens(tiny, messages=question)
    assert prompt_tokens(tiny, messages=question, chat_template_kwargs={"enable_thinking": True}) > bare
    assert prompt_tokens(tiny, messages=question, chat_template_kwargs={"enable_thinking": False}) == bare
    assert prompt_tokens(tiny, messages=question, reasoning_effort="high") == bare + 1
    assert prompt_tokens(tiny, messages=question, add_generation_prompt=False) < bare
    assert prompt_tokens(tiny, messages=question, tools=[weather]) > bare + 20
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": " world"}]}
    ]
    lines = [{"role": "user", "content": "hello\n world"}]
    assert prompt_tokens(tiny, messages=parts) == prompt_tokens(tiny, messages=lines) != bare
    assert prompt_tokens(tiny, messages=question, chat_template="{{ messages[0].content }}") == 4


def test_messages_of_tools(tiny: Runtime) -> None:
    """Calls and their results reach the template."""
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"a": 1}'}}
    messages = [
        *question,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "c1"},
    ]
    text = '<user>hello world<assistant>[clock {"a": 1}]<tool>5(c1)<answer>'
    got = tiny.request({"messages": messages, "max_tokens": 6}).result()
    assert got.usage is not None and got.usage.prompt_tokens == prompt_tokens(
        tiny, messages=messages, chat_template=text
    )


def test_no_template(tmp_path: Path) -> None:
    """A model without a template completes; a chat needs its own template, or one in the configuration."""
    model = tiny_models.llama(tmp_path / "bare", template=None)
    with Runtime(model=model, trust_request_chat_template=True) as runtime:
        assert prompt_tokens(runtime, prompt="hello world") == 4
        with pytest.raises(NotSupportedError, match="no chat template"):
            runtime.chat("hello world").result()
        assert prompt_tokens(runtime, messages=question, chat_template="{{ messages[0].content }}") == 4
    file = tmp_path / "own.txt"
    file.write_text("{{ messages[0].content }}")
    with Runtime(model=model, options={"chat_template": str(file)}) as runtime:
        assert prompt_tokens(runtime, messages=question) == 4
    with pytest.raises(InvalidConfigError, match=r"chat_template.*nowhere"):
        Runtime(model=model, options={"chat_template": str(tmp_path / "nowhere")})


# ------------------------------------------------------------------------------------ answers


def test_chat_logprobs(tiny: Runtime) -> None:
    """OpenAI's format, with as many alternatives as requested, the most likely first."""
    for count in (0, 3):
        request = tiny.chat("hello world", max_tokens=4, logprobs=True, top_logprobs=count)
        choice = request.result().json()["choices"][0]
        entries = choice["logprobs"]["content"]
        assert 1 <= len(entries) <= 4
        for entry in entries:
            assert entry["logprob"] <= 0 and isinstance(entry["token"], str)
            assert len(entry["top_logprobs"]) == count
            values = [other["logprob"] for other in entry["top_logprobs"]]
            assert values == sorted(values, reverse=True)
            if count:
                assert values[0] == entry["logprob"]  # greedy
    assert tiny.chat("a", max_tokens=1).result().json()["choices"][0]["logprobs"] is None


def test_completion_logprobs(tiny: Runtime) -> None:
    """OpenAI's other format: parallel lists."""
    choices = ["one two three"]
    body = {"prompt": "hello", "logprobs": 2, "guided_choice": choices, "max_tokens": 20}
    choice = tiny.request(body).result().json()["choices"][0]
    lists = choice["logprobs"]
    assert choice["text"] == "one two three"
    tokens = [token for token in lists["tokens"] if token in choice["text"]]
    assert "".join(tokens).startswith("one two three")
    size = len(lists["tokens"])
    assert {len(lists[key]) for key in ("token_logprobs", "top_logprobs", "text_offset")} == {size}
    for token, offset in zip(lists["tokens"], lists["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token) or offset == len(choice["text"])
    assert all(0 < len(top) <= 2 for top in lists["top_logprobs"])


def test_cached_tokens(tiny: Runtime, folder: Path) -> None:
    """The beginning of an earlier prompt is found in the prefix cache, if the engine has one."""
    first = "one two three four five six seven eight"
    with Runtime(model=folder, options={"prefix_cache_n": 4}) as caching:
        for runtime, is_cached in ((tiny, False), (caching, True)):
            runtime.complete(first, max_tokens=2).result()
            usage = runtime.complete(f"{first} nine ten", max_tokens=2).result().usage
            assert usage is not None and (0 < usage.cached_tokens < usage.prompt_tokens) is is_cached


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A model whose template marks reasoning."""
    template = "{% if tools %}{% endif %}{{ messages[0].content.split('</think>')[-1] }}{# <think> #}"
    with Runtime(model=tiny_models.llama(tmp_path_factory.mktemp("models") / "thinker", template)) as runtime:
        yield runtime


def test_reasoning(tmp_path: Path) -> None:
    """The model's reasoning is separate from its answer."""
    template = "{% if tools %}{% endif %}{{ messages[0].content.split('</think>')[-1] }}<think>"
    with Runtime(model=tiny_models.llama(tmp_path / "thinker", template)) as runtime:
        for stream in (True, False):
            # With tools, mistral.rs parses structured output.
            request = runtime.chat(
                "hello", guided_regex="why</think>because", max_tokens=30, tools=[clock], stream=stream
            )
            result = request.result()
            assert (result.reasoning_content, result.text) == ("why", "because")
        # Structured output excludes reasoning.
        choice = {"type": "function", "function": {"name": "weather"}}
        result = runtime.chat("hello", tools=[weather], tool_choice=choice, max_tokens=80).result()
        assert json.loads(result.tool_calls[0].arguments)["unit"] in ("C", "F")
        check_object(runtime.chat("hello", guided_json=schema, max_tokens=60).result().text)


@pytest.mark.parametrize(
    "answer",
    ["a <", "a <<", "a <t", "a </", "<", "<think>b <", "<think>b</", "a <think>b</think>c <"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_ends_like_a_mark(thinker: Runtime, answer: str, stream: bool) -> None:
    """The beginning of a reasoning mark at the end of an answer, or of reasoning, is text."""
    # With tools, mistral.rs parses structured output.
    body = {"guided_choice": [answer], "max_tokens": 40, "tools": [clock], "stream": stream}
    result = thinker.chat("hello", **body).result()
    before, _, rest = answer.partition("<think>")
    thought, _, after = rest.partition("</think>")
    assert (result.text, result.reasoning_content) == (before + after, thought)
    assert result.finish_reason == "stop"


def test_beginnings(tmp_path: Path, tiny: Runtime) -> None:
    """White space at the beginning is kept in completions and structured output, and reasoning in
    completions.
    """
    template = "{{ messages[0].content.split('</think>')[-1] }}{# <think> #}"
    with Runtime(model=tiny_models.llama(tmp_path / "thinker", template)) as thinker:
        for runtime in (tiny, thinker):
            for text in (" yes", "\n\n yes", "\u2003é", " 😀 b", "<think>why</think> b"):
                assert runtime.complete("a", guided_choice=[text], max_tokens=40).result().text == text
            for text in (" yes", "\n\n yes", "\u2003é", " 😀 b"):
                assert runtime.chat("a", guided_choice=[text], max_tokens=40).result().text == text


def test_stop_strings(tiny: Runtime) -> None:
    """A stop string in the middle of tokens ends the answer."""
    body = {"prompt": "a", "guided_choice": ["one two three"], "stop": ["wo th"]}
    result = tiny.request(body).result()
    assert (result.text, result.finish_reason) == ("one t", "stop")
    result = tiny.request({**body, "include_stop_str_in_output": True}).result()
    assert (result.text, result.finish_reason) == ("one two th", "stop")


def test_choices(tiny: Runtime) -> None:
    """More choices than are decoded at once are all complete."""
    result = tiny.complete("hello", n=40, max_tokens=3, ignore_eos=True).result()
    assert [choice.finish_reason for choice in result.choices] == ["length"] * 40
    assert result.usage is not None and result.usage.completion_tokens == 120


# ---------------------------------------------------------------------------- structured output

schema = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["x", "y"]}},
    "required": ["n", "kind"],
    "additionalProperties": False,
}


def check_object(text: str) -> None:
    value = json.loads(text)
    assert set(value) == {"n", "kind"} and 0 <= value["n"] <= 99 and value["kind"] in ("x", "y")


@pytest.mark.parametrize(
    "shape",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}},
        {"guided_json": schema},
        {"guided_json": json.dumps(schema)},
    ],
    ids=["response_format", "guided_json", "text"],
)
def test_json_schema(tiny: Runtime, shape: dict[str, Any]) -> None:
    """A random model writes what the schema describes, in chats and completions, also with a temperature."""
    for body in ({"messages": question}, {"prompt": "hello"}, {"prompt": "hello", "temperature": 1.5}):
        result = tiny.request({**body, **shape, "max_tokens": 60}).result()
        assert result.finish_reason == "stop"
        check_object(result.text)


def test_other_structured_output(tiny: Runtime) -> None:
    """Regular expressions, choices with any letters, Lark, any object, plain text."""
    text = (
        tiny.chat("hello", guided_regex="[0-9]{3}-[a-c]+!", max_tokens=60, logit_bias={"5": 5}).result().text
    )
    assert re.fullmatch("[0-9]{3}-[a-c]+!?", text)
    for choice in ('a"b', "c\\d", "é\n", "/x/", "[y]", "日本"):
        assert tiny.chat("hello", guided_choice=[choice], max_tokens=20).result().text == choice
    assert tiny.chat("hello", guided_choice=["yes", "no"], max_tokens=9).result().text in ("yes", "no")
    grammar = 'start: "b" word\nword: "c" | "d"'
    assert tiny.chat("hello", guided_grammar=grammar, max_tokens=9).result().text in ("bc", "bd")
    result = tiny.chat("hello", response_format={"type": "json_object"}, max_tokens=60).result()
    assert result.text.startswith("{")
    assert tiny.chat("hello", response_format={"type": "text"}, max_tokens=1).result().text is not None


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ({"guided_regex": "["}, InvalidRequestError, "regex"),
        ({"guided_grammar": "st art"}, InvalidRequestError, "rammar"),
        ({"guided_json": {"type": 3}}, InvalidRequestError, "type must be"),
        ({"guided_json": "{"}, InvalidRequestError, "not valid JSON"),
        ({"guided_json": 3}, InvalidRequestError, "JSON Schema"),
        ({"guided_choice": []}, InvalidRequestError, "guided_choice"),
        ({"guided_choice": [1]}, InvalidRequestError, "guided_choice"),
        ({"guided_choice": ["a"], "guided_regex": "a"}, InvalidRequestError, "give only one of them"),
        ({"response_format": {"type": "json_schema"}}, InvalidRequestError, '"schema"'),
        ({"response_format": {"type": "xml"}}, InvalidRequestError, "xml"),
        (
            {"guided_regex": "a", "tools": [clock], "tool_choice": "required"},
            InvalidRequestError,
            "a tool call",
        ),
    ],
    ids=str,
)
def test_unsupported_structured_output(
    tiny: Runtime, shape: dict[str, Any], error: type[dynamo_llm.DynamoError], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny.chat("hello", **shape).result()


# ----------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize("stream", [True, False])
def test_forced_call(tiny: Runtime, stream: bool) -> None:
    """A named tool is called, with arguments that match its schema, including references."""
    choice = {"type": "function", "function": {"name": "weather"}}
    result = tiny.chat(
        "hello", tools=[clock, weather], tool_choice=choice, max_tokens=80, stream=stream
    ).result()
    assert (result.text, result.finish_reason) == ("", "tool_calls")
    (call,) = result.tool_calls
    assert call.name == "weather" and call.id
    arguments = json.loads(call.arguments)
    assert 1 <= arguments["day"] <= 7 and arguments["unit"] in ("C", "F")
    assert call.json()["function"] == {"name": "weather", "arguments": call.arguments}


def test_required_call(tiny: Runtime) -> None:
    """One of the tools is called; its arguments arrive in pieces, in OpenAI's streaming format."""
    request = tiny.chat("hello", tools=[weather], tool_choice="required", max_tokens=80)
    deltas = [
        call for response in request for call in response.json()["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert {delta["index"] for delta in deltas} == {0}
    assert [bool(delta.get("id")) for delta in deltas].count(True) == 1 and deltas[0]["id"]
    json.loads("".join(delta["function"].get("arguments", "") for delta in deltas))


def test_incomplete_call(tiny: Runtime) -> None:
    """An answer that is too short for its call has the partial call, and the reason."""
    result = tiny.chat("hello", tools=[weather], tool_choice="required", max_tokens=20).result()
    assert result.finish_reason == "length"
    with pytest.raises(ValueError):
        json.loads(result.tool_calls[0].arguments)


def test_free_call(tiny: Runtime) -> None:
    """A call that the model chose to make is found in its text."""
    text = '{"name": "clock", "arguments": {"zone": "x"}}'
    result = tiny.chat("hello", tools=[clock], guided_choice=[text], max_tokens=60).result()
    assert (result.text, result.finish_reason) == ("", "tool_calls")
    assert [(call.name, json.loads(call.arguments)) for call in result.tool_calls] == [
        ("clock", {"zone": "x"})
    ]
    result = tiny.chat(
        "hello", tools=[clock], tool_choice="none", guided_choice=[text], max_tokens=60
    ).result()
    assert (result.text, result.finish_reason, result.tool_calls) == (text, "stop", [])


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({"tools": [{"type": "function"}]}, InvalidRequestError, '"name"'),
        (
            {"tools": [{"type": "web_search"}]},
            NotSupportedError,
            'only supports "tools" of the type "function"',
        ),
        ({"tools": [clock], "tool_choice": "always"}, InvalidRequestError, "tool_choice"),
        ({"tool_choice": "required"}, InvalidRequestError, 'no "tools"'),
        (
            {"tools": [clock], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            InvalidRequestError,
            "not one of its tools: clock",
        ),
    ],
    ids=str,
)
def test_unsupported_tools(
    tiny: Runtime, body: dict[str, Any], error: type[dynamo_llm.DynamoError], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny.chat("hello", **body).result()


# --------------------------------------------------------------------------------------- adapters


def test_adapters(tmp_path: Path) -> None:
    """The request's model selects an adapter; each answers differently."""
    adapters = {
        name: str(tiny_models.adapter(tmp_path / name, seed)) for name, seed in (("one", 5), ("two", 9))
    }
    model = tiny_models.llama(tmp_path / "base")
    with Runtime(model=model) as runtime:
        plain = runtime.chat("hello", max_tokens=8, ignore_eos=True).result().text
    with Runtime(model=model, options={"adapters": adapters}) as runtime:

        def answer(**body: Any) -> str:
            return str(runtime.chat("hello", max_tokens=8, ignore_eos=True, **body).result().text)

        assert answer() == answer(model="base") == plain
        texts = {plain, answer(model="one"), answer(model="two")}
        assert len(texts) == 3
        assert answer(adapter="two") == answer(model="two")
        with pytest.raises(
            InvalidRequestError, match='is "three", which the engine does not have; it has: one, two'
        ):
            answer(adapter="three")


def test_adapters_are_loaded_and_unloaded(tmp_path: Path) -> None:
    """Control calls change which adapters a request may name; the answers are those of the adapter."""
    one, two = (tiny_models.adapter(tmp_path / name, seed) for name, seed in (("one", 5), ("two", 9)))
    model = tiny_models.llama(tmp_path / "base")
    with Runtime(model=model, name="base", options={"adapters": {"one": str(one)}}) as runtime:

        def answer(name: str) -> str:
            return str(runtime.chat("hello", max_tokens=8, ignore_eos=True, model=name).result().text)

        assert runtime.models()[0]["calls"] == ["list_adapters", "load_adapter", "unload_adapter"]
        with pytest.raises(ModelNotFoundError):
            answer("two")
        loaded = runtime.call("load_adapter", name="two", path=str(two))
        assert loaded["name"] == "two" and loaded["rank"] == 2
        assert len({answer("base"), answer("one"), answer("two")}) == 3
        assert runtime.models()[0]["adapters"] == ["one", "two"]
        assert [each["name"] for each in runtime.call("list_adapters")] == ["one", "two"]
        with pytest.raises(InvalidRequestError, match="`two` is already loaded"):
            runtime.call("load_adapter", name="two", path=str(two))
        with pytest.raises(ModelNotFoundError, match=r'the adapter "three" has no adapter_config\.json'):
            runtime.call("load_adapter", name="three", path=str(tmp_path))
        runtime.call("unload_adapter", name="two")
        with pytest.raises(ModelNotFoundError):
            answer("two")
        with pytest.raises(InvalidRequestError, match="`two` is not registered"):
            runtime.call("unload_adapter", name="two")
    with Runtime(model=model) as runtime, pytest.raises(NotSupportedError, match="has no calls"):
        runtime.call("list_adapters")


def test_description(tmp_path: Path, folder: Path) -> None:
    """What was loaded, and its capabilities."""
    adapters = {"mine": str(tiny_models.adapter(tmp_path / "mine", 5))}
    for options, model in (({}, demo_model_dir()), ({"adapters": adapters}, folder)):
        engine = MistralRsEngine(EngineConfig("mistralrs", str(model), options))
        engine.start()
        info = engine.describe()
        engine.stop()
        assert info["path"] == str(model)
        assert info["context_length"] == (1024 if model == demo_model_dir() else 512)
        assert {"chat", "completion", "tools", "json_schema", "logprobs"} <= set(info["capabilities"])
        assert info["adapters"] == list(adapters if options else ())
        assert ("lora" in info["capabilities"]) is bool(options)


# ------------------------------------------------------------------------------------ concurrency


def test_cancelled_requests_free_their_slot(folder: Path) -> None:
    """One slot: requests that are cancelled while queued, and while they run, free it for the next."""
    with Runtime(model=folder, options={"max_seqs": 1}) as runtime:
        for _ in range(3):
            running = runtime.complete("hello world", max_tokens=400, ignore_eos=True)
            assert running.receive(60) is not None
            waiting = [runtime.complete("hello", max_tokens=400, n=2) for _ in range(3)]
            for request in waiting:
                request.cancel()
                with pytest.raises(dynamo_llm.CancelledError):
                    request.result()
            running.cancel()
            prefilled = runtime.complete("one two three " * 100, max_tokens=400, ignore_eos=True)
            prefilled.cancel()
            assert runtime.complete("hello", max_tokens=2, timeout=60).result().usage is not None


def test_several_runtimes(folder: Path, tmp_path: Path) -> None:
    """Models in one process, used from several threads, give the same answers as each alone."""
    other = tiny_models.llama(tmp_path / "other", seed=3)
    alone = {}
    for path in (folder, other):
        with Runtime(model=path) as runtime:
            alone[path] = runtime.complete("hello world", max_tokens=6, ignore_eos=True).result().text
    assert alone[folder] != alone[other]
    wrong: list[str] = []
    with Runtime(model=folder) as first, Runtime(model=other) as second:

        def ask(runtime: Runtime, path: Path) -> None:
            for _ in range(5):
                text = runtime.complete("hello world", max_tokens=6, ignore_eos=True).result().text
                if text != alone[path]:
                    wrong.append(text)

        threads = [threading.Thread(target=ask, args=pair) for pair in ((first, folder), (second, other)) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert wrong == []

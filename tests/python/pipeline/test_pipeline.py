# SPDX-License-Identifier: Apache-2.0
"""Requests through the pipeline to token-level engines, with the demo model's tokenizer."""

import json
import sys
import time
from typing import Any

import dynamo_llm
import pytest
from conftest import Ask, engine, engines_dir, patience
from dynamo_llm import Runtime
from dynamo_llm.errors import ContextLengthError, DynamoError, InvalidRequestError, NotSupportedError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

sys.path.append(str(engines_dir))
import tokens  # the engines run in this process

tokenizer = Tokenizer(ModelFolder(demo_model_dir()))
both = pytest.mark.parametrize("kind", ["Async", "Threaded"])
end = 0
begin = 1


def ids_of(text: str) -> list[int]:
    return tokenizer.core.encode(text).ids


def open_engine(kind: str, **options: Any) -> Runtime:
    return Runtime(engine(f"tokens:{kind}", options=options, trust_request_chat_template=True))


@both
@pytest.mark.parametrize("step", [1, 3, 100])
def test_chats_and_completions(kind: str, step: int) -> None:
    """Texts in, texts and IDs out; a chat's prompt comes from the template, without a second BOS."""
    with open_engine(kind, step=step, say=ids_of("Größe 😀!"), cached=2) as runtime:
        answer = runtime.chat("What is a KV cache?").result()
        assert (answer.text, answer.token_ids) == ("Größe 😀!", ids_of("Größe 😀!"))
        assert answer.finish_reason == "stop"
        prompt = ids_of("<|begin|><|user|>What is a KV cache?<|end|><|assistant|>")
        assert tokens.Base.requests[-1].token_ids == prompt
        assert answer.usage is not None and answer.usage.json() == {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(answer.token_ids),
            "cached_tokens": 2,
        }
        for prompt in ("hello", ["hello"], ids_of("hello"), [ids_of("hello")]):
            runtime.request({"prompt": prompt}).result()
            assert tokens.Base.requests[-1].token_ids == ids_of("hello")


def test_tools_of_the_demo_model() -> None:
    """Its template shows tools, calls, and results in the notation of Hermes."""
    tool = {"type": "function", "function": {"name": "temperature", "parameters": {"type": "object"}}}
    function = {"name": "temperature", "arguments": '{"city": "Oslo"}'}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "How cold?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "4 °C"},
    ]
    with open_engine("Async", say=[410]) as runtime:
        runtime.chat(messages, tools=[tool]).result()
    assert tokenizer.decode(tokens.Base.requests[-1].token_ids, False) == (
        f"<|begin|><|system|>Functions:\n{json.dumps(tool)}\n"
        'To call one, answer <tool_call>{"name": "...", "arguments": {...}}</tool_call><|end|>'
        "<|user|>How cold?<|end|>"
        '<|assistant|>Let me look.\n<tool_call>{"name": "temperature", "arguments": {"city": "Oslo"}}'
        "</tool_call><|end|><|user|><tool_response>4 °C</tool_response><|end|><|assistant|>"
    )


def test_long_texts() -> None:
    """A text that is encoded in a thread has the same tokens."""
    text = "What is a KV cache? 😀 " * 400
    with open_engine("Async", info={"context_length": 100000}) as runtime:
        answer = runtime.complete(text).result()
        assert (answer.text, answer.token_ids) == (text, ids_of(text))


@both
def test_the_end_of_an_answer(kind: str) -> None:
    """EOS ends the answer and is not shown, and later tokens of the engine are discarded; its generator is
    closed.
    """
    say = [*ids_of("hello you"), end, *ids_of(" more")]
    for step in (1, 2, 100):
        with open_engine(kind, step=step, say=say) as runtime:
            for body in ({}, {"skip_special_tokens": False}):
                answer = runtime.complete("x", **body).result()
                assert (answer.text, answer.finish_reason) == ("hello you", "stop")
                assert answer.token_ids == say[: say.index(end) + 1]
                assert tokens.Base.closed[-1] == tokens.Base.requests[-1].id
            answer = runtime.complete("x", ignore_eos=True).result()
            assert answer.text == "hello you more" and answer.token_ids == say
            answer = runtime.complete("x", ignore_eos=True, skip_special_tokens=False).result()
            assert answer.text == "hello you<|end|> more"
            answer = runtime.complete("x", min_tokens=len(say)).result()
            assert answer.token_ids == say
            answer = runtime.complete("x", stop_token_ids=[say[1]]).result()
            assert (answer.text, answer.token_ids) == (tokenizer.decode(say[:1], True), say[:2])
            answer = runtime.complete("x", stop_token_ids=[say[1]], include_stop_str_in_output=True).result()
            assert answer.text == tokenizer.decode(say[:2], True)


@both
@pytest.mark.parametrize("step", [1, 2, 100])
def test_stop_strings(kind: str, step: int) -> None:
    """The text ends there, whatever the engine yields; before min_tokens stop strings are ignored."""
    text = "one two three two four"
    say = ids_of(text)
    with open_engine(kind, step=step, say=say) as runtime:
        for stop, wanted in (("two", "one "), (["four", "ee t"], "one two thr"), ("one", "")):
            answer = runtime.complete("x", stop=stop).result()
            assert (answer.text, answer.finish_reason) == (wanted, "stop")
            assert tokens.Base.closed[-1] == tokens.Base.requests[-1].id
        answer = runtime.complete("x", stop="two", include_stop_str_in_output=True).result()
        assert answer.text == "one two"
        late = len(ids_of("one two three"))
        assert runtime.complete("x", stop="two", min_tokens=late).result().text == "one two three "
        # The beginning of a stop string is released at the end.
        answer = runtime.complete("x", stop="four!").result()
        assert (answer.text, answer.finish_reason) == (text, "stop")


@both
def test_lengths(kind: str) -> None:
    """max_tokens applies, whatever the engine yields; without it the context length does."""
    say = ids_of("one two three four five six")
    for step in (1, 3, 100):
        with open_engine(kind, step=step, say=say, info={"context_length": 12}) as runtime:
            answer = runtime.complete("x", max_tokens=4).result()
            assert (answer.token_ids, answer.finish_reason) == (say[:4], "length")
            answer = runtime.chat("x", max_completion_tokens=2, max_tokens=5).result()
            assert (answer.token_ids, answer.finish_reason) == (say[:2], "length")
            answer = runtime.complete([5] * 9).result()
            assert (answer.token_ids, answer.finish_reason) == (say[:3], "length")
            count = len(tokens.Base.requests)
            with pytest.raises(
                ContextLengthError, match=r"prompt has 9 tokens .* 4 \(\"max_tokens\"\).* 12 tok"
            ):
                runtime.complete([5] * 9, max_tokens=4).result()
            with pytest.raises(
                ContextLengthError, match=r"prompt has 12 tokens .* at least 1, .* is 12 tokens"
            ):
                runtime.complete([5] * 12).result()
            with pytest.raises(ContextLengthError, match="min_tokens"):
                runtime.complete([5] * 9, min_tokens=4).result()
            assert len(tokens.Base.requests) == count


def test_reasons() -> None:
    """The engine's finish reason, in OpenAI's words."""
    for given, shown in (("eos", "stop"), ("length", "length"), ("tool_calls", "tool_calls")):
        with open_engine("Async", say=[410], reason=given) as runtime:
            assert runtime.complete("x").result().finish_reason == shown


@both
def test_logprobs_of_chats(kind: str) -> None:
    """OpenAI's format; all tokens that are shown, and no others."""
    say = [*ids_of("a 😀"), end]
    with open_engine(kind, say=say) as runtime:
        for stream in (True, False):
            answer = runtime.chat("x", logprobs=True, top_logprobs=2, stream=stream).result().json()
            content = answer["choices"][0]["logprobs"]["content"]
            assert b"".join(bytes(entry["bytes"]) for entry in content) == "a 😀".encode()
            assert content[0] == {
                "token": "a",
                "bytes": [97],
                "logprob": -0.5,
                "top_logprobs": [
                    {"token": "<|begin|>", "bytes": list(b"<|begin|>"), "logprob": -1.0},
                    {"token": "<|system|>", "bytes": list(b"<|system|>"), "logprob": -2.0},
                ],
            }
        answer = runtime.chat("x", logprobs=True).result().json()
        assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
        assert runtime.chat("x").result().json()["choices"][0]["logprobs"] is None


def test_logprobs_of_completions() -> None:
    """Parallel lists."""
    with open_engine("Async", say=ids_of("a 😀 b")) as runtime:
        answer = runtime.complete("x", logprobs=1).result().json()
        logprobs = answer["choices"][0]["logprobs"]
        assert logprobs["text_offset"][-1] == 3
        count = len(ids_of("a 😀 b"))
        assert [len(logprobs[key]) for key in logprobs] == [count] * 4
        assert logprobs["top_logprobs"][0] == {"a": -0.5, "<|begin|>": -1.0}
        plain = runtime.complete("x", logprobs=0).result().json()["choices"][0]["logprobs"]
        assert plain["top_logprobs"] == [] and plain["tokens"] == logprobs["tokens"]


@pytest.mark.parametrize("kind", ["Meeting", "MeetingThreaded"])
def test_choices_run_at_the_same_time(kind: str) -> None:
    """Each is a separate request to the engine; usage is the sum, in which the prompt counts once."""
    with open_engine(kind, choices=3) as runtime:
        answer = runtime.complete("hello", n=3).result()
        assert [len(choice.token_ids) for choice in answer.choices] == [1, 2, 3]
        assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 3
        assert answer.usage is not None
        assert answer.usage.json() == {
            "prompt_tokens": len(ids_of("hello")),
            "completion_tokens": 6,
            "cached_tokens": 0,
        }


@both
@pytest.mark.parametrize("stream", [True, False])
def test_several_prompts(kind: str, stream: bool) -> None:
    """Choice i of prompt p has the index p * n + i. Each prompt counts once, and its choices have seeds of
    their own.
    """
    texts = ["A KV cache", "hello", "Größe 😀!"]
    sampling = {"seed": 7, "temperature": 1, "logprobs": 0, "stream": stream}
    with open_engine(kind, cached=1) as runtime:
        for prompts in (texts, [ids_of(text) for text in texts], [texts[0], ids_of(texts[1]), texts[2]]):
            before = len(tokens.Base.requests)
            answer = runtime.request({"prompt": prompts, "n": 2, **sampling}).result()
            assert [choice.index for choice in answer.choices] == list(range(6))
            assert [choice.text for choice in answer.choices] == [text for text in texts for _ in range(2)]
            assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 6
            listed = answer.json()["choices"]
            assert len(listed[4]["logprobs"]["tokens"]) == len(ids_of(texts[2]))
            lengths = [len(ids_of(text)) for text in texts]
            assert answer.usage is not None and answer.usage.json() == {
                "prompt_tokens": sum(lengths),
                "completion_tokens": 2 * sum(lengths),
                "cached_tokens": 3,
            }
            asked = tokens.Base.requests[before:]
            assert len({request.id for request in asked}) == 6
            assert sorted((request.token_ids, request.sampling.seed) for request in asked) == sorted(
                (ids_of(text), seed) for text in texts for seed in (7, 8)
            )


def test_embeddings() -> None:
    """The pipeline encodes texts, and the vectors as requested; an engine refuses what it cannot honor."""
    with open_engine("Embedding") as runtime:
        assert runtime.models()[0]["capabilities"] == ["embedding"]
        result = runtime.embed(["hello", "Größe 😀!"]).result()
        rows = [ids_of("hello"), ids_of("Größe 😀!")]
        assert result.vectors == [[len(row), row[0] + 0.5] for row in rows]
        assert result.usage is not None and result.usage.prompt_tokens == sum(map(len, rows))
        coded = runtime.embed([5, 6], encoding_format="base64").result()
        assert coded.json()["data"] == [{"object": "embedding", "index": 0, "embedding": "AAAAQAAAsEA="}]
        assert coded.vectors == [[2.0, 5.5]]
        for body, kind, match in (
            ({"input": "a", "dimensions": 2}, NotSupportedError, '"dimensions"'),
            ({"input": [[5], [7]]}, dynamo_llm.EngineFailedError, "1 embeddings for 2 inputs"),
            ({"input": [[5], [5] * 1025]}, ContextLengthError, "1025 tokens"),
            ({"input": ["a", "b c d " * 600]}, ContextLengthError, "tokens"),
            ({"prompt": "a"}, NotSupportedError, "only makes embeddings"),
        ):
            with pytest.raises(kind, match=match):
                runtime.request(body).result()
    with open_engine("Embedding", also=["seed"]) as runtime:
        assert runtime.models()[0]["capabilities"] == ["chat", "completion", "embedding", "seed"]
        assert runtime.complete("hello").result().text == "hello"
        assert runtime.embed([5]).result().vectors == [[1, 5.5]]
    with Runtime(engine("tokens:Embedding", pipeline="off")) as runtime:
        assert runtime.embed([[5], [6, 7]]).result().vectors == [[1, 5.5], [2, 6.5]]
        with pytest.raises(NotSupportedError, match='"input" must be an array of token ids'):
            runtime.embed("a").result()


def test_prompts_run_at_the_same_time() -> None:
    """Each is a request of its own to the engine, and the responses name the choice."""
    with open_engine("Meeting", choices=3) as runtime:
        responses = list(runtime.request({"prompt": ["a", "b", "c"]}))
    assert {response.index for response in responses} == {0, 1, 2}
    assert responses[-1].usage is not None
    with Runtime(engine("tokens:Async", pipeline="off")) as runtime:
        answer = runtime.request({"prompt": [[5, 6], [7]]}).result()
        assert [choice.token_ids for choice in answer.choices] == [[5, 6], [7]]


@pytest.mark.parametrize("kind", ["Meeting", "MeetingThreaded"])
def test_a_choice_that_fails_ends_the_others(kind: str) -> None:
    """Its error is the request's; the engine's other requests are cancelled."""
    with open_engine(kind, choices=3, fails=1) as runtime:
        with pytest.raises(DynamoError, match="choice 1 fails"):
            runtime.complete("hello", n=3).result()
        runtime.shutdown(patience)


def test_seeds_of_choices() -> None:
    """Each choice has its own seed and its own ID."""
    with open_engine("Async", say=[410]) as runtime:
        runtime.complete("x", n=3, seed=7, temperature=1).result()
        asked = tokens.Base.requests[-3:]
        assert [request.sampling.seed for request in asked] == [7, 8, 9]
        assert len({request.id for request in asked}) == 3


@both
def test_cancel(kind: str) -> None:
    """The engine's generator is closed."""
    with (
        open_engine(kind, say=[410] * 1000) as runtime,
        Runtime(engine(f"tokens:{kind}", options={"say": [410] * 1000}, stream={"capacity": 2})) as small,
    ):
        for opened in (runtime, small):
            request = opened.complete("x")
            assert request.receive(patience) is not None
            request.cancel()
            limit = time.monotonic() + patience
            while tokens.Base.requests[-1].id not in tokens.Base.closed:
                assert time.monotonic() < limit
                time.sleep(0.001)


@both
def test_a_slow_caller(kind: str) -> None:
    """Several choices wait for capacity in one stream; nothing is lost."""
    config = engine(f"tokens:{kind}", options={"say": [410] * 200}, stream={"capacity": 3})
    with Runtime(config) as runtime:
        answer = runtime.complete("x", n=4).result()
        assert [choice.token_ids for choice in answer.choices] == [[410] * 200] * 4


def asked(body: dict[str, Any], **options: Any) -> dict[str, Any]:
    with open_engine("Asked", **options) as runtime:
        given: dict[str, Any] = json.loads(runtime.request(body).result().text)
        return given


def test_all_keys_that_reach_the_engine() -> None:
    """The request that the engine gets for a body."""
    given = asked(
        {
            "prompt": "hello",
            "model": "blue",
            "max_tokens": 900,
            "min_tokens": 2,
            "temperature": 0.5,
            "top_p": 0.25,
            "top_k": 5,
            "min_p": 0.125,
            "frequency_penalty": 1,
            "presence_penalty": -1,
            "repetition_penalty": 1.5,
            "seed": 3,
            "logit_bias": {"5": -100},
            "ignore_eos": True,
            "stop_token_ids": [7, 8],
            "priority": 4,
            "nvext": {"cache_salt": "s", "agent_hints": {"priority": 9, "osl": 3}},
            "guided_regex": "a+",
        },
        info={"adapters": ["blue"], "eos_token_ids": [3, 4]},
    )
    given.pop("id")
    assert given == {
        "token_ids": ids_of("hello"),
        "max_tokens": 900,
        "min_tokens": 2,
        "sampling": {
            "temperature": 0.5,
            "top_p": 0.25,
            "top_k": 5,
            "min_p": 0.125,
            "frequency_penalty": 1,
            "presence_penalty": -1,
            "repetition_penalty": 1.5,
            "seed": 3,
            "logit_bias": {"5": -100.0},
        },
        "stop_token_ids": [7, 8],
        "ignore_eos": True,
        "guided": {"regex": "a+"},
        "adapter": "blue",
        "priority": 4,
        "cache_salt": "s",
        "trace": None,
    }
    other = asked(
        {"prompt": "x", "adapter": "blue", "nvext": {"agent_hints": {"priority": 9}}},
        info={"adapters": ["blue"], "eos_token_ids": [3, 4]},
    )
    assert (other["adapter"], other["priority"], other["stop_token_ids"]) == ("blue", 9, [0, 3, 4])
    assert asked({"prompt": "x", "model": "unknown"})["adapter"] is None


@pytest.mark.parametrize(
    ("info", "body", "ids"),
    [
        ({}, {}, [0]),
        ({"eos_token_ids": []}, {}, [0]),
        ({"eos_token_ids": [5]}, {}, [0, 5]),
        ({"eos_token_ids": [0, 5]}, {"stop_token_ids": [7]}, [0, 5, 7]),
        ({"eos_token_ids": [5]}, {"ignore_eos": True}, []),
    ],
)
def test_tokens_that_end_an_answer(info: dict[str, Any], body: dict[str, Any], ids: list[int]) -> None:
    """Those of the engine and of the tokenizer (0) together."""
    assert asked({"prompt": "x", **body}, info=info)["stop_token_ids"] == ids


schema = {"type": "object", "properties": {}}
user = {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("body", "guided"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"json": {"type": "object"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}},
            {"json": schema},
        ),
        ({"guided_json": schema}, {"json": schema}),
        ({"guided_json": json.dumps(schema)}, {"json": schema}),
        ({"guided_regex": "a|b"}, {"regex": "a|b"}),
        ({"guided_grammar": "root ::= 'a'"}, {"grammar": "root ::= 'a'"}),
        ({"guided_choice": ["a.b", "c (d)"]}, {"regex": r"(a\.b|c \(d\))"}),
    ],
)
def test_guided(body: dict[str, Any], guided: Any) -> None:
    """Structured output, in one form; without the capability it is rejected by key."""
    assert asked({**user, **body})["guided"] == guided
    if guided is not None:
        needed = {"json": "json_schema"}.get(next(iter(guided)), next(iter(guided)))
        with pytest.raises(NotSupportedError, match=f'needs the capability "{needed}"'):
            asked({**user, **body}, info={"capabilities": ["seed"]})
    if "guided_choice" in body:
        only = {"capabilities": ["choice"]}
        assert asked({**user, **body}, info=only)["guided"] == {"choice": body["guided_choice"]}


wrong: list[tuple[dict[str, Any], type[DynamoError], str]] = [
    ({"prompt": ""}, InvalidRequestError, "no tokens"),
    ({"prompt": []}, InvalidRequestError, "no tokens"),
    ({"prompt": ["a", ""]}, InvalidRequestError, r'"prompt\[1\]" of the request has no tokens'),
    ({"prompt": [[5], [5, 99999]]}, InvalidRequestError, r'"prompt\[1\]\[1\]" .* from 0 to 2047'),
    ({"prompt": ["a", 5]}, InvalidRequestError, r'"prompt\[1\]" .* a string'),
    ({"prompt": ["a", [5] * 1030]}, ContextLengthError, "the prompt has 1030 tokens"),
    ({"prompt": ["a", [5] * 1020], "max_tokens": 9}, ContextLengthError, r'"prompt\[1\]" has 1020 tokens'),
    ({"prompt": [5, "a"]}, InvalidRequestError, r'"prompt\[1\]" .* an integer'),
    ({"prompt": [5, -1]}, InvalidRequestError, r'"prompt\[1\]" .* from 0 to 4294967295, not -1'),
    ({"prompt": [99999]}, InvalidRequestError, "from 0 to 2047"),
    ({"prompt": "x", "echo": True}, NotSupportedError, '"echo"'),
    ({"prompt": "x", "suffix": "y"}, NotSupportedError, '"suffix"'),
    ({"prompt": "x", "best_of": 3}, NotSupportedError, '"best_of"'),
    ({"prompt": "x", "max_tokens": 0}, InvalidRequestError, "at least 1, not 0"),
    ({"prompt": "x", "max_tokens": 2, "min_tokens": 3}, InvalidRequestError, r'least "min_tokens" \(3\)'),
    ({"prompt": "x", "seed": "a"}, InvalidRequestError, '"seed" .* an integer, not a string'),
    ({"prompt": "x", "seed": True}, InvalidRequestError, '"seed" .* an integer, not a boolean'),
    ({"prompt": "x", "priority": 1.5}, InvalidRequestError, '"priority" .* an integer'),
    ({"prompt": "x", "logit_bias": {"a": 1}}, InvalidRequestError, 'token ids as keys, not "a"'),
    ({"prompt": "x", "logit_bias": {"99999": 1}}, InvalidRequestError, '"logit_bias'),
    ({"prompt": "x", "logit_bias": {"5": 101}}, InvalidRequestError, "from -100 to 100, not 101"),
    ({"prompt": "x", "repetition_penalty": 0}, InvalidRequestError, "greater than 0"),
    ({"prompt": "x", "stop": ["a", ""]}, InvalidRequestError, r'"stop\[1\]" .* not empty'),
    ({"prompt": "x", "stop": [3]}, InvalidRequestError, r'"stop\[0\]" .* string'),
    ({"prompt": "x", "stop_token_ids": [-3]}, InvalidRequestError, r'"stop_token_ids\[0\]"'),
    (
        {"prompt": "x", "adapter": "red"},
        InvalidRequestError,
        'is "red", which the engine does not have; it has: none',
    ),
    ({"prompt": "x", "nvext": {"use_raw_prompt": True}}, NotSupportedError, '"nvext.use_raw_prompt"'),
    ({"prompt": "x", "nvext": {"cache_salt": 3}}, InvalidRequestError, '"nvext.cache_salt"'),
    ({"prompt": "x", "nvext": {"agent_hints": 3}}, InvalidRequestError, '"nvext.agent_hints"'),
    ({"prompt": "x", "nvext": {"agent_hints": {"priority": "x"}}}, InvalidRequestError, "hints.priority"),
    ({"prompt": "x", "guided_regex": "a", "guided_json": {}}, InvalidRequestError, "give only one of them"),
    ({"prompt": "x", "guided_json": "{"}, InvalidRequestError, '"guided_json" .* not valid JSON'),
    ({"prompt": "x", "guided_json": 3}, InvalidRequestError, "JSON Schema"),
    ({"prompt": "x", "guided_choice": []}, InvalidRequestError, "array of strings"),
    ({"prompt": "x", "response_format": {"type": "xml"}}, InvalidRequestError, 'not "xml"'),
    ({**user, "response_format": {"type": "json_schema"}}, InvalidRequestError, 'object "schema"'),
    ({**user, "top_logprobs": 2}, InvalidRequestError, 'needs "logprobs": true'),
    ({**user, "modalities": ["audio"]}, NotSupportedError, '"modalities"'),
    ({**user, "tool_choice": "required"}, NotSupportedError, '"tool_choice" that forces a call'),
    ({**user, "tool_choice": "maybe"}, InvalidRequestError, '"tool_choice" .* not "maybe"'),
    ({**user, "tools": [{}], "parallel_tool_calls": False}, NotSupportedError, "parallel_tool_calls"),
    ({**user, "documents": [{}]}, NotSupportedError, 'template does not use "documents"'),
    ({**user, "chat_template": "{{ raise_exception('so it says') }}"}, InvalidRequestError, "so it says"),
    ({"input": "x"}, NotSupportedError, "embeddings"),
]


@pytest.mark.parametrize(("body", "kind", "match"), wrong)
def test_mistakes(body: dict[str, Any], kind: type[DynamoError], match: str) -> None:
    """The error names a mistake, and the engine does not get the request."""
    with open_engine("Async", say=[410]) as runtime:
        count = len(tokens.Base.requests)
        with pytest.raises(kind, match=match):
            runtime.request(body).result()
        assert len(tokens.Base.requests) == count
        assert runtime.complete("x").result().text == tokenizer.decode([410], True)


@pytest.mark.parametrize(
    ("body", "capability"),
    [
        ({**user, "logprobs": True}, "logprobs"),
        ({"prompt": "x", "logprobs": 0}, "logprobs"),
        ({"prompt": "x", "seed": 3, "temperature": 1}, "seed"),
    ],
)
def test_capabilities(body: dict[str, Any], capability: str) -> None:
    """A key without the engine's capability is rejected; a seed without randomness is ignored."""
    with open_engine("Async", info={"capabilities": []}) as runtime:
        with pytest.raises(NotSupportedError, match=f'needs the capability "{capability}"'):
            runtime.request(body).result()
        runtime.complete("x", seed=3).result()
        assert tokens.Base.requests[-1].sampling.seed is None


def test_without_the_pipeline() -> None:
    """Token IDs in and out; for a text, the error says why it is rejected."""
    config = {**engine("tokens:Async", options={"info": {"eos_token_ids": [end]}}), "pipeline": "off"}
    with Runtime(config) as runtime:
        answer = runtime.complete([5, 6, end, 7], logprobs=1).result()
        assert (answer.text, answer.token_ids, answer.finish_reason) == ("", [5, 6, end], "stop")
        logprobs = answer.json()["choices"][0]["logprobs"]
        assert logprobs == {"tokens": [{"logprob": -0.5, "top": [[1, -1.0]]}] * 2}
        for body in ({"prompt": "x"}, user, {"prompt": [5], "stop": "x"}):
            with pytest.raises(NotSupportedError, match=r'"pipeline"|pipeline, which is "off"'):
                runtime.request(body).result()


@pytest.mark.parametrize(
    ("info", "kind", "match"),
    [
        ({"path": None}, dynamo_llm.DynamoError, 'must return "path" or "tokenizer"'),
        ({"path": "/nowhere"}, dynamo_llm.ModelNotFoundError, '"/nowhere" has no tokenizer.json'),
        ({"tokenizer": "/nowhere"}, dynamo_llm.ModelNotFoundError, "has no tokenizer.json"),
    ],
)
def test_incomplete_descriptions(info: Any, kind: type[DynamoError], match: str) -> None:
    """The runtime does not start; the engine is stopped."""
    count = tokens.Base.closed.count("engine")
    with pytest.raises(kind, match=match):
        open_engine("Async", info=info)
    assert tokens.Base.closed.count("engine") == count + 1


def test_broken_tokenizer_files(tmp_path: Any) -> None:
    """The error names the file."""
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(dynamo_llm.ModelNotFoundError, match=r"tokenizer.json\" is not a valid tokenizer"):
        open_engine("Async", info={"path": str(tmp_path)})


def test_from_c(ask: Ask) -> None:
    """A C program gets the same."""
    assert ask.text(engine("tokens:Async"), "Größe you") == "Größe you"
    assert ask.text(engine("tokens:Threaded"), "Größe you") == "Größe you"
    status, message = ask.error(engine("tokens:Async", options={"info": {"context_length": 1}}))
    assert status == "DYNAMO_ERROR_CONTEXT_LENGTH"
    assert "context length is 1 tokens" in message

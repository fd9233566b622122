# SPDX-License-Identifier: Apache-2.0
"""The engine mistralrs: prompts and answers are the same, token for token, as with the tokenizers library."""

from pathlib import Path
from typing import Any

import pytest
import speaking_models
import tiny_models
import tokenizers
from dynamo_llm import DynamoError, EngineFailedError, InvalidRequestError, Runtime
from dynamo_llm.runtime.engines.mistralrs import error_mapping

demo = speaking_models.demo_tokenizer()
llama2 = speaking_models.sentencepiece_tokenizer(
    ["▁Hi", "▁you", "▁", "a", "!", "▁so", "▁Hi▁"], ["</s>", "<s>", "<|mark|>"]
)
end = {"demo": demo.token_to_id("<|end|>"), "llama2": llama2.token_to_id("</s>")}
tool = {"type": "function", "function": {"name": "clock"}}


def ids_of(core: tokenizers.Tokenizer, *tokens: str) -> list[int]:
    ids = [core.token_to_id(token) for token in tokens]
    assert None not in ids, tokens
    return ids


#: Answers that are easily decoded wrongly, as tokens without the end.
answers = {
    "white space": (demo, ids_of(demo, "Ġ", "Ċ", "Ġthe", "Ġcache")),
    "emoji": (demo, ids_of(demo, "ðŁ", "ĺ", "Ģ", "Ġthe")),
    "broken": (demo, ids_of(demo, "Ġthe", "ðŁ", "Ġcache", "Ģ")),
    "mark": (demo, ids_of(demo, "Ġ", "<|system|>", "Ġthe", "<", ">")),
    "blank first": (llama2, ids_of(llama2, "▁Hi", "▁you", "!")),
    "bytes": (llama2, ids_of(llama2, "▁so", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "a", "<0x41>")),
    "blanks": (llama2, ids_of(llama2, "▁", "▁Hi▁", "<|mark|>", "a")),
}


def speaker(folder: Path, name: str, **more: Any) -> Path:
    core, ids = answers[name]
    the_end = end["demo" if core is demo else "llama2"]
    return speaking_models.speaker(folder, core, [*ids, the_end], eos=the_end, **more)


# ------------------------------------------------------------------------------------ text


@pytest.mark.parametrize("name", answers)
def test_text(name: str, tmp_path: Path) -> None:
    """An answer is what the tokens add to the prompt's text, including white space at its beginning."""
    core, ids = answers[name]
    prompt = core.encode("a?").ids
    right = core.decode(prompt + ids)[len(core.decode(prompt)) :]
    with Runtime(model=speaker(tmp_path / "m", name)) as runtime:
        for request in (
            runtime.complete("a?"),
            runtime.complete("a?", stream=False),
            runtime.chat("a?"),
            runtime.chat("a?", tools=[tool]),
        ):
            result = request.result()
            assert (result.text, result.finish_reason, result.tool_calls) == (right, "stop", [])
            assert result.usage is not None
            assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (len(prompt), len(ids) + 1)


@pytest.mark.parametrize(
    ("name", "stop", "text", "tokens"),
    [
        ("white space", ["cache"], " \n the ", 4),
        ("white space", ["\n t"], " ", 3),
        ("white space", ["the cac", "he", "e"], " \n t", 3),
        ("white space", [" "], "", 1),
        ("emoji", ["the"], "😀 ", 4),
        ("blank first", ["you", " y"], " Hi", 2),
        ("bytes", ["😀"], " so", 5),
        ("bytes", ["A"], " so😀a", 7),
    ],
)
def test_stop_strings(name: str, stop: list[str], text: str, tokens: int, tmp_path: Path) -> None:
    """The text ends before the stop string that completes first, the tokens with its last one."""
    with Runtime(model=speaker(tmp_path / "m", name)) as runtime:
        for request in (
            runtime.complete("a?", stop=stop, logprobs=0),
            runtime.chat("a?", stop=stop, logprobs=True),
        ):
            result = request.result()
            assert (result.text, result.finish_reason) == (text, "stop")
            assert result.usage is not None and result.usage.completion_tokens == tokens
            logprobs = result.json()["choices"][0]["logprobs"]
            assert len(logprobs.get("content") or logprobs["tokens"]) == tokens
        assert runtime.chat("a?", stop=stop, tools=[tool]).result().text == text
        included = runtime.complete("a?", stop=stop, include_stop_str_in_output=True).result()
        assert any(included.text == text + one for one in stop)


def test_unfinished_stop_string(tmp_path: Path) -> None:
    """The possible beginning of a stop string becomes part of the answer when the answer ends."""
    with Runtime(model=speaker(tmp_path / "m", "white space")) as runtime:
        for stop in (["caches"], ["cache!", "x"], ["  "]):
            result = runtime.complete("a?", stop=stop).result()
            assert (result.text, result.finish_reason) == (" \n the cache", "stop")


@pytest.mark.parametrize("stop", [["the"], ["nowhere"], ["\n"]])
def test_choices(stop: list[str], tmp_path: Path) -> None:
    """The chunk with the finish reason is the last one of a choice; usage follows all texts."""
    with Runtime(model=speaker(tmp_path / "m", "white space")) as runtime:
        alone = runtime.complete("a?", stop=stop).result()
        request = runtime.complete("a?", n=3, stop=stop)
        ended: list[int] = []
        for response in request:
            assert response.usage is None or len(ended) >= 2
            assert response.index not in ended or not response.text
            if response.finish_reason:
                assert response.index not in ended
                ended.append(response.index)
        assert sorted(ended) == [0, 1, 2]
        result = runtime.complete("a?", n=3, stop=stop).result()
        assert result.usage is not None and alone.usage is not None
        assert result.usage.completion_tokens == 3 * alone.usage.completion_tokens
        assert [choice["text"] for choice in result.json()["choices"]] == [alone.text] * 3


# ------------------------------------------------------------------------------------ ends


def added_token(text: str) -> dict[str, Any]:
    """Returns a token in a form that ``tokenizer_config.json`` allows."""
    return {
        "__type": "AddedToken",
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
    }


@pytest.mark.parametrize(
    ("declared", "eos"),
    [
        ({}, [0, 2]),
        ({"files": {"generation_config.json": {"eos_token_id": [0, 2]}}}, 0),
        ({"files": {"generation_config.json": {"eos_token_id": 2}}}, 0),
        ({"settings": {"eos_token": "<|system|>"}}, 0),
        ({"settings": {"eos_token": added_token("<|system|>")}}, [0]),
    ],
    ids=str,
)
def test_ends(declared: dict[str, Any], eos: Any, tmp_path: Path) -> None:
    """Each end token that a file of the model declares ends an answer, and is not shown."""
    answer = [*ids_of(demo, "Ġthe", "<|system|>", "Ġcache"), 0]
    model = speaking_models.speaker(tmp_path / "m", demo, answer, eos=eos, **declared)
    with Runtime(model=model) as runtime:
        for request in (runtime.complete("a?"), runtime.chat("a?"), runtime.chat("a?", tools=[tool])):
            result = request.result()
            assert (result.text, result.finish_reason) == (" the", "stop")
            assert result.usage is not None and result.usage.completion_tokens == 2
        result = runtime.complete("a?", ignore_eos=True, max_tokens=3).result()
        assert (result.text, result.finish_reason) == (" the cache", "length")


@pytest.mark.parametrize("token", [".", ",", "!"])
def test_end_that_is_a_text(token: str, tmp_path: Path) -> None:
    """A declared end token that is not special ends an answer, too, and is not shown."""
    answer = ids_of(demo, "Ġc", "ache", "t", "he", token)
    model = speaking_models.speaker(tmp_path / "m", demo, answer, eos=answer[-1])
    with Runtime(model=model) as runtime:
        result = runtime.complete("a?", max_tokens=9).result()
        assert (result.text, result.finish_reason) == (" cachethe", "stop")
        assert result.usage is not None and result.usage.completion_tokens == 5


#: Tokens in angle brackets: mistral.rs regards all of them as special.
marked = tokenizers.Tokenizer.from_str(demo.to_str())
marked.add_tokens(
    [tokenizers.AddedToken(text, normalized=False) for text in ("<tool>", "<end_of_part>", "[x]")]
)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["<tool>", "Ġthe", "<end_of_part>"], "<tool> the<end_of_part>"),
        (["Ġthe", "<|user|>", "<tool>", "<|system|>"], " the<tool>"),
        (["[x]", "<|user|>", "Ġcache"], "[x] cache"),
    ],
)
def test_added_tokens_of_an_answer(tokens: list[str], text: str, tmp_path: Path) -> None:
    """Added tokens that are not special are shown; the special ones are not, but have log-probs."""
    ids = ids_of(marked, *tokens)
    assert marked.decode(ids) == text
    with Runtime(model=speaking_models.speaker(tmp_path / "m", marked, [*ids, 0])) as runtime:
        for request in (
            runtime.complete("a?", logprobs=1),
            runtime.chat("a?", logprobs=True, top_logprobs=1),
        ):
            result = request.result()
            assert (result.text, result.finish_reason) == (text, "stop")
            assert result.usage is not None and result.usage.completion_tokens == len(ids) + 1
            logprobs = result.json()["choices"][0]["logprobs"]
            named = logprobs.get("tokens") or [entry["token"] for entry in logprobs["content"]]
            assert named == [token.replace("Ġ", " ") for token in tokens]
        assert runtime.chat("a?", tools=[tool]).result().text == text
        # Tokens without text count, too, when a stop string ends the answer.
        result = runtime.complete("a?", stop=text[-2:]).result()
        assert result.usage is not None
        assert result.usage.completion_tokens == len(ids) - (tokens[-1] == "<|system|>")


@pytest.mark.parametrize("prompt", ["a", "▁a", "so", "!a"])
def test_unigram(prompt: str, tmp_path: Path) -> None:
    """A tokenizer whose decoder is only Metaspace, which mistral.rs itself cannot read."""
    words = ["▁Hi", "▁you", "▁", "!", "a", "▁a", "▁so"]
    core = tokenizers.Tokenizer(
        tokenizers.models.Unigram([("</s>", 0.0), ("<unk>", 0.0), *((word, -1.0) for word in words)], 1)
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    core.decoder = tokenizers.decoders.Metaspace()
    core.add_special_tokens(["</s>", "<unk>"])
    ids = ids_of(core, "▁Hi", "▁you", "▁", "!")
    prompt = prompt.replace("▁", " ")
    before = core.encode(prompt).ids
    right = core.decode([*before, *ids])[len(core.decode(before)) :]
    assert right == " Hi you !"
    with Runtime(model=speaking_models.speaker(tmp_path / "m", core, [*ids, 0])) as runtime:
        for request in (runtime.complete(prompt), runtime.chat(prompt)):
            assert request.result().text == right
            usage = request.result().usage
            assert usage is not None and usage.prompt_tokens == len(before)


# ------------------------------------------------------------------------------------ log-probs


@pytest.mark.parametrize(
    ("tokens", "offsets"),
    [
        (["▁Hi", "▁you", "!"], [0, 3, 7]),
        (["▁", "▁Hi▁", "a"], [0, 1, 5]),
        (["▁so", "<0xC3>", "<0xA9>", "a"], [0, 3, 3, 4]),
    ],
)
def test_text_offset(tokens: list[str], offsets: list[int], tmp_path: Path) -> None:
    """Offsets count characters of the answer's text, including a blank that a separate text would not begin
    with.
    """
    ids = [*ids_of(llama2, *tokens), end["llama2"]]
    with Runtime(model=speaking_models.speaker(tmp_path / "m", llama2, ids, eos=ids[-1])) as runtime:
        result = runtime.complete("a?", logprobs=0).result()
    assert result.text == llama2.decode([*llama2.encode("a?").ids, *ids])[2:]
    assert result.json()["choices"][0]["logprobs"]["text_offset"] == offsets


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("emoji", ["bytes:\\xf0\\x9f", "bytes:\\x98", "bytes:\\x80", " the"]),
        ("broken", [" the", "bytes:\\xf0\\x9f", " cache", "bytes:\\x80"]),
        ("white space", [" ", "\n", " the", " cache"]),
        ("blank first", [" Hi", " you", "!"]),
        ("bytes", [" so", "bytes:\\xf0", "bytes:\\x9f", "bytes:\\x98", "bytes:\\x80", "a", "A"]),
    ],
)
def test_logprobs(name: str, names: list[str], tmp_path: Path) -> None:
    """A token is named by its text, or by its bytes; likewise the requested number of alternatives."""
    core, ids = answers[name]
    with Runtime(model=speaker(tmp_path / "m", name)) as runtime:
        lists = runtime.complete("a?", logprobs=3).result().json()["choices"][0]["logprobs"]
        entries = runtime.chat("a?", logprobs=True, top_logprobs=3).result().json()["choices"][0]["logprobs"]
    assert lists["tokens"] == names
    assert [entry["token"] for entry in entries["content"]] == names
    for number, entry in enumerate(entries["content"]):
        assert lists["top_logprobs"][number][names[number]] == lists["token_logprobs"][number]
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0] == {key: entry[key] for key in ("token", "logprob", "bytes")}
    whole = b"".join(bytes(entry["bytes"]) for entry in entries["content"])
    assert whole.decode(errors="replace") == core.decode([*core.encode("a?").ids, *ids])[2:]


def test_alternatives_that_are_bytes() -> None:
    """Alternatives that are not UTF-8 alone have distinct names, so that none is lost."""
    for size in (2, 3, 5):
        bias = {str(token): 50 for token in range(227, 227 + size)}
        with Runtime() as runtime:
            request = runtime.complete("hello the", max_tokens=1, logit_bias=bias, logprobs=size)
            lists = request.result().json()["choices"][0]["logprobs"]
            expected = {f"bytes:\\x{0x80 + at:02x}" for at in range(size)}
            assert set(lists["top_logprobs"][0]) == expected and lists["tokens"][0] in expected


# ------------------------------------------------------------------------------------ prompts


def with_edges(first: list[str], last: list[str]) -> tokenizers.Tokenizer:
    """The demo model's tokenizer, changed so that it adds tokens before and after a text."""
    core = tokenizers.Tokenizer.from_str(demo.to_str())
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single=[*first, "$A", *last],
        special_tokens=[(token, core.token_to_id(token)) for token in (*first, *last)],
    )
    return core


@pytest.mark.parametrize(
    ("first", "last"), [(["<|begin|>"], []), ([], ["<|user|>"]), (["<|begin|>", "<|system|>"], ["<|user|>"])]
)
def test_added_tokens(first: list[str], last: list[str], tmp_path: Path) -> None:
    """A completion's text gets the tokens that the tokenizer adds; a chat's and token IDs do not."""
    core = with_edges(first, last)
    answer = [*ids_of(core, "Ġcache"), 0]
    with Runtime(model=speaking_models.speaker(tmp_path / "m", core, answer)) as runtime:
        for text in ("hello the", "<|begin|>hello", " x", "😀\n\n"):
            whole, bare = core.encode(text).ids, core.encode(text, add_special_tokens=False).ids
            for prompt, count in ((text, len(whole)), (whole, len(whole)), (bare, len(bare))):
                usage = runtime.complete(prompt, max_tokens=1).result().usage
                assert usage is not None and usage.prompt_tokens == count
            usage = runtime.chat(text, max_tokens=1).result().usage
            assert usage is not None and usage.prompt_tokens == len(bare)


@pytest.mark.parametrize("first", [[], ["<|begin|>"]])
@pytest.mark.parametrize("adds", [None, False, True])
def test_begin_by_configuration(first: list[str], adds: bool | None, tmp_path: Path) -> None:
    """``add_bos_token`` overrides what tokenizer.json adds; a chat never gets a token."""
    settings = {"bos_token": "<|begin|>"} | ({} if adds is None else {"add_bos_token": adds})
    answer = [*ids_of(demo, "Ġcache"), 0]
    model = speaking_models.speaker(tmp_path / "m", with_edges(first, []), answer, settings=settings)
    added = bool(first) if adds is None else adds
    with Runtime(model=model) as runtime:
        for text in ("hello the", "x", " 😀"):
            count = len(demo.encode(text).ids)
            usage = runtime.complete(text, max_tokens=1).result().usage
            assert usage is not None and usage.prompt_tokens == count + added
            usage = runtime.chat(text, max_tokens=1).result().usage
            assert usage is not None and usage.prompt_tokens == count


def test_long_prompt() -> None:
    """A long prompt has the same tokens as a short one."""
    text = "the cache " * 450
    with Runtime() as runtime:
        usage = runtime.complete(text, max_tokens=1).result().usage
    assert usage is not None and usage.prompt_tokens == len(demo.encode(text).ids)


# ------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "shape mismatch in add\n   0: candle_core::error::Error::bt\n   1: mistralrs_core::run",
            EngineFailedError,
            "mistral.rs failed: shape mismatch in add",
        ),
        (
            "Channel was erroneously closed!",
            EngineFailedError,
            "mistral.rs failed: Channel was erroneously closed!",
        ),
        ("out of memory", EngineFailedError, "mistral.rs failed: out of memory"),
        (
            "Invalid grammar. no start",
            InvalidRequestError,
            "mistral.rs refuses the request: Invalid grammar. no start",
        ),
        (
            "lexer error: too many expressions\n<state>\nTokens: a\n</state>",
            InvalidRequestError,
            "mistral.rs refuses the request: lexer error: too many expressions",
        ),
    ],
    ids=str,
)
def test_failures(text: str, error: type[DynamoError], message: str) -> None:
    """Only what the request caused is an error of the request; a message has no internals of mistral.rs."""
    found = error_mapping.of_request(ValueError(text), 512)
    assert type(found) is error and str(found) == message


def test_crosses_the_short_context(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An answer that crosses the length where LongRoPE changes its factors is logged, once."""
    with Runtime(model=tiny_models.phi3(tmp_path / "phi3", 32, 64)) as runtime:

        def warnings(count: int) -> int:
            runtime.complete("hello", max_tokens=count, ignore_eos=True).result()
            return capfd.readouterr().err.count("an answer crossed 32 tokens")

        assert [warnings(count) for count in (8, 40, 40)] == [0, 1, 0]

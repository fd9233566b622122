# SPDX-License-Identifier: Apache-2.0
"""One choice of an answer: it is the same however many tokens an engine yields at once."""

import random
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import Runtime, _core
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import Sampling, TokenChunk, TokenRequest
from dynamo_llm.runtime.pipeline.choice import Choice
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from test_pipeline_properties import Reciter

tokenizer = Tokenizer(ModelFolder(demo_model_dir()))
end, begin, system = 0, 1, 2


def ids_of(text: str) -> list[int]:
    return tokenizer.core.encode(text, add_special_tokens=False).ids


def answered(
    ids: list[int],
    portions: list[int],
    stops: list[str],
    includes_stop: bool = False,
    min_tokens: int = 0,
    max_tokens: int = 1000,
    stop_ids: tuple[int, ...] = (end,),
    shown_stops: tuple[int, ...] = (),
    skips: bool = True,
    is_chat: bool = False,
    at_once: bool = False,
) -> dict[str, Any]:
    """Returns what a caller gets from an engine that yields tokens in the given portions.

    :param at_once: whether the finish reason comes with the last tokens.
    """
    request = TokenRequest(
        id="1",
        token_ids=[5],
        max_tokens=max_tokens,
        sampling=Sampling(),
        min_tokens=min_tokens,
        stop_token_ids=stop_ids,
    )
    core = _core.TokenChoice(
        tokenizer.vocabulary,
        request.token_ids,
        0,
        max_tokens,
        min_tokens,
        stop_ids,
        shown_stops,
        stops,
        includes_stop,
        skips,
        "chat" if is_chat else "completion_top",
    )
    choice = Choice(request, core)
    chunks: list[TokenChunk] = []
    at = 0
    for size in portions:
        part = ids[at : at + size]
        values = [{"logprob": -float(at + place), "top": [(7, -9.0)]} for place in range(len(part))]
        chunks.append({"token_ids": part, "logprobs": values})  # type: ignore[typeddict-item]
        at += size
    if at_once:
        chunks[-1]["finish_reason"] = "stop"
    else:
        chunks.append({"token_ids": [], "finish_reason": "stop"})
    result: dict[str, Any] = {"text": "", "token_ids": [], "logprobs": {}}
    for chunk in choice.chunks(iter(chunks)):
        result["text"] += chunk.get("text", "")
        result["token_ids"] += chunk.get("token_ids", [])
        for key, values in (chunk.get("logprobs") or {}).items():
            result["logprobs"].setdefault(key, []).extend(values)  # type: ignore[attr-defined]
        if "finish_reason" in chunk:
            assert "finish_reason" not in result
            result |= {"finish_reason": chunk["finish_reason"], "usage": chunk["usage"]}
    return result


@pytest.mark.parametrize(
    ("text", "stop", "shown", "count"),
    [
        ("The KV cache is a memory. Next words are here", " memory", "The KV cache is a", 6),
        ("The KV cache is a memory. Next words are here", "is a mem", "The KV cache ", 6),
        ("The KV cache is a memory. Next words are here", "T", "", 1),
        ("a😀b😀", "😀", "a", 4),
    ],
)
@pytest.mark.parametrize("includes_stop", [False, True])
def test_ends_with_the_token_that_completes_the_stop_string(
    text: str, stop: str, shown: str, count: int, includes_stop: bool
) -> None:
    """Text, IDs, log-probs, and usage; in one chunk, in several, and one by one."""
    ids = ids_of(text)
    expected = shown + stop if includes_stop else shown
    for size in (1, 2, 4, 100):
        portions = [size] * -(-len(ids) // size)
        for is_chat in (False, True):
            got = answered(ids, portions, [stop], includes_stop, is_chat=is_chat)
            assert (got["text"], got["finish_reason"]) == (expected, "stop")
            assert got["token_ids"] == ids[:count]
            assert got["usage"]["completion_tokens"] == count
            assert {len(values) for values in got["logprobs"].values()} == {count}


@pytest.mark.parametrize("seed", range(300))
def test_portions_do_not_change_the_answer(seed: int) -> None:
    """With any stop strings, stop tokens, limits, and special tokens in between."""
    chance = random.Random(seed)
    text = "".join(chance.choices(["a", "b", " the", " cache", "é", "😀", "東", "\n"], k=14))
    ids = ids_of(text)
    for _ in range(chance.randrange(4)):
        ids.insert(chance.randrange(len(ids) + 1), chance.choice([end, begin, system, 200, 227]))
    if chance.random() < 0.3:  # ends within a code point
        ids += ids_of("😀")[:2]
    whole = tokenizer.decode(ids, False)
    at = chance.randrange(len(whole))
    options: dict[str, Any] = {
        "stops": chance.sample(
            [whole[at : at + chance.randrange(1, 6)], "a", "the", "\ufffd", "<|begin|>"], k=2
        ),
        "includes_stop": chance.random() < 0.5,
        "min_tokens": chance.choice([0, 0, 1, 3, 7]),
        "max_tokens": chance.choice([8, 12, 1000]),
        "stop_ids": chance.choice([(end,), (end, system), ()]),
        "shown_stops": chance.choice([(), (system,)]),
        "skips": chance.random() < 0.5,
        "is_chat": chance.random() < 0.5,
    }
    expected = answered(ids, [1] * len(ids), **options)
    for _ in range(5):
        portions = []
        while sum(portions) < len(ids):
            portions.append(chance.choice([0, 1, 2, 3, 5, 100]))
        got = answered(ids, portions, at_once=chance.random() < 0.5, **options)
        assert got == expected, (ids, portions, options)


def test_stop_token_behind_the_stop_string() -> None:
    """The stop string ends the answer; the stop token of the same chunk is not part of it."""
    ids = [*ids_of("one two"), end]
    got = answered(ids, [len(ids)], ["two"], shown_stops=(end,))
    assert (got["text"], got["token_ids"]) == ("one ", ids[:-1])
    assert got["usage"]["completion_tokens"] == len(ids) - 1


def test_stop_token_before_the_stop_string() -> None:
    ids = [*ids_of("one"), end, *ids_of(" two")]
    got = answered(ids, [len(ids)], ["two"])
    assert (got["text"], got["token_ids"], got["finish_reason"]) == ("one", ids[: ids.index(end) + 1], "stop")


def test_stop_string_amid_min_tokens() -> None:
    """A stop string within the first tokens does not end the answer; the same one later does."""
    ids = ids_of("a memory and a memory and")
    first = ids_of("a memory")
    got = answered(ids, [len(ids)], [" memory"], min_tokens=len(first))
    assert got["text"] == "a memory and a"
    assert got["token_ids"] == ids_of("a memory and a memory")


@pytest.mark.parametrize("stop", ["\ufffd", "a\ufffd"])
def test_text_held_back_at_the_end(stop: str) -> None:
    """The beginning of a stop string becomes text when the answer ends; all tokens belong to it."""
    ids = [*ids_of("a"), *ids_of("😀")[:2]]
    for portions in ([len(ids)], [1] * len(ids)):
        got = answered(ids, portions, [stop])
        assert got["text"] == "a"[: 2 - len(stop)]
        assert (got["token_ids"], got["finish_reason"]) == (ids, "stop")


def test_offsets_are_characters_of_the_text() -> None:
    """Omitted special tokens have no length; bytes of an emoji begin where it does."""
    ids = [*ids_of("a"), begin, *ids_of("😀b"), system, *ids_of("c")]
    got = answered(ids, [len(ids)], [], stop_ids=(end,))
    assert got["text"] == "a😀bc"
    assert got["logprobs"]["text_offset"] == [0, 1, 1, 1, 1, 2, 3, 3]
    shown = answered(ids, [3, len(ids)], [], skips=False)
    assert shown["text"] == tokenizer.decode(ids, False)
    assert shown["logprobs"]["text_offset"] == [0, 1, 10, 10, 10, 11, 12, 22]


def test_alternatives_with_the_same_text() -> None:
    """As many as the engine yields, and the token itself, each with a distinct name."""
    letter, smile = ids_of("a")[0], ids_of("😀")
    none = tokenizer.vocab_size + 5
    logprobs = _core.TokenLogprobs("completion_top", tokenizer.vocabulary)
    value: Any = {
        "logprob": -1.0,
        "top": [(smile[0], -2.0), (smile[1], -3.0), (none, -4.0), (none + 1, -5.0)],
    }
    [top] = logprobs.of([letter], [value])["top_logprobs"]
    assert top == {
        "a": -1.0,
        "bytes:\\xf0\\x9f": -2.0,
        "bytes:\\x98": -3.0,
        "": -4.0,
        f"token_id:{none + 1}": -5.0,
    }


def test_several_choices() -> None:
    """Each ends with its own token, through the whole library."""
    ids = ids_of("The KV cache is a memory. Next words are here")
    config = {"engine": "test_choice:Reciter", "python": {"path": [str(Path(__file__).parent)]}}
    with Runtime(config) as runtime:
        body = {"prompt": ids, "stop": [" memory"], "n": 3, "seed": 4, "max_tokens": 14}
        for stream in (True, False):
            choices = runtime.request({**body, "stream": stream}).result().choices
            assert {choice.text for choice in choices} == {"The KV cache is a"}
            assert [len(choice.token_ids) for choice in choices] == [6, 6, 6]


__all__ = ["Reciter"]

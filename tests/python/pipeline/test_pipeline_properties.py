# SPDX-License-Identifier: Apache-2.0
"""Properties of every answer of a token-level engine: any tokens, in any portions, with any stop strings,
against a reference that sees all of it at once.

DYNAMO_LLM_EXAMPLES sets how many answers each test tries.
"""

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from dynamo_llm import Runtime, _core
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from reliability import reliability

tokenizer = Tokenizer(ModelFolder(demo_model_dir()))
end_of_answer = 0
Whole = TypeVar("Whole", str, list[int])

thorough = settings(
    max_examples=int(os.environ.get("DYNAMO_LLM_EXAMPLES", "150")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

#: Letters that make matches likely, and code points of every length.
letters = st.sampled_from("aab b,\n\u00e9\u20ac\u6771\U0001f600")
texts = st.text(letters, max_size=40) | st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
stop_lists = st.lists(st.text(letters, min_size=1, max_size=4), max_size=4)


def ids_of(text: str) -> list[int]:
    """Encodes a text with the model's tokenizer."""
    return tokenizer.core.encode(text, add_special_tokens=False).ids


#: Any tokens, meaningful or not, except end tokens.
answers = texts.map(ids_of) | st.lists(st.integers(1, tokenizer.core.get_vocab_size() - 1), max_size=40)


def text_of(ids: list[int]) -> str:
    """Decodes all tokens at once."""
    return tokenizer.decode(ids, True)


def portions(whole: Whole, seed: int) -> Iterator[Whole]:
    """Splits tokens into pieces of any length."""
    chance = random.Random(seed)
    at = 0
    while at < len(whole):
        length = chance.choice((1, 1, 2, 3, 7, 100))
        yield whole[at : at + length]
        at += length


def cut(text: str, stops: list[str], includes_stop: bool) -> tuple[str, bool]:
    """Returns the text up to the stop string that completes first, and whether there is one."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return text, False
    end, start = min(found)
    return text[: end if includes_stop else start], True


@thorough
@given(texts, stop_lists, st.booleans(), st.integers(0, 1 << 30))
def test_stop_strings(text: str, stops: list[str], includes_stop: bool, seed: int) -> None:
    """Emitted text is never taken back, and only a possible beginning of a stop string is held back."""
    matcher = _core.StopStrings(stops, includes_stop)
    expected, has_stop = cut(text, stops, includes_stop)
    longest = max((len(stop) for stop in stops), default=1)
    shown, seen = "", 0
    for piece in portions(text, seed):
        shown += matcher.feed(piece)
        seen += len(piece)
        assert expected.startswith(shown)
        if not matcher.has_matched:
            assert len(shown) > seen - longest
    shown += matcher.flush()
    assert (shown, matcher.has_matched) == (expected, has_stop)
    reliability("a text in any pieces, with any stop strings", 1, "a reference's text; nothing taken back")


@thorough
@given(answers, answers, st.integers(0, 1 << 30))
def test_detokenizer(prompt: list[int], ids: list[int], seed: int) -> None:
    """The pieces add up to the whole text, and none contains half a code point."""
    detokenizer = _core.TokenDecoder(tokenizer.vocabulary, prompt)
    pieces = [detokenizer.feed(portion) for portion in portions(ids, seed)] + [detokenizer.flush()]
    # A code point that begins in the prompt belongs to the answer.
    known, whole = text_of(prompt), text_of(prompt + ids)
    same = next((at for at in range(len(known)) if whole[at : at + 1] != known[at]), len(known))
    expected = whole[same:]
    assert "".join(pieces) == expected
    if "\ufffd" not in expected:
        assert not any("\ufffd" in piece for piece in pieces)
    reliability("tokens in any portions through the detokenizer", 1, "the text of all at once")


class Reciter:
    """Repeats its prompt, in portions that depend on the request's seed."""

    kind = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Returns the demo model's tokenizer."""
        return {"path": str(demo_model_dir()), "context_length": 4096, "capabilities": ["seed"]}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Yields the prompt."""
        for portion in portions(request.token_ids, request.sampling.seed or 0):
            yield {"token_ids": portion}
        yield {"token_ids": [], "finish_reason": "stop"}

    def stop(self) -> None:
        """Does nothing."""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """A runtime with a Reciter."""
    with Runtime(
        engine=f"{Path(__file__).stem}:Reciter", python={"path": [str(Path(__file__).parent)]}
    ) as runtime:
        yield runtime


@thorough
@given(
    answers,
    stop_lists,
    st.booleans(),
    st.integers(0, 1 << 30),
    st.integers(1, 60),
    st.integers(0, 5),
    st.none() | st.integers(0, 40),
)
# A stop string that is found only at the end, because half a code point after it was held back.
@example([1966, 227], ["a"], False, 0, 1, 0, None)
def test_answers(
    runtime: Runtime,
    ids: list[int],
    stops: list[str],
    includes_stop: bool,
    seed: int,
    max_tokens: int,
    min_tokens: int,
    ends_at: int | None,
) -> None:
    """Text, finish reason, and counts; streamed and not."""
    assume(ids)
    if ends_at is not None:
        ids.insert(min(ends_at, len(ids)), end_of_answer)
    min_tokens = min(min_tokens, max_tokens)
    reason = "stop"
    said = ids[:max_tokens]
    ended = False
    for at, token in enumerate(said):
        if token == end_of_answer and at >= min_tokens:
            said, ended = said[:at], True
            break
    if not ended and len(ids) >= max_tokens:
        reason = "length"
    free = text_of(said[:min_tokens])
    assume(not free.endswith("\ufffd"))  # the end of its text depends on the next token
    text = text_of(said)
    assume(text.startswith(free))
    shown, has_stop = cut(text[len(free) :], stops, includes_stop)
    # Tokens up to the one that completes the stop string.
    completed = next(
        (
            count
            for count in range(min_tokens + 1, len(said) + 1)
            if any(stop in text_of(said[:count])[len(free) :] for stop in stops)
        ),
        len(said) + ended,
    )
    if has_stop:
        reason = "stop"
    body = {
        "prompt": ids,
        "stop": stops,
        "include_stop_str_in_output": includes_stop,
        "seed": seed,
        "max_tokens": max_tokens,
        "min_tokens": min_tokens,
    }
    for stream in (True, False):
        responses = list(runtime.request({**body, "stream": stream}))
        answer = "".join(response.text for response in responses)
        assert answer == free + shown
        assert responses[-1].finish_reason == reason
        usage = responses[-1].usage
        assert usage is not None
        counted = sum(len(response.token_ids) for response in responses)
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), counted)
        assert counted == (completed if has_stop else len(said) + ended)
    reliability("tokens in any portions, with any stop strings and bounds", 1, "a reference's text and usage")

# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of all kinds: the library, ``tokenizers`` and transformers give the same ids and texts."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compatibility import compatibility
from dynamo_llm import Tokenizer, _core
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer as PipelineTokenizer
from tokenizer_kinds import kinds
from tokenizers import Tokenizer as Core

os.environ.setdefault("HF_HUB_OFFLINE", "1")

texts = [
    "",
    "The quick brown fox",
    " leading, and trailing ",
    "two  blanks,   three; don't, it's, I'LL",
    "line\nline\r\n\n\ttab\n   indented",
    "Zürich, café, cafe\u0301, naïve, ﬁne, Ａ, ½, ①",
    "東京に行く、我是学生。안녕하세요 नमस्ते שלום مرحبا Привет",
    "😀👩‍👩‍👧 🏳️‍🌈🇨🇭, x😀y",
    "1234567890 3.14 2024-01-02 a1b22",
    "def f(x):\n    return {'a': [1, 2]}  # ok",
    "<|begin|>a<|end|> <s>b</s> [MASK] [SEP] <mask> <left> <right> <tool> fox foxes LOUD loud",
    "\u0000 odd \u200d \ufffd \u00a0 end",
    "HELLO WORLD",
    "a|b||c",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of all kinds, by name."""
    result = {}
    for name, make in kinds.items():
        result[name] = tmp_path_factory.mktemp("tokenizer")
        make().save(str(result[name] / "tokenizer.json"))
    return result


def prefixes(ids: list[int]) -> Iterator[list[int]]:
    for size in range(len(ids) + 1):
        yield ids[:size]


def streamed(tokenizer: PipelineTokenizer, prompt: list[int], ids: list[int], skips: bool, seed: int) -> str:
    chance = random.Random(seed)
    detokenizer = _core.TokenDecoder(tokenizer.vocabulary, prompt, skips)
    text, at = "", 0
    while at < len(ids):
        size = chance.choice([1, 1, 2, 5])
        text += detokenizer.feed(ids[at : at + size])
        at += size
    return text + detokenizer.flush()


@pytest.mark.parametrize("name", kinds)
@pytest.mark.parametrize("special", [True, False])
def test_against_tokenizers(name: str, special: bool, folders: dict[str, Path]) -> None:
    """Ids, texts, and texts token by token."""
    reference = Core.from_file(str(folders[name] / "tokenizer.json"))
    has_bytes = "byte fallback" in name
    with Tokenizer(model=folders[name]) as tokenizer:
        for text in texts:
            ids = reference.encode(text, add_special_tokens=special).ids
            assert tokenizer.encode(text, add_special_tokens=special) == ids
            whole = reference.decode(ids, skip_special_tokens=special)
            assert tokenizer.decode(ids, skip_special_tokens=special) == whole
            detokenizer = tokenizer.detokenizer(skip_special_tokens=special)
            assert "".join(map(detokenizer.add, ids)) + detokenizer.finish() == whole
    mine = PipelineTokenizer(ModelFolder(folders[name]))
    for seed, text in enumerate(texts):
        ids = reference.encode(text, add_special_tokens=special).ids
        for some in prefixes(ids):
            whole = reference.decode(some, skip_special_tokens=special)
            if not (has_bytes and "\ufffd" in whole):  # there, each stray byte counts, as in SentencePiece
                assert mine.decode(some, special) == whole
            assert streamed(mine, [], some, special, seed) == mine.decode(some, special)


@pytest.mark.parametrize("name", kinds)
@pytest.mark.parametrize("seed", range(3))
def test_any_ids(name: str, seed: int, folders: dict[str, Path]) -> None:
    """Ids that no text has: the answer's text is that of all tokens less that of the prompt."""
    chance = random.Random(seed)
    mine = PipelineTokenizer(ModelFolder(folders[name]))
    for _ in range(20):
        ids = [chance.randrange(mine.vocab_size) for _ in range(chance.randrange(1, 30))]
        if "byte fallback" not in name:
            assert mine.decode(ids, True) == mine.core.decode(ids)
        cut = chance.randrange(len(ids))
        before, whole = mine.decode(ids[:cut], True), mine.decode(ids, True)
        same = next((at for at in range(len(before)) if whole[at : at + 1] != before[at]), len(before))
        assert streamed(mine, ids[:cut], ids[cut:], True, seed) == whole[same:]


@pytest.mark.parametrize("name", kinds)
def test_against_transformers(name: str, folders: dict[str, Path]) -> None:
    """A fast tokenizer of transformers, made of the same file."""
    transformers: Any = pytest.importorskip("transformers", minversion="5")
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folders[name] / "tokenizer.json"))
    differences = []
    with Tokenizer(model=folders[name]) as tokenizer:
        for text in texts:
            for special in (True, False):
                ids = reference.encode(text, add_special_tokens=special)
                if tokenizer.encode(text, add_special_tokens=special) != ids:
                    differences.append(f"encode {text!r}")
                if tokenizer.decode(ids, special) != reference.decode(ids, skip_special_tokens=special):
                    differences.append(f"decode {text!r}")
                detokenizer = tokenizer.detokenizer(skip_special_tokens=special)
                pieces = "".join(map(detokenizer.add, ids)) + detokenizer.finish()
                if pieces != reference.decode(ids, skip_special_tokens=special):
                    differences.append(f"stream {text!r}")
    detail = "; ".join(differences) or f"encode, decode, and stream of {len(texts)} texts"
    compatibility("tokenizer", name, "differs" if differences else "equal", detail)
    assert not differences

# SPDX-License-Identifier: Apache-2.0
"""Decoders, one token at a time, compared with the library ``tokenizers``, which sees all tokens at once."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import _core
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Core

thorough = settings(
    max_examples=int(os.environ.get("DYNAMO_LLM_EXAMPLES", "150")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

#: Parts of tokens that are special for decoders.
parts = [
    "▁",
    " ",
    "##",
    "</w>",
    "|",
    "<pad>",
    "a",
    "b",
    "n't",
    " .",
    "é",
    "日",
    "\ufffd",
    "Ġ",
    "Ã",
    "©",
    "ð",
    "",
]
words = sorted({one + other for one in parts for other in parts} - {""})
byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]

ordinary: dict[str, Any] = {
    "none": None,
    "ByteLevel": decoders.ByteLevel(),
    "Sequence of ByteLevel": decoders.Sequence([decoders.ByteLevel()]),
    "WordPiece": decoders.WordPiece(),
    "WordPiece without cleanup": decoders.WordPiece(prefix="a", cleanup=False),
    "Metaspace": decoders.Metaspace(),
    "Metaspace never": decoders.Metaspace(prepend_scheme="never"),
    "Metaspace first": decoders.Metaspace(replacement="b", prepend_scheme="first"),
    "BPEDecoder": decoders.BPEDecoder(),
    "BPEDecoder with another suffix": decoders.BPEDecoder(suffix="é"),
    "CTC": decoders.CTC(),
    "CTC without cleanup": decoders.CTC(pad_token="a", word_delimiter_token="b", cleanup=False),
    "Replace and Strip": decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)]),
    "Replace and Metaspace": decoders.Sequence([decoders.Replace("##", "▁"), decoders.Metaspace()]),
    "Fuse and Replace": decoders.Sequence(
        [decoders.Fuse(), decoders.Replace("▁a", "!"), decoders.Strip(" ", 2, 0)]
    ),
    "CTC and Fuse": decoders.Sequence([decoders.CTC(), decoders.Fuse(), decoders.Strip("b", 3, 0)]),
    "Fuse and Metaspace": decoders.Sequence([decoders.Fuse(), decoders.Metaspace()]),
    "ByteLevel and Strip": decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]),
    "BPEDecoder and WordPiece": decoders.Sequence([decoders.BPEDecoder(), decoders.WordPiece()]),
}
with_bytes: dict[str, Any] = {
    "Llama 2": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "Gemma": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    "ByteFallback": decoders.ByteFallback(),
    "ByteFallback and Metaspace": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
}


def core_of(decoder: Any, vocabulary: Sequence[str]) -> Core:
    core = Core(models.WordLevel({word: id for id, word in enumerate(vocabulary)}, unk_token=vocabulary[0]))
    if decoder is not None:
        core.decoder = decoder
    core.add_special_tokens([AddedToken("<end>", special=True), AddedToken("<日>", special=True)])
    core.add_tokens(["tool", "▁x"])
    return core


@pytest.fixture(scope="module")
def tokenizers_of_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Tokenizers by the name of their decoder."""
    result = {}
    for name, decoder in {**ordinary, **with_bytes}.items():
        vocabulary = [*words, *byte_tokens] if name in with_bytes else words
        folder = tmp_path_factory.mktemp("tokenizer")
        core_of(decoder, vocabulary).save(str(folder / "tokenizer.json"))
        result[name] = Tokenizer(ModelFolder(folder))
    return result


def portions(ids: list[int], chance: random.Random) -> list[list[int]]:
    result = []
    while ids:
        size = chance.choice([1, 1, 1, 2, 3, 9])
        result.append(ids[:size])
        ids = ids[size:]
    return result


def streamed(tokenizer: Tokenizer, prompt: list[int], ids: list[int], skips: bool, seed: int) -> str:
    """Joins the pieces; half of them come from a copy, and what it is a copy of goes on differently."""
    chance = random.Random(seed)
    decoder = _core.TokenDecoder(tokenizer.vocabulary, prompt, skips)
    text = ""
    for portion in portions(ids, chance):
        if chance.random() < 0.5:
            decoder, other = decoder.copy(), decoder
            other.feed([0])
        text += decoder.feed(portion)
    return text + decoder.flush()


def added(whole: str, before: str) -> str:
    """Returns a text without its common prefix with another."""
    same = 0
    while same < min(len(whole), len(before)) and whole[same] == before[same]:
        same += 1
    return whole[same:]


ids_of_words = st.lists(st.integers(0, len(words) + 4), max_size=14)
texts = st.text(st.sampled_from("ab é€東😀\ufffd"), max_size=6)


@pytest.mark.parametrize("name", ordinary)
@thorough
@given(ids_of_words, ids_of_words, st.booleans(), st.integers(0, 1 << 30))
def test_same_text_as_the_library(
    tokenizers_of_all: dict[str, Tokenizer],
    name: str,
    prompt: list[int],
    ids: list[int],
    skips: bool,
    seed: int,
) -> None:
    """Every prefix of any tokens; IDs without a token are omitted."""
    tokenizer = tokenizers_of_all[name]
    before = tokenizer.core.decode(prompt, skip_special_tokens=skips)
    whole = tokenizer.core.decode(prompt + ids, skip_special_tokens=skips)
    assert tokenizer.decode(prompt + ids, skips) == whole
    assert streamed(tokenizer, [], prompt + ids, skips, seed) == whole
    assert streamed(tokenizer, prompt, ids, skips, seed) == added(whole, before)


@pytest.mark.parametrize("name", with_bytes)
@thorough
@given(st.lists(ids_of_words | texts, max_size=8), st.integers(0, 40), st.booleans(), st.integers(0, 1 << 30))
def test_bytes_that_are_text(
    tokenizers_of_all: dict[str, Tokenizer], name: str, given_: list[Any], cut: int, skips: bool, seed: int
) -> None:
    """Text in byte tokens between other tokens."""
    tokenizer = tokenizers_of_all[name]
    ids: list[int] = []
    for one in given_:
        if isinstance(one, str):
            ids += [len(words) + byte for byte in one.encode()]
        else:
            ids += [id if id < len(words) else id + len(byte_tokens) for id in one]
    whole = tokenizer.core.decode(ids, skip_special_tokens=skips)
    assert tokenizer.decode(ids, skips) == whole
    assert streamed(tokenizer, [], ids, skips, seed) == whole
    before = tokenizer.decode(ids[:cut], skips)
    assert streamed(tokenizer, ids[:cut], ids[cut:], skips, seed) == added(whole, before)


@pytest.mark.parametrize("name", with_bytes)
@thorough
@given(st.lists(st.integers(0, len(words) + 260), max_size=20), st.integers(0, 20), st.integers(0, 1 << 30))
def test_any_bytes(
    tokenizers_of_all: dict[str, Tokenizer], name: str, ids: list[int], cut: int, seed: int
) -> None:
    """Portions of any tokens have the same text as ``decode()`` of all."""
    tokenizer = tokenizers_of_all[name]
    whole = tokenizer.decode(ids, False)
    assert streamed(tokenizer, [], ids, False, seed) == whole
    before = tokenizer.decode(ids[:cut], False)
    assert streamed(tokenizer, ids[:cut], ids[cut:], False, seed) == added(whole, before)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # SentencePiece 0.2.3 decodes the same pieces to this.
        ("😀😀".encode()[:-1], "😀\ufffd\ufffd\ufffd"),
        (b"\x9f\x9f", "\ufffd\ufffd"),
        (b"\xc3\xa9\xff\xc3\xa9", "é\ufffdé"),
        (b"\xf0\x9f\xf0\x9f\x98\x80", "\ufffd\ufffd😀"),
        (b"\xe2\x82", "\ufffd\ufffd"),
    ],
)
@pytest.mark.parametrize("name", ["Llama 2", "Gemma", "ByteFallback"])
def test_stray_bytes(tokenizers_of_all: dict[str, Tokenizer], name: str, data: bytes, text: str) -> None:
    """Each is one U+FFFD, and characters beside them are unchanged."""
    tokenizer = tokenizers_of_all[name]
    ids = [len(words) + byte for byte in data]
    assert tokenizer.decode(ids, True) == text
    for seed in range(5):
        assert streamed(tokenizer, [], ids, True, seed) == text


@pytest.mark.parametrize(
    ("prompt", "answer", "text"),
    [
        (["▁a", "\ufffd"], ["▁a"], " a"),
        (["▁a", "<0xE2>"], ["▁a"], " a"),
        (["▁a", "<0xE2>", "<0x82>"], ["<0xAC>", "a"], "€a"),
        (["▁a", "<0xE2>"], ["<0x82>", "a"], "\ufffda"),
        (["<0x80>"], ["a"], "a"),
        (["<end>"], ["▁a", "▁a"], "a a"),
        ([], ["▁a", "▁a"], "a a"),
        (["<end>", "▁a", "<end>"], ["▁a"], " a"),
    ],
)
def test_prompt_that_ends_amid_a_text(
    tokenizers_of_all: dict[str, Tokenizer], prompt: list[str], answer: list[str], text: str
) -> None:
    """The text of all tokens, without the text of the prompt."""
    tokenizer = tokenizers_of_all["Llama 2"]
    ids = [tokenizer.token_id(token) for token in answer]
    before = [tokenizer.token_id(token) for token in prompt]
    for seed in range(5):
        assert streamed(tokenizer, before, ids, True, seed) == text


@pytest.mark.parametrize("name", [*ordinary, *with_bytes])
def test_long_prompts(tokenizers_of_all: dict[str, Tokenizer], name: str) -> None:
    """Only the beginning and the end of a long prompt are decoded."""
    tokenizer = tokenizers_of_all[name]
    chance = random.Random(name)
    for _ in range(20):
        ids = [chance.randrange(tokenizer.vocab_size) for _ in range(chance.randrange(20, 400))]
        cut = len(ids) - chance.randrange(5)
        expected = added(tokenizer.decode(ids, True), tokenizer.decode(ids[:cut], True))
        assert streamed(tokenizer, ids[:cut], ids[cut:], True, 1) == expected


@pytest.mark.parametrize(
    ("name", "token", "data"),
    [
        ("ByteLevel", "Ġa", b" a"),
        ("ByteLevel", "Ã©", "é".encode()),
        ("ByteLevel", "ð", b"\xf0"),
        ("ByteLevel", "日a", "日a".encode()),
        ("ByteLevel", "<日>", "<日>".encode()),
        ("Llama 2", "▁a", b" a"),
        ("Llama 2", "<0xF0>", b"\xf0"),
        ("Metaspace", "▁a", b" a"),
        ("WordPiece", "##a", b"a"),
        ("WordPiece", "a", b" a"),
        ("BPEDecoder", "a</w>", b"a "),
        ("CTC", "|a", b" a"),
        ("none", "a", b" a"),
    ],
)
def test_bytes_of_tokens(tokenizers_of_all: dict[str, Tokenizer], name: str, token: str, data: bytes) -> None:
    """The bytes that a token adds to a text, between others."""
    tokenizer = tokenizers_of_all[name]
    id = tokenizer.token_id(token)
    assert id is not None
    assert tokenizer.token_bytes(id) == data


def test_byte_level_alphabet(tmp_path: Path) -> None:
    """Each letter is the same byte as in the library."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = core_of(decoders.ByteLevel(), letters)
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(ModelFolder(tmp_path))
    whole = "".join(chr(code) for code in range(0x20, 0x2500))
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    [(tokens, _)] = pre_tokenizer.pre_tokenize_str(whole)
    assert b"".join(tokenizer.token_bytes(letters.index(token)) for token in tokens) == whole.encode()


def test_unknown_decoder(tmp_path: Path) -> None:
    """A decoder that the library cannot read is rejected by name."""
    core_of(decoders.ByteLevel(), words).save(str(tmp_path / "tokenizer.json"))
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    description["decoder"]["type"] = "Mystery"
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(Exception, match="is not a valid tokenizer"):
        Tokenizer(ModelFolder(tmp_path))

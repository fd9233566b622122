# SPDX-License-Identifier: Apache-2.0
"""Tokenizers built from the metadata of GGUF files."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from dynamo_llm import ModelNotFoundError, NotSupportedError, Runtime
from tokenizers import pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer

gguf_metadata, gguf_split, gguf_tokenizer = (
    importlib.import_module(f"dynamo_llm.runtime.engines.mistralrs.{name}")
    for name in ("gguf_metadata", "gguf_split", "gguf_tokenizer")
)

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_SCORED = {
    "▁": -20.0,
    "H": -21.0,
    "e": -22.0,
    "l": -23.0,
    "o": -24.0,
    "ll": -1.0,
    "lo": -1.5,
    "▁H": -2.0,
    "el": -3.0,
    "llo": -4.0,
    "ello": -5.0,
    "▁Hello": -9.0,
    "▁▁": -10.0,
}
_FIRST = 3 + 256


def sentence_piece(**more: Any) -> dict[str, Any]:
    """Returns the metadata of a SentencePiece vocabulary, whose longest tokens have the lowest scores."""
    tokens = ["<unk>", "<s>", "</s>", *_BYTES, *_SCORED, "<mark>"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * _FIRST + [*_SCORED.values(), 0.0],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(_SCORED) + [4],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def letters() -> list[str]:
    """Returns the letters of byte-level tokenizers, by byte."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    result, more = [], 0
    for byte in range(256):
        result.append(chr(byte) if byte in printed else chr(256 + more))
        more += byte not in printed
    return result


def byte_level(pre: str | None, **more: Any) -> dict[str, Any]:
    """Returns the metadata of a byte-level vocabulary."""
    tokens = ["<unk>", "<s>", "</s>", *letters(), "He", "HeH"]
    return {
        "tokenizer.ggml.model": "gpt2",
        **({} if pre is None else {"tokenizer.ggml.pre": pre}),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["H e"],
        "tokenizer.ggml.token_type": [3] * 3 + [1] * 258,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def tokenizer(monkeypatch: pytest.MonkeyPatch, metadata: dict[str, Any]) -> Any:
    gguf_file = gguf_tokenizer.gguf_file
    monkeypatch.setattr(gguf_file, "read", lambda path: gguf_file.Header(metadata, {}))
    return gguf_tokenizer.of(Path("model.gguf"))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello", ["▁Hello"]),
        ("ello", ["▁", "ello"]),
        ("Hell", ["▁H", "e", "ll"]),  # "ll" is better than "el"
        ("Helo", ["▁H", "e", "lo"]),
        ("lllo", ["▁", "ll", "lo"]),
        ("Hello Hello", ["▁Hello", "▁Hello"]),
        (" Hello", ["▁", "▁Hello"]),
        ("  e", ["▁▁", "▁", "e"]),
        ("", []),
        ("é", ["▁", "<0xC3>", "<0xA9>"]),
        ("e\ne", ["▁", "e", "<0x0A>", "e"]),
        ("He<mark>e", ["▁H", "e", "<mark>", "▁", "e"]),
        ("</s>e", ["</s>", "▁", "e"]),
    ],
)
def test_sentence_piece(monkeypatch: pytest.MonkeyPatch, text: str, tokens: list[str]) -> None:
    """The pair with the best score is merged first, as in SentencePiece and llama.cpp."""
    made = tokenizer(monkeypatch, sentence_piece())
    assert made.core.encode(text, add_special_tokens=False).tokens == tokens
    assert made.core.encode(text).tokens == ["<s>", *tokens]


def test_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata define BOS, EOS, and the blank at the beginning; SentencePiece adds BOS by default."""
    for more, tokens in (
        ({}, ["<s>", "▁H", "e"]),
        ({"add_bos_token": True}, ["<s>", "▁H", "e"]),
        ({"add_bos_token": False}, ["▁H", "e"]),
        ({"add_eos_token": True}, ["<s>", "▁H", "e", "</s>"]),
        ({"add_space_prefix": False}, ["<s>", "H", "e"]),
    ):
        assert tokenizer(monkeypatch, sentence_piece(**more)).core.encode("He").tokens == tokens
    for pre, more, tokens in (
        ("gpt-2", {}, ["He"]),
        ("gpt-2", {"add_bos_token": True}, ["<s>", "He"]),
        ("llama-bpe", {}, ["<s>", "He"]),
        ("llama-bpe", {"add_bos_token": False}, ["He"]),
        ("qwen2", {"add_bos_token": True, "add_eos_token": True}, ["<s>", "He", "</s>"]),
    ):
        assert tokenizer(monkeypatch, byte_level(pre, **more)).core.encode("He").tokens == tokens


def test_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """IDs decode to the text again, with and without the blank at the beginning."""
    for metadata in (sentence_piece(), sentence_piece(add_space_prefix=False), byte_level("qwen2")):
        made = tokenizer(monkeypatch, metadata)
        for text in ("Hello", " Hello  lo", "né\t日本 😀", "a\r\n\n b", "12345"):
            assert made.decode(made.core.encode(text).ids, skip_special_tokens=True) == text


def test_merges_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In some families a word that is a token is always that token."""
    assert tokenizer(monkeypatch, byte_level("gpt-2")).core.encode("HeH").tokens == ["He", "H"]
    assert tokenizer(monkeypatch, byte_level("llama-bpe")).core.encode("HeH").tokens == ["<s>", "HeH"]


_TEXT = (
    "I'm here, I'LL pay $1234567.50 for 3 CamelCase_words!\r\n\r\n  Grüße  \t日本語です 12\n"
    "don't; e.g. (x+y)  =   z |a| ~b^c` <d> 'tis ÀÉ ٣٤٥ 😀😀 a/b\n"
)


@pytest.mark.parametrize(
    ("pre", "reference"),
    [
        ("gpt-2", ByteLevel(False, use_regex=True)),
        ("starcoder", pre_tokenizers.Sequence([Digits(True), ByteLevel(False, use_regex=True)])),
        ("command-r", pre_tokenizers.Sequence([Digits(True), ByteLevel(False, use_regex=True)])),
    ],
)
def test_splits_like(monkeypatch: pytest.MonkeyPatch, pre: str, reference: PreTokenizer) -> None:
    """Words are split as by the pre-tokenizer of the family on Hugging Face."""
    core = tokenizer(monkeypatch, byte_level(pre)).core
    assert core.pre_tokenizer.pre_tokenize_str(_TEXT) == reference.pre_tokenize_str(_TEXT)


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("llama-bpe", "I'LL pay 12345", ["I", "'LL", "Ġpay", "Ġ", "123", "45"]),
        ("llama-bpe", "a!\n\nb  c", ["a", "!ĊĊ", "b", "Ġ", "Ġc"]),
        ("qwen2", "I'LL pay 123", ["I", "'LL", "Ġpay", "Ġ", "1", "2", "3"]),
        ("dbrx", "x=1234", ["x", "=", "123", "4"]),
        ("tekken", "CamelCase's 12", ["Camel", "Case", "'s", "Ġ", "1", "2"]),
        ("gpt-4o", "CamelCase's 1234/\n", ["Camel", "Case's", "Ġ", "123", "4", "/Ċ"]),
        ("deepseek-v3", "12345 a+b", ["123", "45", "Ġa", "+b"]),
        ("deepseek-coder", "a b\n12", ["a", "Ġb", "Ċ", "1", "2"]),
        ("smollm", "ab 12", ["ab", "Ġ", "1", "2"]),
        ("default", "a 12", ["a", "Ġ", "12"]),
    ],
)
def test_words(monkeypatch: pytest.MonkeyPatch, pre: str, text: str, words: list[str]) -> None:
    """Words that distinguish the families."""
    core = tokenizer(monkeypatch, byte_level(pre)).core
    assert [word for word, _ in core.pre_tokenizer.pre_tokenize_str(text)] == words


@pytest.mark.parametrize("pre", sorted(gguf_split.known))
def test_each_split(monkeypatch: pytest.MonkeyPatch, pre: str) -> None:
    """No family loses any part of a text."""
    made = tokenizer(monkeypatch, byte_level(pre))
    assert made.decode(made.core.encode(_TEXT).ids, skip_special_tokens=True) == _TEXT


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        (byte_level("made-up"), NotSupportedError, "'made-up'.*known are gpt-2"),
        (byte_level(None), NotSupportedError, r'no "tokenizer\.ggml\.pre".*options\.tokenizer_json'),
        (byte_level("qwen2", model="rwkv"), NotSupportedError, "'rwkv'.*supported are gpt2, llama"),
        (byte_level("qwen2", model="t5"), NotSupportedError, "'t5'"),
        (byte_level("qwen2", model="bert"), NotSupportedError, "'bert'"),
        (byte_level("qwen2", merges=["He"]), ModelNotFoundError, "the merge 'He'"),
        (byte_level("qwen2", merges=["H x9"]), ModelNotFoundError, "broken tokenizer"),
        (byte_level("qwen2", merges=None), ModelNotFoundError, r"no \"tokenizer\.ggml\.merges"),
        (byte_level("qwen2", tokens=[]), ModelNotFoundError, r"tokenizer\.ggml\.tokens"),
        (byte_level("qwen2", token_type=[1]), ModelNotFoundError, r"token_type.*261 numbers"),
        (sentence_piece(scores=[1.0]), ModelNotFoundError, r"scores.*273 numbers"),
        (byte_level("qwen2", bos_token_id=None, add_bos_token=True), ModelNotFoundError, "bos_token_id"),
    ],
)
def test_rejected_metadata(
    monkeypatch: pytest.MonkeyPatch, metadata: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Unknown and broken metadata."""
    with pytest.raises(error, match=message):
        tokenizer(monkeypatch, metadata)


def test_end_tokens() -> None:
    """EOS, EOT, EOM, and known tokens that end a turn."""
    tokens = ["a", "<|im_end|>", "<end_of_turn>", "<|eot_id|>", "b"]
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1, 1, 3, 4, 3]}
    assert gguf_metadata.end_token_ids(metadata) == [2, 3]
    named = {f"tokenizer.ggml.{name}_token_id": id for name, id in (("eos", 4), ("eot", 2), ("eom", 99))}
    assert gguf_metadata.end_token_ids(metadata | named) == [4, 2, 3]
    assert gguf_metadata.end_token_ids({}) == []


def test_engine(tmp_path: Path) -> None:
    """The engine accepts the IDs of this tokenizer."""
    with Runtime(model=tiny_models.gguf(tmp_path / "tiny.gguf")) as runtime:
        result = runtime.complete("What is a KV cache?", max_tokens=1).result()
        assert result.usage is not None and result.usage.prompt_tokens == 6

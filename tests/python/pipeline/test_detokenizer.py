# SPDX-License-Identifier: Apache-2.0
"""Text from tokens in any portions: always the text of all tokens at once."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import _core
from dynamo_llm._core import StopStrings, TokenDecoder
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Core

corpus = [
    "the quick brown fox jumps over the lazy dog",
    "Zürich 東京 hello you the then these",
    "a b  c\n\nd",
] * 20
texts = [
    "the quick 😀 fox",
    "Zürich, 東京! 👩‍👩‍👧 family",
    " leading space  and two",
    "é" * 7 + "🇨🇭" * 3,
    "plain",
    "line\nline\n\n\ttab",
    "\u0000 odd \u200d",
]


def byte_level() -> Core:
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    return core


def byte_fallback() -> Core:
    """Returns a tokenizer like SentencePiece's with bytes: Llama 2 and Mistral."""
    words = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for piece in ["▁", *"abcdefghijklmnopqrstuvwxyz,!.", "▁t", "▁th", "▁the", "he"]:
        words.setdefault(piece, len(words))
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("h", "e")]
    core = Core(models.BPE(words, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core


def metaspace() -> Core:
    core = Core(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.train_from_iterator(
        [*corpus, *texts],
        trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"]),
    )
    return core


def word_piece() -> Core:
    core = Core(models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    core.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"]))
    return core


kinds: dict[str, Callable[[], Core]] = {
    "byte level": byte_level,
    "byte fallback": byte_fallback,
    "metaspace": metaspace,
    "word piece": word_piece,
}


@pytest.fixture(scope="module", params=kinds)
def tokenizer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One tokenizer of each kind, with special tokens."""
    return saved(kinds[request.param](), tmp_path_factory.mktemp("tokenizer"))


def saved(core: Core, folder: Path) -> Tokenizer:
    core.add_special_tokens([AddedToken("<|end|>", special=True), AddedToken("<|user|>", special=True)])
    core.save(str(folder / "tokenizer.json"))
    return Tokenizer(ModelFolder(folder))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.core.encode(text, add_special_tokens=False).ids


def portions(ids: list[int], random_: random.Random, most: int) -> list[list[int]]:
    result = []
    while ids:
        size = random_.randint(1, most)
        result.append(ids[:size])
        ids = ids[size:]
    return result


def fed(detokenizer: TokenDecoder, parts: list[list[int]]) -> list[str]:
    return [*(detokenizer.feed(part) for part in parts), detokenizer.flush()]


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_any_portions(tokenizer: Tokenizer, skips: bool, seed: int) -> None:
    """Prompt and answer together decode to the prompt's text and then the streamed text."""
    random_ = random.Random(seed)
    special = [tokenizer.token_id("<|end|>"), tokenizer.token_id("<|user|>")]
    for text in texts:
        ids = ids_of(tokenizer, text)
        for _ in range(random_.randint(0, 3)):
            at = random_.randint(0, len(ids))
            while tokenizer.decode(ids[:at], skips).endswith("\ufffd"):  # within a code point
                at -= 1
            ids.insert(at, random_.choice(special))
        for cut in {0, len(ids) // 2}:
            prompt, answer = ids[:cut], ids[cut:]
            # A code point that begins in the prompt belongs to the answer.
            while prompt and tokenizer.decode(prompt, skips).endswith("\ufffd"):
                answer.insert(0, prompt.pop())
            whole = tokenizer.decode(ids, skips)
            expected = whole[len(tokenizer.decode(prompt, skips)) :]
            pieces = fed(TokenDecoder(tokenizer.vocabulary, prompt, skips), portions(answer, random_, 3))
            assert "".join(pieces) == expected
            if "\ufffd" not in expected:
                assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("seed", range(20))
def test_stop_strings_in_any_portions(tokenizer: Tokenizer, seed: int) -> None:
    """The text ends before the stop string, or after it, and no part of it leaks."""
    random_ = random.Random(seed)
    for text in texts:
        ids = ids_of(tokenizer, text)
        whole = tokenizer.decode(ids, True)
        if not whole:
            continue  # none of its characters is in the vocabulary
        at = random_.randrange(len(whole))
        stop = whole[at : at + random_.randint(1, 4)]
        for includes in (False, True):
            stops = StopStrings([stop, "never this"], includes)
            detokenizer = TokenDecoder(tokenizer.vocabulary)
            shown = ""
            for part in portions(ids, random_, 4):
                shown += stops.feed(detokenizer.feed(part))
                assert whole.startswith(shown)
            shown += stops.feed(detokenizer.flush()) + stops.flush()
            assert stops.has_matched
            assert shown == whole[: whole.index(stop) + (len(stop) if includes else 0)]


def test_the_stop_string_that_completes_first() -> None:
    """For two that overlap, one chunk gives the same as single letters."""
    for text in ("xabcd", "xabxbcd", "aab"):
        for stops in (["abcd", "bc"], ["bc", "abcd"], ["ab", "b"]):
            results = set()
            for size in (1, 2, 9):
                cutter = StopStrings(stops)
                pieces = [cutter.feed(text[at : at + size]) for at in range(0, len(text), size)]
                results.add("".join(pieces) + cutter.flush())
            assert len(results) == 1, (text, stops, results)


def test_a_code_point_is_held_back(tmp_path: Path) -> None:
    """Nothing of an emoji is shown until its last token; then all of it."""
    tokenizer = saved(byte_level(), tmp_path)
    ids = ids_of(tokenizer, "😀")
    assert len(ids) == 4
    assert fed(TokenDecoder(tokenizer.vocabulary), [[one] for one in ids]) == ["", "", "", "😀", ""]
    assert fed(TokenDecoder(tokenizer.vocabulary), [ids[:3]])[-1] == "\ufffd"


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_bytes_that_are_not_text(kind: str, tmp_path: Path) -> None:
    """Each is shown at once, and the text after them is complete."""
    tokenizer = saved(kinds[kind](), tmp_path)
    broken = ids_of(tokenizer, "😀")[1]
    if kind == "byte fallback":
        broken = tokenizer.token_id("<0x9F>") or 0
    detokenizer = TokenDecoder(tokenizer.vocabulary)
    pieces = [detokenizer.feed([broken]) for _ in range(3000)]
    shown = "".join(pieces)
    assert len(shown) == 3000 and set(shown) == {"\ufffd"}
    smile = ids_of(tokenizer, "😀")[-4:]
    rest = "".join(fed(detokenizer, [[one] for one in smile]))
    assert rest == "😀"


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("byte level", "é 😀", ["é".encode(), b" \xf0\x9f\x98\x80"]),
        ("byte fallback", "the é", [b" the", b" ", "é".encode()]),
    ],
)
def test_bytes_of_tokens(kind: str, text: str, wanted: list[bytes], tmp_path: Path) -> None:
    """A token's bytes are those that it represents, even if they are not text alone."""
    tokenizer = saved(kinds[kind](), tmp_path)
    ids = ids_of(tokenizer, text)
    assert b"".join(tokenizer.token_bytes(one) for one in ids) == b"".join(wanted)
    assert tokenizer.token_bytes(tokenizer.token_id("<|end|>")) == b"<|end|>"
    assert tokenizer.token_bytes(100000) == b""


def test_offsets(tmp_path: Path) -> None:
    """Offsets of a completion's tokens are characters of its text; bytes of an emoji begin where it does."""
    tokenizer = saved(byte_level(), tmp_path)
    ids = ids_of(tokenizer, "a😀b")
    logprobs = _core.TokenLogprobs("completion", tokenizer.vocabulary)
    values: list[Any] = [{"logprob": -1.0}] * len(ids)
    first = logprobs.of(ids[:3], values[:3])
    rest = logprobs.of(ids[3:], values[3:])
    assert first["text_offset"] + rest["text_offset"] == [0, 1, 1, 1, 1, 2]
    assert first["tokens"] == ["a", "bytes:\\xf0", "bytes:\\x9f"]


@pytest.mark.parametrize("file_adds", [True, False])
@pytest.mark.parametrize("wanted", [True, False, None])
def test_special_tokens_of_prompts(file_adds: bool, wanted: bool | None, tmp_path: Path) -> None:
    """BOS begins a text once, if the tokenizer or its configuration adds it; a template writes it itself."""
    core = byte_level()
    core.add_special_tokens([AddedToken("<s>", special=True)])
    bos = core.token_to_id("<s>")
    if file_adds:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    config = {"bos_token": "<s>", **({} if wanted is None else {"add_bos_token": wanted})}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = saved(core, tmp_path)
    for text in ("the fox", "the fox " * 1000):
        plain = ids_of(tokenizer, text)
        begins = file_adds if wanted is None else wanted
        completion = asyncio.run(tokenizer.encode(text, add_special_tokens=True))
        assert completion == ([bos, *plain] if begins else plain)
        assert asyncio.run(tokenizer.encode("<s>" + text, add_special_tokens=False)) == [bos, *plain]

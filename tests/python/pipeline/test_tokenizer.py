# SPDX-License-Identifier: Apache-2.0
"""The tokenizer, compared with the library ``tokenizers``."""

import asyncio
import gc
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tokenizers
from conftest import engine, run_python
from dynamo_llm import Tokenizer, paths
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

demo = tokenizers.Tokenizer.from_file(str(paths.demo_model_dir() / "tokenizer.json"))

texts = [
    "",
    "What is a KV cache?",
    "  two  spaces, a\ttab and\n\nlines ",
    "héllo wörld, ¿qué? naïve",
    "日本語のテキスト、और हिन्दी, ไทย",
    "😀👩‍👩‍👧 🏳️‍🌈 e\u0301",
    "a\0b",
    "<|begin|> is a special token<|end|>",
    "\ufffd is a character, too: \ufffd",
]


# --------------------------------------------------------------------------------- tokenizers of all kinds


def byte_level() -> tokenizers.Tokenizer:
    """Returns a tokenizer like GPT-2, Llama 3, and Qwen: tokens are bytes."""
    return demo


def byte_fallback() -> tokenizers.Tokenizer:
    """Returns a tokenizer like Llama 2 and Mistral: "▁" is a space, one is put in front, and unknown
    characters are bytes.
    """
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyzW?é", "日", "본"]
    merges = [("▁", "h"), ("▁", "a"), ("l", "l"), ("▁h", "e"), ("▁", "▁"), ("i", "s")]
    vocabulary = [*words, *letters, *(one + other for one, other in merges)]
    model = models.BPE(
        {word: id for id, word in enumerate(vocabulary)},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", left=1, right=0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in ("<unk>", "<s>", "</s>")])
    return tokenizer


def metaspace() -> tokenizers.Tokenizer:
    """Returns a tokenizer like T5: "▁" begins words, and the decoder drops the first one of a text."""
    letters = ["<unk>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyzW?,é", "▁h", "▁a", "▁is"]
    model = models.Unigram([(letter, -1.0 - len(letter) / 10) for letter in letters], unk_id=0)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    return tokenizer


kinds: list[Callable[[], tokenizers.Tokenizer]] = [byte_level, byte_fallback, metaspace]


def opened(reference: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    reference.save(str(folder / "tokenizer.json"))
    return Tokenizer(model=folder, trust_request_chat_template=True)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(trust_request_chat_template=True)


# ------------------------------------------------------------------------------------------ whole texts


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("special", [True, False])
def test_whole_texts(kind: Callable[[], tokenizers.Tokenizer], special: bool, tmp_path: Path) -> None:
    """Encoding and decoding give the same as the library ``tokenizers``."""
    reference = kind()
    with opened(reference, tmp_path) as mine:
        for text in texts:
            ids = mine.encode(text, add_special_tokens=special)
            assert ids == reference.encode(text, add_special_tokens=special).ids, text
            assert mine.decode(ids, skip_special_tokens=special) == reference.decode(
                ids, skip_special_tokens=special
            )
            assert mine.decode(ids, not special) == reference.decode(ids, skip_special_tokens=not special)


def test_decoding_restores_the_text(tokenizer: Tokenizer) -> None:
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == text


def test_long_texts(tokenizer: Tokenizer) -> None:
    """No stream capacity applies; long work is done in a thread."""
    text = "What is a KV cache? " * 20_000
    ids = tokenizer.encode(text)
    assert ids == demo.encode(text).ids
    assert len(ids) > 100_000
    assert tokenizer.decode(ids) == text
    detokenizer = tokenizer.detokenizer()
    assert detokenizer.add(ids) + detokenizer.finish() == text


def test_ids_may_be_any_sequence(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a b")
    assert tokenizer.decode(tuple(ids)) == tokenizer.decode(range(ids[0], ids[0] + 1)) + " b"


def test_info(tokenizer: Tokenizer, tmp_path: Path) -> None:
    info = tokenizer.info
    assert info == {
        "path": str(paths.demo_model_dir()),
        "vocabulary_size": 2048,
        "largest_token_id": 2047,
        "special_tokens": {"<|end|>": 0, "<|begin|>": 1, "<|system|>": 2, "<|user|>": 3, "<|assistant|>": 4},
        "bos_token_id": 1,
        "eos_token_ids": [0],
        "has_chat_template": True,
        "context_length": 1024,
    }
    with opened(metaspace(), tmp_path) as plain:
        assert plain.info["has_chat_template"] is False
        assert plain.info["eos_token_ids"] == []
        assert not plain.info.keys() & {"bos_token_id", "context_length"}


def test_eos_by_name(tmp_path: Path) -> None:
    """Without other files of a model, the tokenizer's own EOS counts; the configuration may name the
    tokenizer.json itself.
    """
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}, "bos_token": "<s>"}')
    byte_fallback().save(str(tmp_path / "tokenizer.json"))
    with Tokenizer({"model": str(tmp_path / "tokenizer.json")}) as mine:
        assert (mine.info["bos_token_id"], mine.info["eos_token_ids"]) == (1, [2])


# ------------------------------------------------------------------------------------------- bit by bit


def splits(ids: list[int], chance: random.Random) -> list[list[int]]:
    """Splits the IDs into pieces of all sizes, including empty ones."""
    pieces = []
    while ids:
        size = chance.choice([0, 1, 1, 1, 2, 3, 7, len(ids)])
        pieces.append(ids[:size])
        ids = ids[size:]
    return pieces


def check_bit_by_bit(mine: Tokenizer, ids: list[int], skips: bool, chance: random.Random) -> None:
    whole = mine.decode(ids, skip_special_tokens=skips)
    detokenizer = mine.detokenizer(skip_special_tokens=skips)
    for _ in range(3):  # one after the other, by the same detokenizer
        pieces = [detokenizer.add(piece) for piece in splits(ids, chance)]
        assert "".join(pieces) + detokenizer.finish() == whole, (ids, pieces)


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("skips", [True, False])
def test_texts_in_pieces(kind: Callable[[], tokenizers.Tokenizer], skips: bool, tmp_path: Path) -> None:
    """However IDs are split, the pieces make the text of all of them."""
    chance = random.Random(7)
    with opened(kind(), tmp_path) as mine:
        for text in texts:
            check_bit_by_bit(mine, mine.encode(text), skips, chance)


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("seed", range(8))
def test_random_texts_in_pieces(kind: Callable[[], tokenizers.Tokenizer], seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    letters = [*"  ab hello is W?\n", "é", "日", "本", "语", "😀", "\u0301", "<s>", "</s>", "<|end|>", "\0"]
    with opened(kind(), tmp_path) as mine:
        for _ in range(10):
            text = "".join(chance.choices(letters, k=chance.randrange(40)))
            check_bit_by_bit(mine, mine.encode(text), chance.random() < 0.5, chance)


@pytest.mark.parametrize("seed", range(4))
def test_words_in_any_order(seed: int, tmp_path: Path) -> None:
    """IDs that no text has, but that are whole characters: special tokens and spaces anywhere."""
    chance = random.Random(seed)
    reference = byte_fallback()
    ids = [id for id in reference.get_vocab().values() if not 3 <= id < 3 + 256]
    with opened(reference, tmp_path) as mine:
        for _ in range(10):
            check_bit_by_bit(mine, chance.choices(ids, k=30), chance.random() < 0.5, chance)


def test_a_character_is_never_split(tokenizer: Tokenizer) -> None:
    ids = demo.encode("a😀日", add_special_tokens=False).ids
    assert len(ids) > 5
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.add(id) for id in ids]
    assert [piece for piece in pieces if piece] == ["a", "😀", "日"]
    assert detokenizer.finish() == ""


def test_a_batch_returns_whole_characters(tokenizer: Tokenizer) -> None:
    """Only an incomplete character waits for the next call."""
    ids = demo.encode("What is a 😀", add_special_tokens=False).ids
    detokenizer = tokenizer.detokenizer()
    assert detokenizer.add(ids[:-1]).rstrip() == "What is a"
    assert detokenizer.add(ids[-1:]).lstrip() == "😀"


def test_a_character_that_is_never_completed(tokenizer: Tokenizer) -> None:
    detokenizer = tokenizer.detokenizer()
    begun = demo.encode("😀", add_special_tokens=False).ids[:-1]
    assert detokenizer.add(begun) == ""
    assert detokenizer.finish() == "\ufffd"
    assert detokenizer.finish() == ""
    assert detokenizer.add(demo.encode("new").ids) == "new"


def test_an_error_adds_nothing(tokenizer: Tokenizer) -> None:
    detokenizer = tokenizer.detokenizer()
    first, *rest = demo.encode("é😀", add_special_tokens=False).ids
    text = detokenizer.add(first)
    with pytest.raises(dynamo_llm.InvalidArgumentError, match=r"ids\[1\] is 2048, but .* from 0 to 2047"):
        detokenizer.add([rest[0], 2048])
    assert text + "".join(map(detokenizer.add, rest)) == "é😀"


@pytest.mark.parametrize("kind", [byte_level, byte_fallback])
def test_bytes_that_are_not_text(kind: Callable[[], tokenizers.Tokenizer], tmp_path: Path) -> None:
    """They become U+FFFD at once, as many as ``decode()`` gives, and the text after them is complete."""
    reference = kind()
    broken = reference.token_to_id("<0xFF>") or reference.token_to_id("ÿ")
    assert broken is not None
    with opened(reference, tmp_path) as mine:
        detokenizer = mine.detokenizer()
        assert [detokenizer.add([broken]) for _ in range(100)] == ["\ufffd"] * 100
        assert detokenizer.add([reference.token_to_id("a")] * 2) == "aa"
        smile = reference.encode("😀", add_special_tokens=False).ids[-4:]
        for ids in (smile + smile[:-1], smile[1:], [broken, *smile], [*smile, broken, *smile[:2]]):
            text = "".join(map(detokenizer.add, ids)) + detokenizer.finish()
            assert text == mine.decode(ids)
            assert text.count("😀") == "".join(map(str, ids)).count("".join(map(str, smile)))


@pytest.mark.parametrize("kind", kinds)
def test_tokens_without_text(kind: Callable[[], tokenizers.Tokenizer], tmp_path: Path) -> None:
    """Omitted special tokens change nothing, however many there are."""
    with opened(kind(), tmp_path) as mine:
        [special, *_] = mine.info["special_tokens"].values()
        words = mine.encode("a a", add_special_tokens=False)
        detokenizer = mine.detokenizer()
        text = "".join(detokenizer.add([id, *[special] * 50]) for id in words) + detokenizer.finish()
        assert text == mine.decode(words) == "a a"


# --------------------------------------------------------------------------------------- chat template


def test_template(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.apply_template("What is a KV cache?")
    assert prompt == "<|begin|><|user|>What is a KV cache?<|end|><|assistant|>"
    assert tokenizer.encode(prompt, add_special_tokens=False) == demo.encode(prompt).ids
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "b c"},
    ]
    start = "<|begin|><|system|>Be short.<|end|><|user|>a<|end|><|assistant|>b c"
    assert tokenizer.apply_template(messages, add_generation_prompt=False) == start + "<|end|>"
    assert tokenizer.apply_template(messages, continue_final_message=True) == start
    assert (
        tokenizer.apply_template(messages, max_tokens=3, temperature=None) == start + "<|end|><|assistant|>"
    )


def test_template_of_a_tool_loop(tokenizer: Tokenizer) -> None:
    """An assistant's message with calls needs no content, in the current format and in the old one."""
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content.strip() }}"
        "{% for call in m.tool_calls %}{{ call.function | tojson }}{% endfor %};{% endfor %}"
    )
    function = {"name": "f", "arguments": '{"a": "é"}'}
    for call, back in (
        (
            {"content": None, "tool_calls": [{"id": "c", "function": function}]},
            {"role": "tool", "tool_call_id": "c"},
        ),
        ({"tool_calls": [{"id": "c", "function": function}]}, {"role": "tool", "tool_call_id": "c"}),
        ({"content": None, "function_call": function}, {"role": "function", "name": "f"}),
        ({"function_call": function}, {"role": "function", "name": "f"}),
    ):
        messages = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "refusal": None, **call},
            {**back, "content": "r"},
        ]
        assert tokenizer.apply_template(messages, chat_template=template) == (
            'user:q;assistant:{"name": "f", "arguments": {"a": "é"}};tool:r;'
        )


def test_template_of_the_request(tokenizer: Tokenizer) -> None:
    """A template in the request, variables, and tools, whose keys keep their order."""
    template = (
        "{{ who }}{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{{ messages[0].content }}"
    )
    tool = {"type": "function", "function": {"name": "f", "description": "é", "parameters": {"b": 1, "a": 2}}}
    text = tokenizer.apply_template(
        "hi\0", chat_template=template, chat_template_kwargs={"who": "me "}, tools=[tool]
    )
    assert text == "me " + json.dumps(tool, ensure_ascii=False) + "hi\0"


def test_template_that_raises_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(dynamo_llm.InvalidRequestError, match="no such thing as a") as caught:
        tokenizer.apply_template("a", chat_template="{{ raise_exception('no such thing as a') }}")
    assert caught.value.details["engine"] == "tokenizer"
    with pytest.raises(dynamo_llm.InvalidRequestError, match="is not valid"):
        tokenizer.apply_template("a", chat_template="{% if %}")
    with pytest.raises(dynamo_llm.InvalidRequestError, match='did you mean "tools"'):
        tokenizer.apply_template("a", tols=[])
    with pytest.raises(dynamo_llm.InvalidRequestError, match=r"messages\[1\]"):
        tokenizer.apply_template([{"role": "user", "content": "a"}, {"content": "b"}])


def test_no_template(tmp_path: Path) -> None:
    with opened(metaspace(), tmp_path) as mine:
        with pytest.raises(dynamo_llm.NotSupportedError, match="no chat template"):
            mine.apply_template("a")
        assert mine.apply_template("a", chat_template="{{ messages[0].content }}!") == "a!"


# ------------------------------------------------------------------------------------------- mistakes


def test_models_without_a_valid_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("x")
    (tmp_path / "bad.json").write_text('{"version": "1.0"}')
    for model, message in {
        tmp_path / "none": "does not exist",
        tmp_path: "has no tokenizer.json",
        tmp_path / "other.txt": "is not a tokenizer",
        tmp_path / "bad.json": "is not a valid tokenizer",
    }.items():
        with pytest.raises(dynamo_llm.ModelNotFoundError, match=message) as caught:
            Tokenizer(model=model)
        assert str(model) in str(caught.value)


def test_wrong_arguments(tokenizer: Tokenizer) -> None:
    with pytest.raises(dynamo_llm.InvalidArgumentError, match="its byte 1 does not fit"):
        tokenizer.encode("a\ud800")
    for ids in ([-1], [2**32], ["a"], [1.5]):
        with pytest.raises(dynamo_llm.InvalidArgumentError, match="integers from 0 to 4294967295"):
            tokenizer.decode(ids)  # type: ignore[arg-type]
    with pytest.raises(dynamo_llm.InvalidConfigError, match='"engine"'):
        Tokenizer({"engine": "echo"})


# ------------------------------------------------------------------------------------- lives and threads


def test_a_detokenizer_outlives_its_tokenizer() -> None:
    tokenizer = Tokenizer()
    ids = tokenizer.encode("a b")
    detokenizer = tokenizer.detokenizer()
    tokenizer.close()
    tokenizer.close()
    with pytest.raises(dynamo_llm.InvalidHandleError):
        tokenizer.encode("a")
    del tokenizer
    gc.collect()
    assert detokenizer.add(ids) == "a b"


def test_threads(tokenizer: Tokenizer) -> None:
    """Many threads at once, each with its own text, and one detokenizer shared by all."""
    shared = tokenizer.detokenizer()
    wrong: list[Any] = []
    added: list[str] = []

    def work(number: int) -> None:
        for turn in range(20):
            text = f"{number} 😀 {turn} é"
            ids = tokenizer.encode(text)
            own = tokenizer.detokenizer()
            pieces = "".join(map(own.add, ids)) + own.finish()
            if ids != demo.encode(text).ids or not tokenizer.decode(ids) == text == pieces:
                wrong.append((text, ids, pieces))
            added.append(shared.add(demo.encode(" a").ids))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert "".join(added) == " a" * 160


def test_coroutines() -> None:
    async def main() -> str:
        with await Tokenizer.open(model=paths.demo_model_dir()) as tokenizer:
            ids = await asyncio.gather(*(asyncio.to_thread(tokenizer.encode, f"{n}") for n in range(20)))
            return "".join(map(tokenizer.decode, ids))

    assert asyncio.run(main()) == "".join(map(str, range(20)))


def test_on_the_event_loop() -> None:
    """An engine that would wait for itself gets an error; in a thread it may use a tokenizer."""
    with dynamo_llm.Runtime(engine("tokenizing:Tokenizing")) as runtime:
        with pytest.raises(dynamo_llm.InvalidStateError, match="on the library's own loop"):
            runtime.complete("here").result()
        assert runtime.complete("in a thread").result().token_ids == demo.encode("in a thread").ids


def test_exit_with_everything_open() -> None:
    """A program that closes nothing exits normally, even while its threads use the tokenizer."""
    result = run_python(
        "import dynamo_llm, threading\n"
        "tokenizer = dynamo_llm.Tokenizer()\n"
        "detokenizer = tokenizer.detokenizer()\n"
        "def work():\n"
        "    try:\n"
        "        while True: tokenizer.encode('a b')\n"
        "    except dynamo_llm.ClosedError: pass\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "print(detokenizer.add(tokenizer.encode('good')))\n"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "good\n", "")

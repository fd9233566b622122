# SPDX-License-Identifier: Apache-2.0
"""Tokens that files beside ``tokenizer.json`` declare, and tokens that begin and end a text.

IDs and names are those of AutoTokenizer of transformers 5.24. If transformers is installed, the same folders
are compared with it, and random ones, too.
"""

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import ModelNotFoundError
from dynamo_llm import Tokenizer as OpenedTokenizer
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Core

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
#: Ids: <s> 0, </s> 1, <one> 2, bytes from 3 on, <two> 259; the next one is 260.
vocabulary = ["<s>", "</s>", "<one>", *letters, "<two>"]
a, b = vocabulary.index("a"), vocabulary.index("b")


def core_of(added: list[AddedToken]) -> Core:
    core = Core(models.BPE({word: id for id, word in enumerate(vocabulary)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens(added)
    return core


def written(path: Path, files: dict[str, Any], added: list[AddedToken] | None = None) -> Path:
    """Writes a folder with a tokenizer and other files."""
    core_of(added or []).save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **files.get("tokenizer_config.json", {})}
    for name, value in {**files, "tokenizer_config.json": config}.items():
        (path / name).write_text(json.dumps(value))
    return path


def encoded(path: Path, text: str, special: bool = False) -> list[int]:
    return asyncio.run(Tokenizer(ModelFolder(path)).encode(text, special))


def flags(content: str, **given: bool) -> dict[str, Any]:
    off = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word", "special"), False)
    return {"content": content, **off, **given}


def config(**values: Any) -> dict[str, Any]:
    return {"tokenizer_config.json": values}


declared: dict[str, tuple[dict[str, Any], str, list[int]]] = {
    "added_tokens.json, in the vocabulary": ({"added_tokens.json": {"<two>": 5}}, "a<two>b", [a, 259, b]),
    "added_tokens.json, new": ({"added_tokens.json": {"<new>": 300}}, "a<new>b", [a, 260, b]),
    "added_tokens.json, two": (
        {"added_tokens.json": {"<y>": 301, "<x>": 300}},
        "<x><y>",
        [260, 261],
    ),
    "added_tokens_decoder": (config(added_tokens_decoder={"400": flags("<new>")}), "a<new>b", [a, 260, b]),
    "added_tokens_decoder, lstrip and rstrip": (
        config(added_tokens_decoder={"400": flags("<new>", lstrip=True, rstrip=True)}),
        "a <new> b",
        [a, 260, b],
    ),
    "added_tokens_decoder, single_word": (
        config(added_tokens_decoder={"400": flags("two", single_word=True)}),
        "two atwo",
        [260, *(vocabulary.index(letter) for letter in "Ġatwo")],
    ),
    "added_tokens_decoder in the order of ids": (
        config(added_tokens_decoder={"9": flags("<y>"), "7": flags("<x>")}),
        "<x><y>",
        [260, 261],
    ),
    "added_tokens_decoder hides added_tokens.json": (
        {**config(added_tokens_decoder={}), "added_tokens.json": {"<two>": 5}},
        "<two>",
        [vocabulary.index(letter) for letter in "<two>"],
    ),
    "special_tokens_map.json, additional": (
        {"special_tokens_map.json": {"additional_special_tokens": ["<x>", "<one>"]}},
        "<x><one>",
        [260, 2],
    ),
    "special_tokens_map.json, named": (
        {"special_tokens_map.json": {"eos_token": flags("<x>"), "pad_token": "<two>"}},
        "<x><two>",
        [260, 259],
    ),
    "special_tokens_map.json is hidden by added_tokens_decoder": (
        {**config(added_tokens_decoder={}), "special_tokens_map.json": {"eos_token": "<one>"}},
        "<one>",
        [vocabulary.index(letter) for letter in "<one>"],
    ),
    "tokenizer_config.json, named": (config(eos_token="<x>", bos_token="<s>"), "<s><x>", [0, 260]),
    "tokenizer_config.json, additional": (config(additional_special_tokens=["<x>"]), "<x>", [260]),
    "tokenizer_config.json, extra": (config(extra_special_tokens=["<one>", "<x>"]), "<one><x>", [2, 260]),
    "tokenizer_config.json, extra with names": (
        config(extra_special_tokens={"image_token": "<img>"}, audio_token="<audio>"),
        "<img><audio>",
        [261, 260],
    ),
    "tokenizer_config.json, saved by transformers 5": (
        config(model_specific_special_tokens={"image_token": "<img>"}),
        "a<img>",
        [a, 260],
    ),
    "tokenizer_config.json, split": (
        config(eos_token="<one>", split_special_tokens=True),
        "<one>",
        [vocabulary.index(letter) for letter in "<one>"],
    ),
}


@pytest.mark.parametrize("name", declared)
def test_declared_tokens(name: str, tmp_path: Path) -> None:
    """Each file counts, with the IDs of transformers."""
    files, text, ids = declared[name]
    assert encoded(written(tmp_path, files), text) == ids


def test_the_same_tokenizer_file_with_other_tokens(tmp_path: Path) -> None:
    """A cached tokenizer is not used for a folder that declares other tokens."""
    path = written(tmp_path, {})
    letters_of_token = [vocabulary.index(letter) for letter in "<one>"]
    assert encoded(path, "<one>") == letters_of_token
    for files, ids in (
        ({"eos_token": "<one>"}, [2]),
        ({"eos_token": "<one>", "split_special_tokens": True}, letters_of_token),
        ({}, letters_of_token),
    ):
        (path / "tokenizer_config.json").write_text(json.dumps(files))
        assert encoded(path, "<one>") == ids


def test_names_of_tokens(tmp_path: Path) -> None:
    """All named tokens reach templates."""
    files = {
        **config(
            bos_token="<s>",
            eos_token=flags("</s>"),
            image_token="<img>",
            extra_special_tokens={"audio_token": "<audio>"},
            additional_special_tokens=["<x>"],
            add_bos_token=False,
        ),
        "special_tokens_map.json": {"eos_token": flags("<one>"), "boi_token": "<boi>"},
    }
    folder = ModelFolder(written(tmp_path, files))
    assert folder.special_tokens == {
        "bos_token": "<s>",
        "eos_token": "<one>",
        "image_token": "<img>",
        "boi_token": "<boi>",
        "audio_token": "<audio>",
        "additional_special_tokens": ["<x>"],
    }
    with OpenedTokenizer(model=tmp_path, trust_request_chat_template=True) as tokenizer:
        template = "{{ bos_token }}{{ image_token }}{{ audio_token }}{{ boi_token }}{{ eos_token }}"
        assert tokenizer.apply_template("x", chat_template=template) == "<s><img><audio><boi><one>"
        named = tokenizer.info["special_tokens"]
        assert {"<s>", "<one>", "<img>", "<audio>", "<boi>"} <= named.keys()


def test_special_tokens_are_omitted(tmp_path: Path) -> None:
    """A declared special token is omitted from texts; an added one that is not special is text."""
    files = config(added_tokens_decoder={"300": flags("<x>", special=True), "301": flags("<y>")})
    with OpenedTokenizer(model=written(tmp_path, files)) as tokenizer:
        ids = tokenizer.encode("a<x>b<y>", add_special_tokens=False)
        assert tokenizer.decode(ids) == "ab<y>"
        assert tokenizer.decode(ids, skip_special_tokens=False) == "a<x>b<y>"
        detokenizer = tokenizer.detokenizer()
        assert "".join(map(detokenizer.add, ids)) + detokenizer.finish() == "ab<y>"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (config(added_tokens_decoder={"x": flags("<x>")}), '"x" in "added_tokens_decoder"'),
        (config(added_tokens_decoder={"7": "<x>"}), '"7" in "added_tokens_decoder"'),
        ({"added_tokens.json": {"<x>": "7"}}, '"<x>" in added_tokens.json'),
    ],
)
def test_entries_that_are_not_tokens(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        Tokenizer(ModelFolder(written(tmp_path, files)))


# ------------------------------------------------------------------------------------------- BOS and EOS

s, e = ("<s>", 0), ("</s>", 1)
processors_of: dict[str, Any] = {
    "none": None,
    "BOS": processors.TemplateProcessing(single="<s> $A", special_tokens=[s]),
    "BOS and EOS": processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[s, e]),
    "Roberta": processors.RobertaProcessing(e, s),
    "Sequence": processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(single="<s> $A", special_tokens=[s])]
    ),
}


@pytest.mark.parametrize(
    ("name", "given", "ids"),
    [
        ("none", {}, [a]),
        ("none", {"add_bos_token": True}, [0, a]),
        ("none", {"add_bos_token": True, "add_eos_token": True}, [0, a, 1]),
        ("BOS", {}, [0, a]),
        ("BOS", {"add_bos_token": None}, [0, a]),
        ("BOS", {"add_bos_token": False}, [a]),
        ("BOS", {"add_bos_token": True}, [0, a]),
        ("BOS", {"add_eos_token": True}, [0, a, 1]),
        ("BOS and EOS", {"add_bos_token": False}, [a, 1]),
        ("BOS and EOS", {"add_eos_token": False}, [0, a]),
        ("BOS and EOS", {"add_bos_token": False, "add_eos_token": False}, [a]),
        ("Roberta", {}, [0, a, 1]),
        ("Roberta", {"add_bos_token": False}, [a, 1]),
        ("Sequence", {"add_bos_token": False}, [a]),
        ("Sequence", {"add_bos_token": True, "add_eos_token": False}, [0, a]),
    ],
)
def test_first_and_last_tokens(name: str, given: dict[str, Any], ids: list[int], tmp_path: Path) -> None:
    """``add_bos_token`` and ``add_eos_token`` override the file, for completions; chats get none."""
    path = written(tmp_path, config(bos_token="<s>", eos_token="</s>", **given))
    core = Core.from_file(str(path / "tokenizer.json"))
    if processors_of[name] is not None:
        core.post_processor = processors_of[name]
        core.save(str(path / "tokenizer.json"))
    assert encoded(path, "a", special=True) == ids
    assert encoded(path, "a" * 5000, special=True) == [
        id for id in ids for _ in range(5000 if id == a else 1)
    ]
    assert encoded(path, "a") == [a]
    with OpenedTokenizer(model=path) as tokenizer:
        assert tokenizer.encode("a") == ids


# --------------------------------------------------------------------------------------- end of an answer


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({}, []),
        (config(eos_token="</s>"), [1]),
        ({**config(eos_token="</s>"), "generation_config.json": {"eos_token_id": [2, 5]}}, [2, 5, 1]),
        ({**config(eos_token="</s>"), "config.json": {"eos_token_id": 1}}, [1]),
        (config(eos_token="</s>", eot_token="<turn>"), [1, 260]),
        ({"special_tokens_map.json": {"eos_token": "<one>"}}, [2]),
        (
            {
                "generation_config.json": {"eos_token_id": 7, "eot_token_id": 8},
                "config.json": {"eos_token_id": 9},
            },
            [7, 8, 9],
        ),
        ({"generation_config.json": {"eos_token_id": None}, "config.json": {"eos_token_id": [3]}}, [3]),
    ],
)
def test_tokens_that_end_an_answer(files: dict[str, Any], ids: list[int], tmp_path: Path) -> None:
    """The end tokens of all files together."""
    with OpenedTokenizer(model=written(tmp_path, files)) as tokenizer:
        assert tokenizer.info["eos_token_ids"] == ids


# ----------------------------------------------------------------------------------------- transformers

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def check_against_transformers(path: Path, text: str) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    try:
        reference = transformers.AutoTokenizer.from_pretrained(str(path))
    except TypeError:  # transformers itself fails with some entries
        return
    folder = ModelFolder(path)
    mine = Tokenizer(folder)
    assert asyncio.run(mine.encode(text, False)) == reference.encode(text, add_special_tokens=False)
    special = {name: value for name, value in folder.special_tokens.items() if isinstance(value, str)}
    assert special == reference.special_tokens_map
    known = mine.core.get_added_tokens_decoder()
    wanted = reference.backend_tokenizer.get_added_tokens_decoder()
    assert {id: repr(token) for id, token in known.items()} == {
        id: repr(token) for id, token in wanted.items()
    }


@pytest.mark.parametrize("name", declared)
def test_declared_tokens_in_transformers(name: str, tmp_path: Path) -> None:
    files, text, _ = declared[name]
    check_against_transformers(written(tmp_path, files), text)


words = ["<s>", "</s>", "<one>", "<two>", "<new>", "<tool>", "<img>", "<pad>"]


def some_token(chance: random.Random, kind: str) -> Any:
    word = chance.choice(words)
    if kind == "text" or (kind == "either" and chance.random() < 0.5):
        return word
    given = {
        flag: chance.random() < 0.4 for flag in ("lstrip", "rstrip", "normalized", "single_word", "special")
    }
    return {**({"__type": "AddedToken"} if kind == "either" else {}), "content": word, **given}


def some_files(chance: random.Random) -> dict[str, Any]:
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "image_token", "eot_token")
    values = {name: some_token(chance, "either") for name in names if chance.random() < 0.4}
    some = lambda kind: [some_token(chance, kind) for _ in range(chance.randrange(3))]  # noqa: E731
    if chance.random() < 0.3:
        values["additional_special_tokens"] = some("either")
    if chance.random() < 0.3:
        values["extra_special_tokens"] = {"audio_token": "<two>"} if chance.random() < 0.5 else some("either")
    if chance.random() < 0.4:
        values["added_tokens_decoder"] = {
            str(chance.randrange(300)): some_token(chance, "object") for _ in range(chance.randrange(4))
        }
    files = config(**values)
    if chance.random() < 0.4:
        kinds = {name: chance.choice(["text", "object"]) for name in chance.sample(names, 2)}
        files["special_tokens_map.json"] = {
            **{name: some_token(chance, kind) for name, kind in kinds.items()},
            **({"additional_special_tokens": some("text")} if chance.random() < 0.5 else {}),
        }
    if chance.random() < 0.4:
        files["added_tokens.json"] = {word: chance.randrange(300) for word in chance.sample(words, 2)}
    return files


@pytest.mark.parametrize("seed", range(60))
def test_any_files_in_transformers(seed: int, tmp_path: Path) -> None:
    """Also files that contradict each other."""
    chance = random.Random(seed)
    added = [
        AddedToken(word, special=chance.random() < 0.6, lstrip=chance.random() < 0.3)
        for word in chance.sample(words, chance.randrange(4))
    ]
    path = written(tmp_path, some_files(chance), added)
    check_against_transformers(path, "a<s>b <one> c<two>d</s> <new>x <tool> y<img>z <pad>q")

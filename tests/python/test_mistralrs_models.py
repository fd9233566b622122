# SPDX-License-Identifier: Apache-2.0
"""The engine mistralrs: models that are found, and models that are broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from conftest import run_python
from dynamo_llm import DynamoError, EngineFailedError, InvalidConfigError, ModelNotFoundError, Runtime


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "whole")


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-5000])


def configure(**values: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(
            json.dumps({key: value for key, value in config.items() if value is not None})
        )

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (remove("config.json"), ModelNotFoundError, r"no config\.json and no \.gguf"),
        (write("config.json", b"{"), ModelNotFoundError, r"config\.json.*cannot be read"),
        (write("config.json", b"[]"), ModelNotFoundError, r"config\.json.*must be an object"),
        (configure(architectures=None), ModelNotFoundError, '"architectures"'),
        (configure(architectures=["Foo"]), EngineFailedError, "Foo"),
        (configure(hidden_size=None), EngineFailedError, "hidden_size"),
        (configure(hidden_size=64), EngineFailedError, "shape mismatch"),
        (configure(num_hidden_layers=2), EngineFailedError, r"layers\.1"),
        (remove("tokenizer.json"), ModelNotFoundError, r"no tokenizer.*tokenizer\.json"),
        (write("tokenizer.json", b"{}"), ModelNotFoundError, "is no tokenizer"),
        (write("tokenizer_config.json", b"{"), ModelNotFoundError, r"tokenizer_config\.json"),
        (remove("model.safetensors"), ModelNotFoundError, "no weights"),
        (write("model.safetensors", b""), ModelNotFoundError, r"model\.safetensors.*no safetensors"),
        (write("model.safetensors", b"nonsense" * 9), ModelNotFoundError, r"model\.safetensors.*no safet"),
        (cut("model.safetensors"), ModelNotFoundError, r"model\.safetensors.*not whole"),
        (
            write("model.safetensors.index.json", b'{"weight_map": {"a": "b.safetensors"}}'),
            ModelNotFoundError,
            r"lacks b\.safetensors",
        ),
    ],
)
def test_broken_folders(
    whole: Path, tmp_path: Path, change: Callable[[Path], Any], error: type[DynamoError], message: str
) -> None:
    """Each says what is wrong with which file."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    change(folder)
    with pytest.raises(error, match=message):
        Runtime(model=folder)


def test_broken_gguf(tmp_path: Path) -> None:
    """Files that are no GGUF, and parts of one that is."""
    good = tiny_models.gguf(tmp_path / "good.gguf").read_bytes()
    file = tmp_path / "bad.gguf"
    for data in (b"", b"GGUF", b"nonsense" * 9, good[:100], good[: len(good) // 9], b"GGUF\1" + good[5:]):
        file.write_bytes(data)
        with pytest.raises(ModelNotFoundError, match=r"bad\.gguf.*no model in GGUF"):
            Runtime(model=file)
    file.write_bytes(good[:-5000])
    with pytest.raises(DynamoError, match=r"bad\.gguf"):
        Runtime(model=file)


def test_gguf(whole: Path, tmp_path: Path) -> None:
    """A file, or a folder with one, answers with the template in it, or with another tokenizer."""
    file = tiny_models.gguf(tmp_path / "tiny.gguf")
    tokenizer = {"tokenizer_json": str(whole / "tokenizer.json")}
    for model, options in ((file, {}), (tmp_path, {}), (file, tokenizer)):
        with Runtime(model=model, options=options) as runtime:
            chat = runtime.chat("hello world", max_tokens=1).result()
            prompt = runtime.complete("<user>hello world<answer>", max_tokens=1).result()
            assert chat.usage is not None and prompt.usage is not None
            assert chat.usage.prompt_tokens == prompt.usage.prompt_tokens
            assert chat.text == prompt.text.lstrip()
            assert runtime.complete("a", guided_choice=[" yes"], max_tokens=9).result().text == " yes"
    tiny_models.gguf(tmp_path / "other.gguf", template=None)
    with pytest.raises(ModelNotFoundError, match=r"2 \.gguf files; name one"):
        Runtime(model=tmp_path)
    with Runtime(model=tmp_path / "other.gguf") as runtime:
        with pytest.raises(dynamo_llm.NotSupportedError, match="no chat template"):
            runtime.chat("a").result()
        assert runtime.complete("a", max_tokens=1).result().usage is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isq": "Q9"}, r'"options\.isq".*Q4K'),
        ({"max_seqs": 0}, "max_seqs.*at least 1"),
        ({"seed": -1}, "seed.*at least 0"),
        ({"max_seq": 1}, r'did you mean "options\.max_seqs"'),
        ({"adapters": {"a": 1}}, "adapters.*folder"),
        ({"adapters": ["a"]}, "adapters"),
        ({"task": "chat"}, "task.*generate"),
    ],
    ids=str,
)
def test_options(whole: Path, options: dict[str, Any], message: str) -> None:
    """Wrong ones are named, with what would be right."""
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(model=whole, options=options)


def test_quantised(whole: Path) -> None:
    """A model is quantised while it loads."""
    with Runtime(model=whole, options={"isq": "Q8_0"}) as runtime:
        assert runtime.complete("a", max_tokens=2).result().usage is not None


def test_broken_adapters(whole: Path, tmp_path: Path) -> None:
    """The adapter is named, and what is wrong with its files."""
    good = tiny_models.adapter(tmp_path / "good", 5)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        bad = tmp_path / "bad"
        shutil.copytree(good, bad, dirs_exist_ok=True)
        (bad / name).unlink()
        with pytest.raises(ModelNotFoundError, match=f'adapter "mine" has no {name}'):
            Runtime(model=whole, options={"adapters": {"mine": str(bad)}})
        (bad / name).write_bytes(b"{")
        with pytest.raises(ModelNotFoundError, match=name):
            Runtime(model=whole, options={"adapters": {"mine": str(bad)}})
    wide = tiny_models.adapter(tmp_path / "wide", 5, width=16)
    with pytest.raises(EngineFailedError, match="expected"):
        Runtime(model=whole, options={"adapters": {"mine": str(wide)}})


def test_quiet(whole: Path, tmp_path: Path) -> None:
    """Neither loading, nor an answer, nor a failure writes anything."""
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    (broken / "tokenizer_config.json").write_text("{")
    code = f"""
import dynamo_llm
try:
    dynamo_llm.Runtime(model={str(broken)!r})
    raise SystemExit(3)
except dynamo_llm.ModelNotFoundError:
    pass
with dynamo_llm.Runtime(model={str(whole)!r}) as runtime:
    runtime.chat("hello", max_tokens=3).result()
    try:
        runtime.chat("hello", guided_regex="[").result()
        raise SystemExit(3)
    except dynamo_llm.InvalidRequestError:
        pass
"""
    result = run_python(code, {"RUST_BACKTRACE": "1"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

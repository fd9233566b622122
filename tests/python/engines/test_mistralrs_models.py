# SPDX-License-Identifier: Apache-2.0
"""The engine mistralrs: finding models, and broken models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamo_llm
import numpy as np
import pytest
import tiny_models
from conftest import run_python
from dynamo_llm import (
    DynamoError,
    EngineFailedError,
    InvalidConfigError,
    ModelNotFoundError,
    NotSupportedError,
    Runtime,
)
from safetensors.numpy import load_file, save_file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "whole")


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def split(files: list[str], names: list[str] | None = None) -> Callable[[Path], Any]:
    """Writes weights to other file names, with an index that names some of them."""

    def change(folder: Path) -> None:
        for file in files:
            shutil.copy(folder / "model.safetensors", folder / file)
        (folder / "model.safetensors").unlink()
        if names is not None:
            index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


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
        (write("config.json", b"{"), ModelNotFoundError, r"config\.json.*is not valid JSON"),
        (write("config.json", b"[]"), ModelNotFoundError, r"config\.json.*must be an object"),
        (configure(architectures=None), ModelNotFoundError, '"architectures"'),
        (configure(architectures=["Foo"]), NotSupportedError, '"Foo".*LlamaForCausalLM'),
        (configure(hidden_size=None), ModelNotFoundError, "hidden_size"),
        (configure(hidden_size=64, head_dim=64), ModelNotFoundError, r"\"hidden_size\".*\[2048, 32\]"),
        (configure(num_hidden_layers=2), ModelNotFoundError, r"\"num_hidden_layers\".*1 layers"),
        (remove("tokenizer.json"), ModelNotFoundError, r"no tokenizer.*tokenizer\.json"),
        (write("tokenizer.json", b"{}"), ModelNotFoundError, "is not a tokenizer"),
        (write("tokenizer_config.json", b"{"), ModelNotFoundError, r"tokenizer_config\.json"),
        (remove("model.safetensors"), ModelNotFoundError, "no weights"),
        (write("model.safetensors", b""), ModelNotFoundError, r"model\.safetensors.*not in the format"),
        (
            write("model.safetensors", b"nonsense" * 9),
            ModelNotFoundError,
            r"model\.safetensors.*not in the format",
        ),
        (cut("model.safetensors"), ModelNotFoundError, r"model\.safetensors.*not whole"),
        (split(["model-00001-of-00002.safetensors"]), ModelNotFoundError, r"1 of 2 parts"),
        (
            split(["b.safetensors"], names=["b.safetensors", "c.safetensors"]),
            ModelNotFoundError,
            r"lacks c\.s",
        ),
    ],
)
def test_broken_folders(
    whole: Path, tmp_path: Path, change: Callable[[Path], Any], error: type[DynamoError], message: str
) -> None:
    """Each error says what is wrong with which file."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    change(folder)
    with pytest.raises(error, match=message):
        Runtime(model=folder)


def test_broken_gguf(tmp_path: Path) -> None:
    """Files that are not GGUF, and incomplete sets of GGUF parts."""
    good = tiny_models.gguf(tmp_path / "good.gguf").read_bytes()
    file = tmp_path / "bad.gguf"
    for data in (b"", b"GGUF", b"nonsense" * 9, good[:100], good[: len(good) // 9], b"GGUF\1" + good[5:]):
        file.write_bytes(data)
        with pytest.raises(ModelNotFoundError, match=r"bad\.gguf.*not a model in GGUF"):
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
    with pytest.raises(ModelNotFoundError, match=r"2 \.gguf files.*name one"):
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
    """Errors name invalid options, and what would be right."""
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(model=whole, options=options)


def test_quantised(whole: Path) -> None:
    """A model is quantized while it loads."""
    with Runtime(model=whole, options={"isq": "Q8_0"}) as runtime:
        assert runtime.complete("a", max_tokens=2).result().usage is not None


def test_broken_adapters(whole: Path, tmp_path: Path) -> None:
    """The error names the adapter, and what is wrong with its files."""
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
    """Loading, answers, and failures write no output."""
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


def test_parts_of_gguf(tmp_path: Path) -> None:
    """A model in several files is selected by its first file, or by its folder."""
    whole = tiny_models.gguf(tmp_path / "whole.gguf")
    folder = tmp_path / "parts"
    files = tiny_models.split_gguf(folder, 3)
    texts = []
    for model in (whole, files[0], folder):
        with Runtime(model=model) as runtime:
            texts.append(runtime.complete("hello world", max_tokens=8, ignore_eos=True).result().text)
    assert texts[0] == texts[1] == texts[2]
    for number in (1, 2):
        with pytest.raises(
            ModelNotFoundError, match=rf"part {number + 1} of a model in 3.*-00001-of-00003\.gguf"
        ):
            Runtime(model=files[number])
    shutil.copy(whole, folder / "other.gguf")
    with pytest.raises(ModelNotFoundError, match=r"2 \.gguf files.*tiny-00001-of-00003\.gguf"):
        Runtime(model=folder)
    (folder / "other.gguf").unlink()
    files[1].unlink()
    with pytest.raises(
        ModelNotFoundError, match=r"3 files, of which these are missing: tiny-00002-of-00003\.gguf"
    ):
        Runtime(model=folder)
    files[0].unlink()
    with pytest.raises(ModelNotFoundError, match=r"first part.*tiny-00003-of-00003\.gguf"):
        Runtime(model=folder)


def test_hub_names() -> None:
    """Without "hf:" nothing is downloaded, and the error tells how to ask for it."""
    for name in ("meta-llama/Llama-3.2-1B", "org/name", "Qwen/Qwen2.5-0.5B-Instruct"):
        with pytest.raises(ModelNotFoundError, match=f'write "hf:{name}"'):
            Runtime(model=name)
    with pytest.raises(ModelNotFoundError, match="does not exist") as caught:
        Runtime(model="/nowhere/at/all")
    assert "hf:" not in caught.value.message


def test_adapter_in_the_folder(whole: Path, tmp_path: Path) -> None:
    """An adapter beside the model must be named; one without a model cannot be loaded."""
    alone = tiny_models.adapter(tmp_path / "alone", 5)
    with pytest.raises(ModelNotFoundError, match=r"LoRA adapter, not a model.*adapters"):
        Runtime(model=alone)
    both = tmp_path / "both"
    shutil.copytree(whole, both)
    shutil.copytree(alone, both, dirs_exist_ok=True)
    with pytest.raises(NotSupportedError, match=r"next to the model.*adapters"):
        Runtime(model=both)
    body = {"prompt": "hello world", "max_tokens": 8, "ignore_eos": True}
    with Runtime(model=whole, options={"adapters": {"mine": str(alone)}}) as runtime:
        want = [runtime.request({**body, "model": name}).result().text for name in ("mine", "base")]
    with Runtime(model=both, options={"adapters": {"mine": str(both)}}) as runtime:
        got = [runtime.request({**body, "model": name}).result().text for name in ("mine", "base")]
    assert got == want and want[0] != want[1]


def test_models_that_mistralrs_cannot_run(tmp_path: Path) -> None:
    """A model that would fail with every request is rejected when it is loaded."""
    folder = tiny_models.llama(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["GraniteMoeHybridForCausalLM"], "layer_types": ["attention"]}
    config |= {"shared_intermediate_size": 64, "num_local_experts": 0, "mamba_n_heads": 2, "mamba_d_head": 32}
    (folder / "config.json").write_text(json.dumps(config))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    up, gate = (tensors.pop(f"model.layers.0.mlp.{name}_proj.weight") for name in ("up", "gate"))
    tensors["model.layers.0.shared_mlp.input_linear.weight"] = np.concatenate([gate, up])
    tensors["model.layers.0.shared_mlp.output_linear.weight"] = tensors.pop(
        "model.layers.0.mlp.down_proj.weight"
    )
    save_file(tensors, file)
    with pytest.raises(NotSupportedError, match=r"loads.*but cannot compute it"):
        Runtime(model=folder)


@pytest.mark.parametrize(
    ("values", "tensor", "message"),
    [
        ({}, "blk.1.attn_q.weight", r'tensor "blk\.1\.attn_q\.weight".*declare 1 layers'),
        ({}, "output.bias", r'tensor "output\.bias"'),
        ({"general.architecture": "falcon"}, None, "does not support.*falcon"),
        ({"general.architecture": "phimoe"}, None, '"phimoe".*computes wrongly'),
        (
            {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0},
            None,
            "does not support.*yarn",
        ),
    ],
)
def test_gguf_that_would_answer_wrongly(
    tmp_path: Path, values: dict[str, Any], tensor: str | None, message: str
) -> None:
    """Settings of a file that mistral.rs ignores or does not know are rejected."""
    more = {} if tensor is None else {tensor: np.ones((32, 32), np.float32)}
    file = tiny_models.gguf(tmp_path / "tiny.gguf", values=values, tensors=more)
    with pytest.raises(NotSupportedError, match=message):
        Runtime(model=file)


def test_gguf_tensors_that_count(tmp_path: Path) -> None:
    """mistral.rs reads a bias and a separate head, which change the answer."""
    draw = np.random.default_rng(3)
    texts = set()
    for name, shape in (("", ()), ("blk.0.attn_q.bias", (32,)), ("output.weight", (2048, 32))):
        more = {name: draw.normal(0, 3, shape).astype(np.float32)} if name else {}
        with Runtime(model=tiny_models.gguf(tmp_path / f"{len(name)}.gguf", tensors=more)) as runtime:
            texts.add(runtime.complete("hello the cache", max_tokens=6, ignore_eos=True).result().text)
    assert len(texts) == 3

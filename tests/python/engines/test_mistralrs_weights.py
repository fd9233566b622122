# SPDX-License-Identifier: Apache-2.0
"""Weights that mistral.rs would ignore are rejected, unless they do not matter."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from dynamo_llm import ModelNotFoundError, NotSupportedError, Runtime
from safetensors.numpy import load_file, save_file

_LAYER = "model.layers.0."
_ONES = np.ones(tiny_models.WIDTH, np.float32)
_HEAD = np.random.default_rng(7).normal(0, 0.3, (2048, tiny_models.WIDTH)).astype(np.float32)


def with_tensors(folder: Path, tensors: dict[str, Any], **config: Any) -> Path:
    """Creates a Llama with additional tensors; None removes one."""
    tiny_models.llama(folder)
    file = folder / "model.safetensors"
    whole = {name: value for name, value in (load_file(file) | tensors).items() if value is not None}
    save_file(whole, file)
    values = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def answer(folder: Path) -> str:
    with Runtime(model=folder) as runtime:
        return str(runtime.complete("hello the cache is", max_tokens=8, ignore_eos=True).result().text)


@pytest.mark.parametrize(
    ("tensors", "config", "name"),
    [
        ({f"{_LAYER}self_attn.q_proj.bias": _ONES}, {"attention_bias": True}, "q_proj.bias"),
        ({f"{_LAYER}self_attn.o_proj.bias": _ONES}, {}, "o_proj.bias"),
        ({f"{_LAYER}mlp.down_proj.bias": _ONES}, {"mlp_bias": True}, "down_proj.bias"),
        ({f"{_LAYER}self_attn.q_norm.weight": _ONES}, {}, "q_norm.weight"),
        ({"model.layers.1.input_layernorm.weight": _ONES}, {}, "layers.1.input_layernorm"),
        ({"model.layers.1.input_layernorm.weight": _ONES}, {"num_nextn_predict_layers": 0}, "layers.1"),
        ({"lm_head.bias": np.ones(2048, np.float32)}, {}, "lm_head.bias"),
        ({"model.embed_positions.weight": _ONES}, {}, "embed_positions"),
        (
            {f"{_LAYER}self_attn.k_proj.bias": _ONES},
            {"quantization_config": {"quant_method": "gptq"}},
            "k_proj",
        ),
    ],
)
def test_ignored_tensors(tmp_path: Path, tensors: dict[str, Any], config: dict[str, Any], name: str) -> None:
    """Each is rejected by name."""
    with pytest.raises(NotSupportedError, match=f'the tensor "[a-z0-9_.]*{name}.*mistral.rs ignores'):
        Runtime(model=with_tensors(tmp_path / "model", tensors, **config))


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_missing_biases(tmp_path: Path, name: str) -> None:
    """Those of Qwen2, which mistral.rs would silently omit."""
    biases = {f"{_LAYER}self_attn.{one}_proj.bias": _ONES for one in "qkv" if one != name}
    with pytest.raises(ModelNotFoundError, match=rf"{name}_proj\.bias"):
        Runtime(model=with_tensors(tmp_path / "m", biases, architectures=["Qwen2ForCausalLM"]))


def test_several_are_counted(tmp_path: Path) -> None:
    """The error names the first of them."""
    biases = {f"{_LAYER}self_attn.{name}_proj.bias": _ONES for name in "qkvo"}
    with pytest.raises(NotSupportedError, match=r'"model\.layers\.0\.self_attn\.k_proj\.bias" and 3 more'):
        Runtime(model=with_tensors(tmp_path / "model", biases))


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        ({f"{_LAYER}self_attn.rotary_emb.inv_freq": _ONES}, {}),
        ({f"{_LAYER}self_attn.q_proj.bias": 0 * _ONES}, {"attention_bias": True}),
        ({f"{_LAYER}self_attn.q_proj.bias": -0.0 * _ONES}, {"attention_bias": True}),
        ({f"{_LAYER}mlp.up_proj.bias": (-0.0 * _ONES).astype(np.float16)}, {}),
        ({"model.position_ids": _ONES, f"{_LAYER}_extra_state": _ONES}, {}),
        ({f"{_LAYER}self_attn.k_scale": _ONES, f"{_LAYER}self_attn.v_scale": _ONES}, {}),
        ({"model.layers.1.enorm.weight": _ONES}, {"num_nextn_predict_layers": 1}),
    ],
)
def test_harmless_tensors(tmp_path: Path, tensors: dict[str, Any], config: dict[str, Any]) -> None:
    """Tensors that cannot change an answer are accepted."""
    assert answer(with_tensors(tmp_path / "more", tensors, **config)) == answer(
        tiny_models.llama(tmp_path / "m")
    )


def test_head(tmp_path: Path) -> None:
    """A head in the file is used, whatever config.json says, as in transformers, unless it is the embedding
    itself.
    """
    tied = answer(with_tensors(tmp_path / "0", {}))
    own = answer(with_tensors(tmp_path / "1", {"lm_head.weight": _HEAD}, tie_word_embeddings=False))
    assert own != tied
    assert answer(with_tensors(tmp_path / "2", {"lm_head.weight": _HEAD}, tie_word_embeddings=True)) == own
    embedding = load_file(tmp_path / "0" / "model.safetensors")["model.embed_tokens.weight"]
    assert answer(with_tensors(tmp_path / "3", {"lm_head.weight": embedding})) == tied
    with pytest.raises(ModelNotFoundError, match=r"lm_head\.weight"):
        Runtime(model=with_tensors(tmp_path / "4", {}, tie_word_embeddings=False))


@pytest.mark.parametrize(
    "name", ["model.norm.weight", f"{_LAYER}mlp.up_proj.weight", "model.embed_tokens.weight"]
)
def test_missing_tensors(tmp_path: Path, name: str) -> None:
    """Each is named, without a backtrace."""
    with pytest.raises(ModelNotFoundError, match=name.replace(".", r"\.")) as caught:
        Runtime(model=with_tensors(tmp_path / "model", {name: None}))
    assert "\n" not in caught.value.message and "candle" not in caught.value.message


def test_other_files_of_weights(tmp_path: Path) -> None:
    """Of several weight files, those count that transformers loads; PyTorch's format is rejected."""
    folder = tiny_models.llama(tmp_path / "model")
    want = answer(folder)
    save_file({"output.weight": _HEAD}, folder / "consolidated.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert answer(folder) == want
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(NotSupportedError, match=r"PyTorch's format.*pytorch_model\.bin"):
        Runtime(model=folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(
        ModelNotFoundError, match=r"no weights.*consolidated\.safetensors, other\.safetensors"
    ):
        Runtime(model=folder)


def test_parts(tmp_path: Path) -> None:
    """Weights in parts, with an index and without, are the same model."""
    folder = tiny_models.llama(tmp_path / "model")
    want = answer(folder)
    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    places = {}
    for number, some in enumerate((names[:4], names[4:])):
        file = f"model-{number + 1:05d}-of-00002.safetensors"
        save_file({name: whole[name] for name in some}, folder / file)
        places |= dict.fromkeys(some, file)
    (folder / "model.safetensors").unlink()
    assert answer(folder) == want
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert answer(folder) == want
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"lacks model-00002-of-00002\.safetensors"):
        Runtime(model=folder)

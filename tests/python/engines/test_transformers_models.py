# SPDX-License-Identifier: Apache-2.0
"""Models that the engine ``transformers`` loads, and those that it rejects by name."""

import asyncio
import json
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from dynamo_llm.errors import DynamoError, InvalidConfigError, ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime.engine import EngineConfig, Sampling, TokenRequest
from dynamo_llm.runtime.engines.transformers import TransformersEngine
from safetensors.numpy import load_file, save_file

if find_spec("torch") is None or find_spec("transformers") is None:
    pytest.skip('needs: python -m pip install ".[transformers]"', allow_module_level=True)

Tensors = dict[str, Any]
layer = "model.layers.0."


def changed(folder: Path, change: Callable[[Tensors], Any] = len, **config: Any) -> Path:
    """A tiny Llama with changed tensors and config.json."""
    tiny_models.llama(folder / "model")
    path = folder / "model"
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return path


def started(path: Path, **options: Any) -> TransformersEngine:
    engine = TransformersEngine(EngineConfig("transformers", str(path), {"dtype": "float32", **options}))
    engine.start()
    return engine


def answer(path: Path, tokens: int = 8) -> list[int]:
    """Returns its greedy answer."""
    engine = started(path)

    async def work() -> list[int]:
        request = TokenRequest("r", [5, 900, 77, 3], tokens, Sampling())
        return [token async for chunk in engine.generate(request) for token in chunk["token_ids"]]

    try:
        return asyncio.run(asyncio.wait_for(work(), 60))
    finally:
        engine.stop()


def error_of(path: Path) -> DynamoError:
    """Returns the error of its start."""
    with pytest.raises(DynamoError) as caught:
        started(path)
    return caught.value


def bias(width: int = tiny_models.WIDTH) -> Any:
    return np.ones(width, np.float32)


# ------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("lm_head.weight", {"tie_word_embeddings": False}),
        ("model.norm.weight", {}),
        (f"{layer}mlp.down_proj.weight", {}),
        (f"{layer}self_attn.k_proj.weight", {}),
        ("model.embed_tokens.weight", {}),
    ],
)
def test_missing(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    """transformers would initialize it with random numbers."""
    error = error_of(changed(tmp_path, lambda tensors: tensors.pop(name, None), **config))
    assert isinstance(error, ModelNotFoundError)
    assert name in error.message


def test_missing_layer_and_biases(tmp_path: Path) -> None:
    """The error names the first few, and counts the others."""
    error = error_of(changed(tmp_path, num_hidden_layers=2))
    assert isinstance(error, ModelNotFoundError)
    assert "lack model.layers.1.input_layernorm.weight, " in error.message
    assert "and 4 more, which LlamaForCausalLM needs" in error.message
    error = error_of(changed(tmp_path / "biases", mlp_bias=True))
    assert f"lack {layer}mlp.down_proj.bias, {layer}mlp.gate_proj.bias" in error.message


def test_missing_expert(tmp_path: Path) -> None:
    """One of the experts that transformers merges into one tensor."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = MixtralConfig(**sizes, num_key_value_heads=1, head_dim=32, vocab_size=2048, num_local_experts=4)
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    names = [name for name in tensors if ".experts.2." in name]
    assert names
    for name in names:
        del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    error = error_of(tmp_path)
    assert isinstance(error, ModelNotFoundError)
    assert "experts" in error.message


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.mlp.down_proj.weight",
        f"{layer}self_attn.q_proj.bias",
        f"{layer}self_attn.q_norm.weight",
        "lm_head.bias",
        "score.weight",
    ],
)
def test_surplus(name: str, tmp_path: Path) -> None:
    """Tensors that the model would ignore."""
    error = error_of(changed(tmp_path, lambda tensors: tensors.update({name: bias()})))
    assert isinstance(error, NotSupportedError)
    assert f"have {name}, which LlamaForCausalLM with this config.json ignores" in error.message


def test_surplus_layer(tmp_path: Path) -> None:
    def add(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(layer)]:
            tensors[name.replace(".0.", ".1.")] = tensors[name]

    error = error_of(changed(tmp_path, add))
    assert isinstance(error, NotSupportedError)
    assert "have model.layers.1.input_layernorm.weight" in error.message
    assert "and 4 more" in error.message


@pytest.mark.parametrize(
    ("name", "value", "config"),
    [
        (f"{layer}self_attn.rotary_emb.inv_freq", bias(16), {}),
        (f"{layer}self_attn.masked_bias", np.full(1, -1e9, np.float32), {}),
        (f"{layer}attn.bias", np.tril(np.ones((1, 1, 8, 8), np.uint8)), {}),
        ("model.position_ids", np.arange(8).reshape(1, 8), {}),
        ("model.layers.1.mlp.down_proj.weight", bias(), {"num_nextn_predict_layers": 1}),
        ("vision_tower.patches.weight", bias(), {"vision_config": {"hidden_size": 8}}),
    ],
)
def test_harmless(name: str, value: Any, config: dict[str, Any], tmp_path: Path) -> None:
    """Tensors that are recomputed, or do not affect an answer."""
    plain = answer(changed(tmp_path / "plain"))
    assert answer(changed(tmp_path, lambda tensors: tensors.update({name: value}), **config)) == plain


def test_tied_head(tmp_path: Path) -> None:
    """It may be absent, or a copy; another one in the file is used, as with transformers."""
    other = np.random.default_rng(9).normal(size=(2048, tiny_models.WIDTH)).astype(np.float32)

    def copy(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    def replace(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = other

    absent = answer(changed(tmp_path / "absent"))
    assert answer(changed(tmp_path / "copy", copy)) == absent
    tied = answer(changed(tmp_path / "tied", replace, tie_word_embeddings=True))
    assert tied == answer(changed(tmp_path / "untied", replace, tie_word_embeddings=False)) != absent


def test_without_prefix(tmp_path: Path) -> None:
    """The base model's names, without "model."."""

    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    assert answer(changed(tmp_path, rename)) == answer(changed(tmp_path / "plain"))


@pytest.mark.parametrize(
    "name", [f"{layer}mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_wrong_shape(name: str, tmp_path: Path) -> None:
    def cut(tensors: Tensors) -> None:
        tensors[name] = tensors[name][:-1].copy()

    error = error_of(changed(tmp_path, cut))
    assert isinstance(error, ModelNotFoundError)
    assert f"wrong shape: {name} (({31 if 'embed' not in name else 2047}," in error.message


def test_integers(tmp_path: Path) -> None:
    """Quantized weights without their configuration are rejected."""

    def quantize(tensors: Tensors) -> None:
        name = f"{layer}mlp.down_proj.weight"
        tensors[name] = (tensors[name] * 100).astype(np.int8)

    error = error_of(changed(tmp_path, quantize))
    assert isinstance(error, NotSupportedError)
    assert f"stores integers in {layer}mlp.down_proj.weight" in error.message


# --------------------------------------------------------------------------------------------- files


def sharded(folder: Path, lost: str = "") -> Path:
    """A model in two files, with an index; one tensor is in neither of them."""
    path = changed(folder)
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    places = {}
    for number, name in enumerate(sorted(tensors)):
        place = list(shards)[number % 2]
        places[name] = place
        if name != lost:
            shards[place][name] = tensors[name]
    for place, some in shards.items():
        save_file(some, path / place, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def test_sharded(tmp_path: Path) -> None:
    assert answer(sharded(tmp_path)) == answer(changed(tmp_path / "whole"))


@pytest.mark.parametrize("shard", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
def test_missing_shard(shard: str, tmp_path: Path) -> None:
    path = sharded(tmp_path)
    (path / shard).unlink()
    error = error_of(path)
    assert isinstance(error, ModelNotFoundError)
    assert f"lacks {shard}, which model.safetensors.index.json names" in error.message


def test_shard_without_its_tensor(tmp_path: Path) -> None:
    error = error_of(sharded(tmp_path, lost="model.norm.weight"))
    assert isinstance(error, ModelNotFoundError)
    assert "lack model.norm.weight" in error.message


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_broken_index(index: str, tmp_path: Path) -> None:
    path = sharded(tmp_path)
    (path / "model.safetensors.index.json").write_text(index)
    assert isinstance(error_of(path), ModelNotFoundError)


@pytest.mark.parametrize("size", [0, 7, 200, -1])
def test_incomplete_file(size: int, tmp_path: Path) -> None:
    path = changed(tmp_path)
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    error = error_of(path)
    assert isinstance(error, ModelNotFoundError)
    assert "not in the format safetensors" in error.message or "not whole" in error.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 10**12}, '"hidden_size" of config.json is 1e\\+12'),
        ({"num_hidden_layers": 10**9}, '"num_hidden_layers" of config.json is 1e\\+09'),
        ({"text_config": {"num_hidden_layers": 10**9}}, '"text_config.num_hidden_layers"'),
        ({"model_type": "qwen3_moe", "num_experts": 10**6}, '"num_experts"'),
        ({"model_type": "mixtral", "num_local_experts": 2000}, r"has \d+ parameters, but its files have \d+"),
        ({"intermediate_size": 1_000_000}, r"has \d+ parameters, but its files have \d+"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"vocab_size": -1}, "config.json"),
        ({"rms_norm_eps": "x"}, "config.json"),
        ({"rope_parameters": {"rope_type": "nope"}}, "config.json"),
    ],
)
def test_absurd_numbers(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Sizes that the weights do not have are rejected before memory is allocated for them."""
    error = error_of(changed(tmp_path, **config))
    assert isinstance(error, ModelNotFoundError)
    assert re.search(message, error.message), error.message


def test_special_files(tmp_path: Path) -> None:
    """transformers opens files itself, so all of the folder are checked before."""
    for name in ("generation_config.json", "model.safetensors", "tokenizer.json", "other.json"):
        path = changed(tmp_path / name)
        (path / name).unlink(missing_ok=True)
        os.mkfifo(path / name)
        error = error_of(path)
        assert isinstance(error, ModelNotFoundError)
        assert f'{name}" of the model is a FIFO' in error.message


def test_other_file_names(tmp_path: Path) -> None:
    path = changed(tmp_path)
    (path / "model.safetensors").rename(path / "weights.safetensors")
    error = error_of(path)
    assert isinstance(error, ModelNotFoundError)
    assert "neither model.safetensors nor model.safetensors.index.json" in error.message


@pytest.mark.parametrize(
    "config", [{"num_attention_heads": 3}, {"hidden_size": "32"}, {"torch_dtype": "float7"}]
)
def test_config_that_is_not_valid(config: dict[str, Any], tmp_path: Path) -> None:
    error = error_of(changed(tmp_path, **config))
    assert isinstance(error, ModelNotFoundError)
    assert "cannot use the config.json" in error.message


def test_config_that_is_not_json(tmp_path: Path) -> None:
    path = changed(tmp_path)
    (path / "config.json").write_text("{")
    assert isinstance(error_of(path), ModelNotFoundError)


def test_quantization_that_is_not_installed(tmp_path: Path) -> None:
    quantization = {"quant_method": "awq", "bits": 4}
    assert isinstance(error_of(changed(tmp_path, quantization_config=quantization)), NotSupportedError)


@pytest.mark.parametrize("attention", ["flash_attention_2", "none at all"])
def test_missing_attention_implementation(attention: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=f'"options.attn_implementation" is "{attention}"'):
        started(changed(tmp_path), attn_implementation=attention)


# --------------------------------------------------------------------------------------------- kinds


def saved(folder: Path, model_type: str, **config: Any) -> Path:
    """A model of an architecture that transformers knows."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    made = AutoConfig.for_model(model_type, vocab_size=2048, **config)
    kind = AutoModelForSeq2SeqLM if made.is_encoder_decoder else AutoModelForCausalLM
    kind.from_config(made).save_pretrained(folder)
    return folder


sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
heads = {**sizes, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("model_type", "config", "says"),
    [
        ("lfm2", {**heads, "layer_types": ["conv", "full_attention"]}, "keeps a state"),
        ("mamba", {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}, "keeps a state"),
        (
            "minimax",
            {**heads, "layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2},
            "keeps a state",
        ),
        ("rwkv", {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2}, "in a batch"),
        ("bert", sizes, "attends to the tokens that follow"),
        ("roberta", sizes, "attends to the tokens that follow"),
        ("t5", {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2}, "has an encoder"),
        (
            "bart",
            {
                "d_model": 32,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2,
                "encoder_ffn_dim": 48,
                "decoder_ffn_dim": 48,
            },
            "has an encoder",
        ),
    ],
)
def test_kind_that_cannot_be_stepped(
    model_type: str, config: dict[str, Any], says: str, tmp_path: Path
) -> None:
    """It is rejected when it is loaded, not by the first request."""
    error = error_of(saved(tmp_path, model_type, **config))
    assert isinstance(error, NotSupportedError)
    assert says in error.message
    assert f"({model_type})" in error.message


@pytest.mark.parametrize("model_type", ["vit", "whale", None])
def test_kind_that_transformers_does_not_run(model_type: str | None, tmp_path: Path) -> None:
    error = error_of(changed(tmp_path, model_type=model_type))
    assert isinstance(error, NotSupportedError)
    assert "\n" not in error.message  # it does not list all known kinds


def test_hybrid_with_attention_only(tmp_path: Path) -> None:
    """The layers count, not the name of the architecture."""
    layers = ["attention", "attention"]
    config: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 1, "mamba_n_heads": 2}
    model = saved(
        tmp_path, "granitemoehybrid", **heads, **config, shared_intermediate_size=32, layer_types=layers
    )
    assert len(answer(model)) == 8


def test_logits_that_are_not_numbers(tmp_path: Path) -> None:
    """The request fails, instead of generating the token 0."""

    def spoil(tensors: Tensors) -> None:
        tensors["model.norm.weight"][:] = np.nan

    with pytest.raises(DynamoError, match="its logits are not numbers"):
        answer(changed(tmp_path, spoil))


# ----------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("config", "generation", "tokenizer", "ends"),
    [
        (7, None, None, [7]),
        ([7, 8], [9], None, [7, 8, 9]),
        (None, 9, "<|user|>", [3, 9]),
        (None, None, "<|system|>", [2]),
        (0, [0], {"content": "<|assistant|>"}, [0, 4]),
    ],
)
def test_ends(config: Any, generation: Any, tokenizer: Any, ends: list[int], tmp_path: Path) -> None:
    """Each setting that names an end token counts."""
    path = changed(tmp_path, eos_token_id=config)
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    file = path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["eos_token"]
    file.write_text(json.dumps(settings | ({} if tokenizer is None else {"eos_token": tokenizer})))
    engine = started(path)
    engine.stop()
    assert sorted(engine.describe()["eos_token_ids"]) == ends

# SPDX-License-Identifier: Apache-2.0
"""config.json for mistral.rs: both formats are equivalent, and settings that mistral.rs would ignore are
rejected.
"""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from dynamo_llm import ModelNotFoundError, NotSupportedError, Runtime

architectures, normalized_config = (
    importlib.import_module(f"dynamo_llm.runtime.engines.mistralrs.{name}")
    for name in ("architectures", "normalized_config")
)

_SIZES = {
    "vocab_size": 99,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def given(architecture: str, **values: Any) -> dict[str, Any]:
    return {"architectures": [architecture], **_SIZES, **values}


@pytest.mark.parametrize("name", sorted(architectures.known))
def test_keys_of_each_architecture(name: str) -> None:
    """A file with only the sizes gets every key that mistral.rs needs, in the format of transformers 4."""
    five = normalized_config.normalized(given(name, dtype="float32", rope_parameters={"rope_theta": 500.0}))
    assert five["torch_dtype"] == "float32" and five["rope_theta"] == 500.0
    assert not five.get("rope_scaling") and five["num_key_value_heads"] >= 1
    assert isinstance(five["tie_word_embeddings"], bool)
    wanted = architectures.known[name].defaults
    assert all(key in five for key, value in wanted.items() if value is not None)
    four = normalized_config.normalized(given(name, torch_dtype="float32", rope_theta=500.0))
    for key in (*wanted, "rope_theta", "torch_dtype", "tie_word_embeddings", "num_key_value_heads"):
        assert four.get(key) == five.get(key), key


def test_a_complete_file_is_unchanged() -> None:
    """A file of transformers 4 needs no rewriting, so mistral.rs reads the folder itself."""
    whole = normalized_config.normalized(given("LlamaForCausalLM", torch_dtype="float32", rope_scaling=None))
    assert normalized_config.normalized(whole) == whole


@pytest.mark.parametrize(
    ("name", "parameters", "scaling"),
    [
        ("LlamaForCausalLM", _LLAMA3, _LLAMA3),
        ("LlamaForCausalLM", {"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        ("SmolLM3ForCausalLM", _LLAMA3, _LLAMA3),
        ("GptOssForCausalLM", _YARN, {**_YARN, "beta_fast": 32.0, "beta_slow": 1.0}),
        ("DeepseekV3ForCausalLM", _YARN, {**_YARN, "mscale": 1.0, "mscale_all_dim": 0.0}),
        (
            "Phi3ForCausalLM",
            {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
            {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
        ),
        (
            "HunYuanDenseV1ForCausalLM",
            {"rope_type": "dynamic", "alpha": 9.0},
            {"type": "dynamic", "alpha": 9.0},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rope_scaling(name: str, parameters: dict[str, Any], scaling: dict[str, Any]) -> None:
    """Either format, in the keys that mistral.rs reads."""
    five = normalized_config.normalized(given(name, rope_parameters={**parameters, "rope_theta": 9.0}))
    four = normalized_config.normalized(given(name, rope_scaling=parameters, rope_theta=9.0))
    assert five["rope_scaling"] == four["rope_scaling"] and five["rope_theta"] == four["rope_theta"] == 9.0
    assert scaling.items() <= five["rope_scaling"].items()


def test_other_names() -> None:
    """Keys that transformers 5 renames, or moves."""
    moe = normalized_config.normalized(given("Qwen3MoeForCausalLM", num_local_experts=4))
    assert moe["num_experts"] == 4 and moe["max_window_layers"] == 28
    granite = given("GraniteMoeHybridForCausalLM", layer_types=["linear_attention", "full_attention"])
    assert normalized_config.normalized(granite)["layer_types"] == ["mamba", "attention"]
    types = ["linear_attention", "linear_attention", "full_attention"] * 2
    assert (
        normalized_config.normalized(given("Qwen3NextForCausalLM", layer_types=types))[
            "full_attention_interval"
        ]
        == 3
    )
    lite = given("Glm4MoeLiteForCausalLM", mlp_layer_types=["dense", "dense", "sparse"])
    assert normalized_config.normalized(lite)["first_k_dense_replace"] == 2
    glm = given("Glm4ForCausalLM", rope_parameters={"rope_theta": 1.0, "partial_rotary_factor": 0.25})
    assert normalized_config.normalized(glm)["partial_rotary_factor"] == 0.25
    lfm = normalized_config.normalized(given("Lfm2ForCausalLM", rope_theta=5.0, tie_embedding=False))
    assert lfm["rope_parameters"] == {"rope_theta": 5.0, "rope_type": "default"}
    assert lfm["tie_word_embeddings"] is False and "tie_embedding" not in lfm


def test_defaults_of_transformers() -> None:
    """Absent keys have transformers' values, not mistral.rs'; null may mean none."""
    assert normalized_config.normalized(given("GemmaForCausalLM"))["tie_word_embeddings"] is True
    assert normalized_config.normalized(given("LlamaForCausalLM"))["tie_word_embeddings"] is False
    assert normalized_config.normalized(given("MistralForCausalLM"))["sliding_window"] == 4096
    assert (
        normalized_config.normalized(given("MistralForCausalLM", sliding_window=None))["sliding_window"]
        is None
    )
    assert (
        normalized_config.normalized(given("LlamaForCausalLM", num_key_value_heads=None))[
            "num_key_value_heads"
        ]
        == 4
    )
    assert normalized_config.normalized(given("DeepseekV3ForCausalLM"))["scoring_func"] == "sigmoid"


def test_yarn_of_mistral() -> None:
    """transformers' attention factor, in the key that mistral.rs reads: 1 + 0.1 * mscale * ln(factor)."""
    for values, mscale in (
        ({}, 1.0),
        ({"attention_factor": 1.0}, 0.0),
        ({"attention_factor": 1.5}, 0.5 / (0.1 * math.log(4))),
        ({"mscale": 0.7}, 1.0),  # ignored without mscale_all_dim
        (
            {"mscale": 0.7, "mscale_all_dim": 0.5},
            ((1 + 0.07 * math.log(4)) / (1 + 0.05 * math.log(4)) - 1) / (0.1 * math.log(4)),
        ),
    ):
        result = normalized_config.normalized(
            given("MistralForCausalLM", rope_parameters={**_YARN, **values})
        )
        assert result["rope_parameters"]["mscale"] == pytest.approx(mscale)
        assert result["rope_parameters"]["mscale_all_dim"] == 0.0


def test_truncate_of_yarn() -> None:
    """transformers rounds the range of YaRN unless the file says otherwise."""
    for values, want in (({}, True), ({"truncate": True}, True), ({"truncate": False}, False)):
        result = normalized_config.normalized(given("GptOssForCausalLM", rope_parameters={**_YARN, **values}))
        assert result["rope_scaling"]["truncate"] is want


def test_longrope_attention() -> None:
    """mistral.rs computes an attention factor that follows from the lengths."""
    for values in ({}, {"factor": 8.0}, {"attention_factor": (1 + math.log(8) / math.log(64)) ** 0.5}):
        rope = {**_LONGROPE, **values}
        normalized_config.normalized(
            given("Phi3ForCausalLM", rope_parameters=rope, original_max_position_embeddings=64)
        )


def test_activation_of_gemma() -> None:
    """Of the two keys in published files, the one that transformers reads counts."""
    both = {"hidden_act": "gelu", "hidden_activation": "silu"}
    first = normalized_config.normalized(given("GemmaForCausalLM", **both))
    assert first["hidden_act"] == "gelu" and "hidden_activation" not in first
    second = normalized_config.normalized(given("Gemma2ForCausalLM", **both))
    assert second["hidden_activation"] == "silu" and "hidden_act" not in second
    only = normalized_config.normalized(given("GemmaForCausalLM", hidden_activation="silu"))
    assert only["hidden_act"] == "gelu_pytorch_tanh" and "hidden_activation" not in only


@pytest.mark.parametrize("name", ["Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"])
def test_window_that_is_off(name: str) -> None:
    """A window counts only if "use_sliding_window" is true."""
    for values in ({}, {"use_sliding_window": False}, {"use_sliding_window": None}):
        assert normalized_config.normalized(given(name, sliding_window=8, **values))["sliding_window"] is None


def test_end_tokens_of_phi3() -> None:
    """mistral.rs accepts only one of each; the library reads the IDs itself."""
    for ids, want in (([7, 8], 7), ([], None), (7, 7)):
        result = normalized_config.normalized(given("Phi3ForCausalLM", eos_token_id=ids, bos_token_id=ids))
        assert result["eos_token_id"] == want and result["bos_token_id"] == want


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("MistralForCausalLM", {"rope_parameters": {**_YARN, "truncate": False}}, '"truncate"'),
        ("DeepseekV3ForCausalLM", {"rope_parameters": {**_YARN, "attention_factor": 2.0}}, "by 2"),
        ("DeepseekV3ForCausalLM", {"rope_parameters": {**_YARN, "mscale": 0.5}}, "attention_factor"),
        ("GptOssForCausalLM", {"rope_parameters": {**_YARN, "attention_factor": 2.0}}, "by 2"),
        ("Phi3ForCausalLM", {"rope_parameters": {**_LONGROPE, "factor": 4.0}}, "ignores both"),
        ("Phi3ForCausalLM", {"rope_parameters": {**_LONGROPE, "attention_factor": 2.0}}, "ignores both"),
        ("LlamaForCausalLM", {"sliding_window": 8}, '"sliding_window".*is 8'),
        ("GemmaForCausalLM", {"sliding_window": 8}, '"sliding_window".*is 8'),
        ("Glm4ForCausalLM", {"sliding_window": 8}, '"sliding_window".*is 8'),
        ("GemmaForCausalLM", {"use_bidirectional_attention": True}, '"use_bidirectional_attention"'),
        ("Gemma2ForCausalLM", {"layer_types": ["full_attention", "sliding_attention"]}, '"layer_types"'),
        ("Gemma2ForCausalLM", {"layer_types": ["full_attention", "full_attention"]}, '"layer_types"'),
        ("MistralForCausalLM", {"layer_types": ["sliding_attention", "full_attention"]}, '"layer_types"'),
        ("Qwen2ForCausalLM", {"rope_parameters": _YARN}, '"yarn".*Qwen2.*none'),
        ("Qwen3ForCausalLM", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, '"yarn"'),
        ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "dynamic"}}, '"dynamic".*"linear", "llama3"'),
        ("MistralForCausalLM", {"rope_scaling": {"type": "linear", "factor": 2.0}}, '"linear".*"yarn"'),
        (
            "LlamaForCausalLM",
            {"rope_parameters": {"full_attention": {"rope_theta": 1.0}, "sliding": {"rope_theta": 2.0}}},
            "differ between full_attention, sliding",
        ),
        ("LlamaForCausalLM", {"head_dim": 32}, '"head_dim" of config.json is 32.*16'),
        ("PhiForCausalLM", {"qk_layernorm": True}, '"qk_layernorm"'),
        ("MistralForCausalLM", {"sliding_window": 1}, '"sliding_window".*is 1'),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 1}, '"sliding_window".*is 1'),
        ("Phi3ForCausalLM", {"sliding_window": 1}, '"sliding_window".*is 1'),
        ("Qwen3ForCausalLM", {"use_sliding_window": True, "sliding_window": 8}, '"use_sliding_window"'),
        ("Qwen3MoeForCausalLM", {"use_sliding_window": True, "sliding_window": 8}, '"use_sliding_window"'),
        ("SmolLM3ForCausalLM", {"use_sliding_window": True, "sliding_window": 8}, '"use_sliding_window"'),
        ("DeepseekV3ForCausalLM", {"norm_topk_prob": False}, '"norm_topk_prob"'),
        (
            "Qwen3NextForCausalLM",
            {"layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"]},
            '"layer_types"',
        ),
        ("Olmo2ForCausalLM", {}, '"Olmo2ForCausalLM".*supported are LlamaForCausalLM, MistralForCausalLM'),
        ("PhiMoEForCausalLM", {}, '"PhiMoEForCausalLM"'),
    ],
)
def test_rejected_settings(name: str, values: dict[str, Any], message: str) -> None:
    """Settings that mistral.rs would ignore, or compute differently."""
    with pytest.raises(NotSupportedError, match=message):
        normalized_config.normalized(given(name, **values))


def test_sizes_are_needed() -> None:
    """Sizes have no usable default."""
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        for value in (None, 0, "8", True):
            with pytest.raises(ModelNotFoundError, match=f'"{key}"'):
                normalized_config.normalized(given("LlamaForCausalLM", **{key: value}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"rope_theta": 500.0}, {"rope_theta": 500.0, "rope_type": "default"}),
        ({"rope_theta": 1e4, "rope_scaling": _LLAMA3}, {"rope_theta": 1e4, **_LLAMA3}),
        (
            {"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
            {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0},
        ),
    ],
)
def test_answers(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """A model gives the same answer with either format, and another one with other RoPE settings."""
    texts = []
    for number, settings in enumerate(
        ({"rope_theta": 33.0}, old, {"rope_parameters": new, "rope_theta": None})
    ):
        folder = tiny_models.llama(tmp_path / str(number))
        values = json.loads((folder / "config.json").read_text()) | settings
        if number == 2:
            values["dtype"] = values.pop("torch_dtype")
        (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
        with Runtime(model=folder) as runtime:
            texts.append(runtime.complete("hello the cache is", max_tokens=12, ignore_eos=True).result().text)
    assert texts[2] == texts[1] != texts[0]


@pytest.mark.parametrize("name", ["Qwen3ForCausalLM", "Qwen3Model"])
def test_embeddings(tmp_path: Path, name: str) -> None:
    """An embedding model's config.json is normalized, too."""
    vectors = []
    for number, settings in enumerate(
        (
            {"rope_theta": 33.0},
            {"rope_theta": 500.0},
            {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}, "rope_theta": None},
        )
    ):
        folder = tiny_models.embedder(tmp_path / str(number))
        values = json.loads((folder / "config.json").read_text()) | settings | {"architectures": [name]}
        (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
        with Runtime(model=folder) as runtime:
            vectors.append(runtime.embed("hello the cache is").result().vectors[0])
    assert vectors[2] == vectors[1] != vectors[0]


def test_embedding_config() -> None:
    """EmbeddingGemma has a separate RoPE for layers with a window."""
    parameters = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    types = ["sliding_attention", "sliding_attention", "full_attention"]
    gemma = given("Gemma3TextModel", rope_parameters=parameters, layer_types=types, dtype="float32")
    result = normalized_config.normalized_embedding(gemma)
    assert (result["rope_theta"], result["rope_local_base_freq"]) == (1e6, 1e4)
    assert result["sliding_window_pattern"] == 3 and result["torch_dtype"] == "float32"
    parameters["full_attention"]["rope_type"] = "linear"
    with pytest.raises(NotSupportedError, match='"linear"'):
        normalized_config.normalized_embedding(gemma)
    with pytest.raises(NotSupportedError, match='embeddings with the architecture "BertModel"'):
        normalized_config.normalized_embedding(given("BertModel"))

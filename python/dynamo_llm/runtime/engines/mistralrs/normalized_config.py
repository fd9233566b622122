# SPDX-License-Identifier: Apache-2.0
"""Converts config.json to the form that mistral.rs reads: that of transformers 4, with every key that it
needs.

transformers 5 writes RoPE's settings into ``rope_parameters``, writes ``dtype`` instead of ``torch_dtype``,
and renames or omits other keys. mistral.rs rejects some of these files, and ignores settings in others. So
config.json is rewritten, and settings that mistral.rs would ignore are rejected.
"""

import math
from collections.abc import Mapping
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime.engines.mistralrs import config_sizes
from dynamo_llm.runtime.engines.mistralrs.architectures import Architecture, images, known

#: Keys whose null has a meaning; for others it means the default.
_nullable = {
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "head_dim",
    "q_lora_rank",
    "rope_scaling",
    "sliding_window",
}
#: Architectures in which either all layers use the sliding window or none.
_windows_of_all = {"MistralForCausalLM", "MixtralForCausalLM", "Phi3ForCausalLM", "Starcoder2ForCausalLM"}
#: Kinds of layers in GraniteMoeHybrid, by their names in transformers 5.
_layer_types = {"linear_attention": "mamba", "full_attention": "attention"}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Returns what mistral.rs reads of a model.

    :raises NotSupportedError: mistral.rs does not support the architecture.
    """
    names = config["architectures"]
    if len(names) == 1 and names[0] in known:
        return known[names[0]]
    given = names[0] if len(names) == 1 else names
    raise NotSupportedError(
        f'mistral.rs does not support the architecture "{given}" ("architectures" of config.json); '
        f"supported are {', '.join((*known, *images))}"
    )


def normalized(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a config.json of either form to the form that mistral.rs reads.

    :raises ModelNotFoundError: a key without a default is missing.
    :raises NotSupportedError: mistral.rs would ignore a setting of the model.
    """
    architecture = architecture_of(config)
    name = config["architectures"][0]
    config_sizes.check_types(config)
    result = dict(config)
    if result.get("torch_dtype") is None and result.get("dtype") is not None:
        result["torch_dtype"] = result["dtype"]
    if "num_experts" in architecture.defaults and result.get("num_local_experts") is not None:
        result.setdefault("num_experts", result["num_local_experts"])
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        if result.get(key) is None:
            raise ModelNotFoundError(f'"{key}" of config.json is missing; it must be a positive integer')
    _set_rope(result, architecture)
    for key, value in architecture.defaults.items():
        if value is not None and (key not in result or (result[key] is None and key not in _nullable)):
            result[key] = value
    has_switch = "use_sliding_window" in {*architecture.defaults, *architecture.required}
    if has_switch and not result.get("use_sliding_window"):
        result["sliding_window"] = None  # for some architectures, mistral.rs would use it anyway
    if result.get("num_key_value_heads") is None:
        result["num_key_value_heads"] = result["num_attention_heads"]
    if name == "GemmaForCausalLM":
        result.pop("hidden_activation", None)  # transformers reads "hidden_act", mistral.rs accepts only one
    if name == "Gemma2ForCausalLM":
        result.pop("hidden_act", None)  # transformers reads "hidden_activation"
    tied = result.pop("tie_embedding", None)  # the former name in LFM2
    if result.get("tie_word_embeddings") is None:
        result["tie_word_embeddings"] = architecture.is_tied if tied is None else tied
    _set_layers(result, name)
    for key in ("bos_token_id", "eos_token_id"):  # the library reads all ids of a list, mistral.rs none
        if name == "Phi3ForCausalLM" and isinstance(result.get(key), list):
            result[key] = next(iter(result[key]), None)
    if name == "Qwen3_5ForCausalLM":
        _set_sections(result)
    _check(result, architecture)
    return result


def normalized_embedding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the config.json of an embedding model in the same way.

    :raises NotSupportedError: mistral.rs does not support the architecture.
    """
    name = config["architectures"][0]
    if name in ("Qwen3ForCausalLM", "Qwen3Model"):
        return normalized({**config, "architectures": ["Qwen3ForCausalLM"]})
    if name != "Gemma3TextModel":
        raise NotSupportedError(
            f'mistral.rs does not make embeddings with the architecture "{name}" ("architectures" of '
            f"config.json); supported are Qwen3ForCausalLM, Qwen3Model, Gemma3TextModel"
        )
    config_sizes.check_types(config)
    result = dict(config)
    if result.get("dtype") is not None:
        result.setdefault("torch_dtype", result["dtype"])
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict):
        for kind, key in (("full_attention", "rope_theta"), ("sliding_attention", "rope_local_base_freq")):
            rope = parameters.get(kind) or {}
            if rope.get("rope_type", "default") != "default":
                raise NotSupportedError(
                    f'"rope_parameters" of config.json set the RoPE scaling "{rope["rope_type"]}", which '
                    f"mistral.rs does not compute for {name}"
                )
            if rope.get("rope_theta") is not None:
                result[key] = rope["rope_theta"]
    types = config.get("layer_types")
    if isinstance(types, list) and "full_attention" in types:
        result["sliding_window_pattern"] = types.index("full_attention") + 1
    result.setdefault("use_bidirectional_attention", False)
    return result


def _set_rope(config: dict[str, Any], architecture: Architecture) -> None:
    """Sets the keys from which mistral.rs reads RoPE's settings."""
    given = _flat(config.get("rope_parameters")) or {}
    old = config.get("rope_scaling")
    if not given and isinstance(old, dict):
        given = dict(old)
    kind = str(given.get("rope_type") or given.get("type") or "default")
    kind = "longrope" if kind == "su" else kind
    theta = given.get("rope_theta", config.get("rope_theta"))
    config["rope_theta"] = float(architecture.rope_theta if theta is None else theta)
    if given.get("partial_rotary_factor") is not None:
        config["partial_rotary_factor"] = given["partial_rotary_factor"]
    factors = {
        key: value
        for key, value in given.items()
        if key not in ("rope_theta", "partial_rotary_factor", "rope_type", "type") and value is not None
    }
    if old is not None:
        config["rope_scaling"] = None
    if kind != "default":
        if kind not in architecture.scalings:
            supported = ", ".join(f'"{name}"' for name in sorted(architecture.scalings)) or "none"
            raise NotSupportedError(
                f'config.json sets the RoPE scaling "{kind}", which mistral.rs does not compute for '
                f"{config['architectures'][0]}; supported: {supported}"
            )
        config["rope_scaling"] = _scaling(config, kind, factors, architecture)
    reads_parameters = config["architectures"][0].startswith(("Lfm2", "Qwen3_5"))
    if kind == "default" and config.get("rope_parameters") is None and not reads_parameters:
        return
    config["rope_parameters"] = {
        **(config.get("rope_scaling") or {}),
        "rope_theta": config["rope_theta"],
        "rope_type": kind,
    }


def _flat(parameters: Any) -> dict[str, Any] | None:
    """Returns RoPE's settings if they are the same for all kinds of layers."""
    if not isinstance(parameters, dict):
        return None
    if not parameters or not all(isinstance(value, dict) for value in parameters.values()):
        return parameters
    first, *others = parameters.values()
    if any(other != first for other in others):
        raise NotSupportedError(
            f'"rope_parameters" of config.json differ between {", ".join(parameters)}; mistral.rs computes '
            f"one RoPE for all layers of this architecture"
        )
    return dict(first)


def _scaling(
    config: dict[str, Any], kind: str, factors: dict[str, Any], architecture: Architecture
) -> dict[str, Any]:
    name = config["architectures"][0]
    scaling: dict[str, Any] = {"rope_type": kind, "type": kind, **factors}
    if name.startswith("HunYuan"):
        del scaling["rope_type"]  # mistral.rs treats both names as one key here
    if kind == "longrope":
        _check_longrope(config, factors, architecture)
    if kind == "yarn":
        scaling = {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": config.get("max_position_embeddings"),
            **scaling,
        }
        if name.startswith("Deepseek"):
            scaling = {"mscale": 1.0, "mscale_all_dim": 0.0, **scaling}
        _set_yarn(name, scaling)
    return scaling


def _check_longrope(
    config: Mapping[str, Any], factors: Mapping[str, Any], architecture: Architecture
) -> None:
    """Rejects an attention factor other than the one that mistral.rs derives from the two lengths."""
    key = "original_max_position_embeddings"
    # transformers reads this key only next to "rope_scaling", not in it.
    original = config.get(key) or architecture.defaults[key]
    derived = (config.get("max_position_embeddings") or original) / original
    wanted = factors.get("attention_factor")
    if wanted is None:
        wanted = _longrope_factor(factors.get("factor") or derived, original)
    if not math.isclose(wanted, _longrope_factor(derived, original), rel_tol=1e-6):
        raise NotSupportedError(
            f'config.json sets "attention_factor" or "factor" of the RoPE scaling "longrope"; mistral.rs '
            f"ignores both and scales attention by {_longrope_factor(derived, original):.6g}, not by "
            f"{wanted:.6g}"
        )


def _longrope_factor(factor: float, original: int) -> float:
    return 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(original))


def _set_yarn(name: str, scaling: dict[str, Any]) -> None:
    """Sets YaRN's attention factor in the keys that mistral.rs reads, or rejects it."""
    if scaling.get("truncate") is False and not name.startswith("GptOss"):
        raise NotSupportedError(
            f'config.json sets "truncate": false for the RoPE scaling "yarn"; mistral.rs computes {name} '
            f"with true only"
        )
    scaling.setdefault("truncate", True)  # the default of mistral.rs for GptOss is false
    factor = scaling.get("factor")
    if not isinstance(factor, int | float):
        raise ModelNotFoundError(
            f'"factor" of the RoPE scaling "yarn" in config.json must be a number, not {factor!r}'
        )
    first, all_dim = scaling.get("mscale"), scaling.get("mscale_all_dim")
    wanted = scaling.get("attention_factor")
    if wanted is None and first and all_dim:
        wanted = _yarn_scale(factor, first) / _yarn_scale(factor, all_dim)
    elif wanted is None:
        wanted = _yarn_scale(factor, 1.0)
    if name.startswith("Mistral") and factor > 1.0:
        scaling |= {"mscale": (wanted - 1.0) / (0.1 * math.log(factor)), "mscale_all_dim": 0.0}
        return
    computed = _yarn_scale(factor, 1.0)
    if name.startswith("Deepseek"):
        computed = _yarn_scale(factor, first or 0.0) / _yarn_scale(factor, all_dim or 0.0)
    if not math.isclose(wanted, computed, rel_tol=1e-6):
        raise NotSupportedError(
            f'config.json scales the attention of the RoPE scaling "yarn" by {wanted:.6g} '
            f'("attention_factor", "mscale"); mistral.rs computes {name} with {computed:.6g}'
        )


def _yarn_scale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * scale * math.log(factor) + 1.0


def _set_sections(config: dict[str, Any]) -> None:
    """Sets RoPE's sections for text, image, and time; for text alone any values work."""
    parameters = config["rope_parameters"]
    pairs = int(config["head_dim"] * config["partial_rotary_factor"]) // 2
    parameters.setdefault("mrope_section", [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3])
    parameters.setdefault("mrope_interleaved", True)
    parameters["partial_rotary_factor"] = config["partial_rotary_factor"]


def _set_layers(config: dict[str, Any], name: str) -> None:
    """Sets the kinds of the layers in the keys that mistral.rs reads."""
    types = config.get("layer_types")
    if name == "GraniteMoeHybridForCausalLM" and isinstance(types, list):
        config["layer_types"] = [_layer_types.get(kind, kind) for kind in types]
    if name in ("Qwen3NextForCausalLM", "Qwen3_5ForCausalLM") and isinstance(types, list):
        places = [index + 1 for index, kind in enumerate(types) if kind == "full_attention"]
        interval = places[0] if places else len(types) + 1
        if places != list(range(interval, len(types) + 1, interval)):
            raise NotSupportedError(
                '"layer_types" of config.json: mistral.rs supports "full_attention" at every n-th layer only'
            )
        config["full_attention_interval"] = interval
    if name in _windows_of_all and isinstance(types, list) and len(set(types)) > 1:
        raise NotSupportedError(
            f'"layer_types" of config.json: mistral.rs computes all layers of {name} with the sliding '
            f"window, or none"
        )
    if name == "Gemma2ForCausalLM" and isinstance(types, list):
        pair = ("sliding_attention", "full_attention")
        if any(kind != pair[index % 2] for index, kind in enumerate(types)):
            raise NotSupportedError(
                '"layer_types" of config.json: mistral.rs computes every other layer of Gemma2ForCausalLM '
                "with the sliding window, beginning with the first"
            )
    kinds = config.get("mlp_layer_types")
    if isinstance(kinds, list):
        dense = next((index for index, kind in enumerate(kinds) if kind != "dense"), len(kinds))
        if "dense" in kinds[dense:]:
            raise NotSupportedError(
                '"mlp_layer_types" of config.json: mistral.rs supports "dense" in the first layers only'
            )
        config["first_k_dense_replace"] = dense


def _check(config: Mapping[str, Any], architecture: Architecture) -> None:
    """Rejects settings that mistral.rs ignores."""
    name = config["architectures"][0]
    for key, value in architecture.required.items():
        if config.get(key, value) not in (value, None):
            raise NotSupportedError(
                f'"{key}" of config.json is {config[key]!r}; mistral.rs computes {name} with {value!r} only'
            )
    window, context = config.get("sliding_window"), config.get("max_position_embeddings")
    is_read = {"sliding_window", "use_sliding_window"} & {*architecture.defaults, *architecture.required}
    if not is_read and isinstance(window, int) and window < (context or math.inf):
        raise NotSupportedError(
            f'"sliding_window" of config.json is {window}, shorter than the context; mistral.rs computes '
            f"{name} without one"
        )
    if is_read and window == 1:
        raise NotSupportedError(
            f'"sliding_window" of config.json is 1; mistral.rs computes {name} with 2 tokens or more'
        )
    derived = config["hidden_size"] // config["num_attention_heads"]
    if architecture.derives_head_dim and config.get("head_dim") not in (None, derived):
        raise NotSupportedError(
            f'"head_dim" of config.json is {config["head_dim"]}; mistral.rs computes {name} only with heads '
            f"of {derived}, which is hidden_size / num_attention_heads"
        )

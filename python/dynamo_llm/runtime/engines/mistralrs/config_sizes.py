# SPDX-License-Identifier: Apache-2.0
"""Checks the numbers in config.json against the weights, before mistral.rs allocates memory from them.

mistral.rs allocates tables and buffers of the sizes in config.json, and compares them with the weights later
or not at all: it divides by zero, panics, or aborts the process when an allocation fails. So a size that is
also a dimension of a tensor must equal it; other sizes are limited by the weights, or to a plausible maximum.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import gguf_file
from dynamo_llm.runtime.engines.mistralrs.architectures import Architecture
from dynamo_llm.runtime.safetensors_file import Tensor

_embedding = "model.embed_tokens.weight"
_layer = re.compile(r"model\.layers\.(\d+)\.")
_gguf_layer = re.compile(r"blk\.(\d+)\.")
_expert = re.compile(r"\.experts\.(\d+)\.")
_floats = frozenset({"F64", "F32", "F16", "BF16"})
#: A quantized tensor packs up to 16 values (of 2 bits) into one of 32 bits.
_packed = 16
#: Larger numbers are not plausible for any size, count, or id.
_most = 2**31 - 1
#: Bytes that are always allowed for the table of RoPE angles, however small the weights are.
_least_table = 256 << 20


def _by_key(keys: Mapping[tuple[float, float], str]) -> dict[str, tuple[float, float]]:
    """Returns the smallest and the largest plausible value of each key."""
    return {key: limits for limits, names in keys.items() for key in names.split()}


#: Sizes: each is a dimension of a tensor, or divides one, so none is larger than the largest dimension.
_sizes = _by_key(
    {
        (1, _most): """
            hidden_size intermediate_size moe_intermediate_size shared_intermediate_size
            shared_expert_intermediate_size block_ff_dim num_attention_heads num_key_value_heads head_dim
            q_lora_rank kv_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim linear_num_key_heads
            linear_num_value_heads linear_key_head_dim linear_value_head_dim mamba_n_heads mamba_n_groups
            mamba_d_state mamba_d_head
        """
    }
)
#: Other integers.
_integers = _by_key(
    {
        (1, _most): """
            vocab_size max_position_embeddings original_max_position_embeddings sliding_window
        """,
        (1, 1 << 20): "query_pre_attn_scalar block_multiple_of",
        (1, 65_536): """
            num_hidden_layers moe_layer_freq decoder_sparse_step no_rope_layer_interval
            full_attention_interval sliding_window_pattern mamba_chunk_size n_group topk_group
        """,
        (1, 1024): """
            linear_conv_kernel_dim conv_L_cache mamba_d_conv mamba_expand pretraining_tp cla_share_factor
        """,
        (0, 65_536): """
            first_k_dense_replace num_dense_layers max_window_layers num_nextn_predict_layers num_experts
            num_local_experts n_routed_experts n_shared_experts num_experts_per_tok
        """,
    }
)
#: Real numbers.
_reals = _by_key(
    {
        (0.0, 1.0): "rms_norm_eps layer_norm_eps norm_eps norm_epsilon",
        (1e-3, 1e18): "rope_theta rope_local_base_freq",
        (1e-6, 1.0): "partial_rotary_factor",
        (1e-6, 1e9): "attn_logit_softcapping final_logit_softcapping block_ffn_dim_multiplier",
        (1e-9, 1e9): "logits_scaling",
        (-1e9, 1e9): """
            routed_scaling_factor swiglu_limit alpha attention_multiplier embedding_multiplier
            residual_multiplier
        """,
    }
)
#: Keys of RoPE scaling; each is a number, or a list of numbers.
_scaling = _by_key(
    {
        (1e-9, 1e9): """
            factor low_freq_factor high_freq_factor beta_fast beta_slow alpha short_factor long_factor
        """,
        (-1e9, 1e9): "mscale mscale_all_dim attention_factor short_mscale long_mscale",
        (1e-3, 1e18): "rope_theta",
        (1e-6, 1.0): "partial_rotary_factor",
        (1, _most): "original_max_position_embeddings",
        (0, 65_536): "mrope_section",
    }
)
#: Half of the largest head size.
_most_factors = 4096
_bits = (2, 3, 4, 5, 6, 8, 40)


def _wrong(key: str, value: Any, right: str) -> ModelNotFoundError:
    given = repr(value)
    given = given if len(given) <= 60 else f"{given[:60]}..."
    return ModelNotFoundError(f'"{key}" of config.json must be {right}, not {given}')


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(key: str, value: Any, least: float, most: float, of: str = "") -> None:
    if not _is_integer(value) or not least <= value <= most:
        raise _wrong(key, value, f"an integer from {least} to {most}{of}")


def _number(key: str, value: Any, least: float, most: float) -> None:
    is_number = isinstance(value, float) or _is_integer(value)
    if not is_number or not least <= value <= most:  # NaN fails this test
        raise _wrong(key, value, f"a number from {least:g} to {most:g}")


def check_types(config: Mapping[str, Any]) -> None:
    """Checks types and ranges of the numbers in config.json.

    :param config: config.json as in the folder; null means that a value is missing.
    :raises ModelNotFoundError: a value is not a number, or is out of range.
    """
    given = {key: value for key, value in config.items() if value is not None}
    limits = _sizes | _integers
    for key in given.keys() & limits.keys():
        _integer(key, given[key], *limits[key])
    for key in given.keys() & _reals.keys():
        _number(key, given[key], *_reals[key])
    for key in ("rope_scaling", "rope_parameters"):
        if key in given:
            _check_scaling(key, given[key])
    for key in ("quantization_config", "quantization"):
        if key in given:
            _check_quantization(key, given[key])


def _check_scaling(key: str, value: Any, depth: int = 0) -> None:
    if not isinstance(value, dict):
        raise _wrong(key, value, "an object")
    for name, one in value.items():
        if isinstance(one, dict) and depth == 0:  # RoPE settings by the kind of layer
            _check_scaling(f"{key}.{name}", one, depth + 1)
        elif name in _scaling and one is not None:
            values = one if isinstance(one, list) else [one]
            if len(values) > _most_factors:
                raise _wrong(f"{key}.{name}", one, f"a list of at most {_most_factors} numbers")
            for factor in values:
                _number(f"{key}.{name}", factor, *_scaling[name])


def _check_quantization(key: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(key, value, "an object")
    bits, group = value.get("bits"), value.get("group_size")
    if bits is not None and (not _is_integer(bits) or bits not in _bits):
        raise _wrong(f"{key}.bits", bits, f"one of {', '.join(map(str, _bits))}")
    if group is not None and group != -1:  # -1 is GPTQ's notation of a whole row
        _integer(f"{key}.group_size", group, 1, 1 << 20)
    block = value.get("weight_block_size")
    if block is not None:
        if not isinstance(block, list) or len(block) != 2:
            raise _wrong(f"{key}.weight_block_size", block, "a list of two integers")
        for one in block:
            _integer(f"{key}.weight_block_size", one, 1, 1 << 20)


def check(config: Mapping[str, Any], tensors: Mapping[str, Tensor], architecture: Architecture) -> None:
    """Checks the sizes in config.json against the weights.

    :param config: config.json, normalized; types are checked here, too.
    :param tensors: all tensors of the weights, named as in a model with a head.
    :raises ModelNotFoundError: a size does not match the weights.
    """
    check_types(config)
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    is_quantized = bool(config.get("quantization_config") or config.get("quantization"))
    largest *= _packed if is_quantized else 1
    for key in _sizes.keys() & config.keys():
        if config[key] is not None:
            _integer(key, config[key], 1, max(largest, 1), ", the largest size of a tensor")
    _check_embedding(config, tensors)
    _check_layers(config, tensors)
    _check_heads(config, largest)
    _check_experts(config, tensors, architecture)
    _check_positions(config, tensors)


def _check_embedding(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    embedding = tensors.get(_embedding)
    if embedding is None:
        raise ModelNotFoundError(f'the weights lack the tensor "{_embedding}"')
    if embedding.dtype not in _floats:  # packed
        _integer("vocab_size", config.get("vocab_size"), 1, embedding.length * 8)
        return
    wanted = tuple(config.get(key, 0) for key in ("vocab_size", "hidden_size"))
    if embedding.shape != wanted:
        raise ModelNotFoundError(
            f'"vocab_size" and "hidden_size" of config.json are {wanted[0]} and {wanted[1]}, but the tensor '
            f'"{_embedding}" has the shape {list(embedding.shape)}'
        )


def _check_layers(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    layers = config.get("num_hidden_layers", 0)
    found = {int(match[1]) for name in tensors if (match := _layer.match(name))}
    if not found.issuperset(range(min(layers, len(tensors) + 1))):
        raise ModelNotFoundError(
            f'"num_hidden_layers" of config.json is {layers}, but the weights have {len(found)} layers'
        )
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) not in (0, layers):
        raise _wrong("layer_types", f"{len(kinds)} kinds", f"a list of the {layers} layers' kinds")
    for key in ("mlp_only_layers", "no_rope_layers"):
        if isinstance(value := config.get(key), list):
            if len(value) > layers or (key == "no_rope_layers" and len(value) < layers):
                raise _wrong(key, value, f"a list of {layers} integers at most, or of one for each layer")
            for one in value:
                _integer(key, one, 0, layers)


def _check_heads(config: Mapping[str, Any], largest: int) -> None:
    heads, groups = config.get("num_attention_heads", 1), config.get("num_key_value_heads") or 1
    if heads % groups:
        raise _wrong("num_key_value_heads", groups, f'a divisor of "num_attention_heads", which is {heads}')
    size = config.get("head_dim")
    if size is None and "qk_rope_head_dim" not in config:
        size = config["hidden_size"] // heads
        if size * heads != config["hidden_size"]:
            raise _wrong(
                "num_attention_heads", heads, f'a divisor of "hidden_size", which is {config["hidden_size"]}'
            )
    if size is not None and size * groups > largest:
        raise _wrong("head_dim", size, f"at most {largest // groups}, by the shapes of the weights")
    if size is not None and size % 2:
        raise _wrong("head_dim", size, "even")
    for key, divisor in (
        ("linear_num_value_heads", "linear_num_key_heads"),
        ("mamba_n_heads", "mamba_n_groups"),
    ):
        if config.get(key) and config.get(divisor) and config[key] % config[divisor]:
            raise _wrong(divisor, config[divisor], f'a divisor of "{key}", which is {config[key]}')


def _check_experts(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], architecture: Architecture
) -> None:
    keys = ("n_routed_experts", "num_experts", "num_local_experts")
    key = next((one for one in keys if one in architecture.defaults), "")
    count = config.get(key) if key else None
    if not count:
        return
    joined = [tensor.shape[0] for name, tensor in tensors.items() if tensor.shape and "expert" in name]
    single = [int(match[1]) + 1 for name in tensors if (match := _expert.search(name))]
    most = max([*joined, *single], default=0)
    if most:  # otherwise all layers are dense
        _integer(key, count, 1, most, ", the experts of the weights")
    if config.get("num_experts_per_tok") is not None:
        _integer("num_experts_per_tok", config["num_experts_per_tok"], 1, count, ", by the number of experts")
    groups = config.get("n_group") or 1
    if count % groups:
        raise _wrong("n_group", groups, f'a divisor of "{key}", which is {count}')
    _integer("topk_group", config.get("topk_group") or 1, 1, groups, ', by "n_group"')


def _check_positions(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    positions = config.get("max_position_embeddings")
    if positions is None:
        return
    size = config.get("qk_rope_head_dim") or config.get("head_dim")
    size = size or config["hidden_size"] // config.get("num_attention_heads", 1)
    most = max(_least_table, sum(tensor.length for tensor in tensors.values()))
    if positions * size * 4 > most:  # sines and cosines of half a head, as float32
        raise _wrong(
            "max_position_embeddings",
            positions,
            f"at most {most // (size * 4)}: the table of its positions would be larger than the weights",
        )


def check_adapter(folder: Path, config: Mapping[str, Any]) -> None:
    """Checks the numbers in an adapter's adapter_config.json.

    :raises ModelNotFoundError: a value is not a number, or is out of range.
    """
    try:
        _integer("r", config.get("r"), 1, 65_536)
        _number("lora_alpha", config.get("lora_alpha"), -1e9, 1e9)
        for key in ("rank_pattern", "alpha_pattern"):
            for name, value in (config.get(key) or {}).items():
                _number(f"{key}.{name}", value, -1e9, 1e9)
    except ModelNotFoundError as error:
        message = error.message.replace("config.json", f'"{folder / "adapter_config.json"}"')
        raise ModelNotFoundError(message) from error


#: Keys of GGUF metadata, without the architecture's name, that count positions.
_positions_of_gguf = ("context_length", "rope.scaling.original_context_length", "attention.sliding_window")
#: Keys that must be at least 1. In a list with a number for each layer, some may be 0.
_positive_of_gguf = (
    *_positions_of_gguf,
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
)


def check_gguf(path: Path, values: Mapping[str, Any], tensors: Mapping[str, gguf_file.Tensor]) -> None:
    """Checks the numbers in GGUF metadata against the tensors.

    :param values: the metadata of all files of the model.
    :raises ModelNotFoundError: a number does not match the tensors.
    """
    name = values.get("general.architecture")
    if not isinstance(name, str):
        raise ModelNotFoundError(f'the file "{path}" has no "general.architecture"')
    given = {key[len(name) + 1 :]: value for key, value in values.items() if key.startswith(f"{name}.")}
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    try:
        for key, value in given.items():
            _check_gguf_value(key, value, max(largest, 65_536))
        _check_gguf_sizes(given, tensors, largest)
    except _WrongError as error:
        key, problem = error.args
        raise ModelNotFoundError(f'"{name}.{key}" of the file "{path}" {problem}') from error


class _WrongError(Exception):
    """The arguments are a key without the architecture's name, and what is wrong with its value."""


def _check_gguf_value(key: str, value: Any, largest: int) -> None:
    is_list = isinstance(value, list)
    for one in value if is_list else [value]:
        if isinstance(one, bool | str | list):
            continue
        least: float = 1 if key in _positive_of_gguf and not is_list else -1
        most: float = _most if key in _positions_of_gguf else largest
        if isinstance(one, float):
            least, most = -1e18, 1e18
        if not least <= one <= most:
            raise _WrongError(key, f"must be a number from {least:g} to {most:g}, not {one!r}")


def _check_gguf_sizes(
    given: Mapping[str, Any], tensors: Mapping[str, gguf_file.Tensor], largest: int
) -> None:
    def size(key: str) -> int | None:
        value = given.get(key)
        if isinstance(value, list):
            value = max((one for one in value if type(one) is int), default=0)
        return value if type(value) is int and value > 0 else None

    width, heads, groups = (
        size(key) for key in ("embedding_length", "attention.head_count", "attention.head_count_kv")
    )
    embedding = tensors.get("token_embd.weight")
    if embedding is not None and embedding.shape and width not in (None, embedding.shape[0]):
        raise _WrongError(
            "embedding_length", f"is {width}, but token_embd.weight has the shape {list(embedding.shape)}"
        )
    layers = size("block_count")
    found = {int(match[1]) for tensor in tensors if (match := _gguf_layer.match(tensor))}
    if layers is not None and not found.issuperset(range(min(layers, len(tensors) + 1))):
        raise _WrongError("block_count", f"is {layers}, but the file has {len(found)} layers")
    if heads is None or width is None:
        return
    head = size("attention.key_length") or width // heads
    if head < 1 or head * (groups or heads) > max(largest, 1):
        raise _WrongError("attention.head_count", f"is {heads}, which does not fit the shapes of the tensors")
    if groups and heads % groups and not isinstance(given["attention.head_count_kv"], list):
        raise _WrongError("attention.head_count_kv", f"must divide the {heads} heads, not be {groups}")
    context = size("context_length")
    most = max(_least_table, sum(tensor.length for tensor in tensors.values()))
    if context is not None and context * head * 4 > most:
        raise _WrongError(
            "context_length",
            f"is {context}; it must be at most {most // (head * 4)}, or the table of its positions would be "
            f"larger than the weights",
        )

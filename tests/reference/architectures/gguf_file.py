# SPDX-License-Identifier: Apache-2.0
"""Writes a tiny model as a file in GGUF, with the names and layouts of llama.cpp."""

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

Tensors = dict[str, Any]

#: Architectures whose queries and keys are stored with interleaved rotary halves.
_interleaved = ("llama", "granite", "smollm3")


def write(folder: Path, path: Path, architecture: str) -> None:
    """Write the model of a folder.

    :param folder: with ``model.safetensors``, ``config.json`` and ``tokenizer.json``.
    :param path: the file to write.
    :param architecture: ``general.architecture``.
    """
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    _add_sizes(writer, config, architecture)
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()))
    kind = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    tensors = load_file(folder / "model.safetensors")
    for name, values in _arranged(tensors, config, architecture).items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None, f"GGUF has no name for {name}"
        writer.add_tensor(known, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: gguf.GGUFWriter, config: dict[str, Any], architecture: str) -> None:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    rope = config["rope_parameters"]
    writer.add_vocab_size(config["vocab_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(width * rope.get("partial_rotary_factor", 1)))
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        writer.add_layer_norm_eps(config.get("layer_norm_eps", config.get("norm_epsilon")))
    experts = config.get("num_local_experts", config.get("num_experts"))
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if architecture == "gemma2":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if architecture in ("phi3", "phimoe"):
        writer.add_rope_scaling_orig_ctx_len(config["max_position_embeddings"])


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any]) -> None:
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    kinds = [gguf.TokenType.CONTROL if id in special else gguf.TokenType.NORMAL for _, id in vocabulary]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def _arranged(tensors: Tensors, config: dict[str, Any], architecture: str) -> Tensors:
    """Tensors as llama.cpp lays them out: rotary halves interleaved for Llama, experts in one tensor."""
    arranged: Tensors = {}
    experts: dict[str, dict[int, Any]] = {}
    for name, values in tensors.items():
        if found := re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name):
            experts.setdefault(f"{found[1]}.{found[3]}.weight", {})[int(found[2])] = values
        elif architecture in _interleaved and re.search(r"\.[qk]_proj\.", name):
            key = "num_attention_heads" if ".q_proj." in name else "num_key_value_heads"
            halves = values.reshape(config[key], 2, -1, *values.shape[1:])
            arranged[name] = halves.swapaxes(1, 2).reshape(values.shape)
        elif architecture == "phi2" and (found := re.search(r"\.self_attn\.([qkv])_proj\.", name)):
            if found[1] == "q":
                parts = [tensors[name.replace("q_proj", f"{one}_proj")] for one in "qkv"]
                arranged[name.replace("q_proj", "qkv_proj")] = np.concatenate(parts)
        elif architecture in ("gemma", "gemma2") and name.endswith("norm.weight"):
            arranged[name] = values + 1
        else:
            arranged[name] = values
    for name, parts in experts.items():
        arranged[name] = np.stack([parts[index] for index in range(len(parts))])
    return arranged

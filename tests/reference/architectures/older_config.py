# SPDX-License-Identifier: Apache-2.0
"""Rewrites config.json of transformers 5 in the form in which models were published before."""

import json
from pathlib import Path
from typing import Any

from architecture import Architecture

#: Architectures that mistral.rs knows, with the keys of their published files that transformers 5 leaves out.
_known: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "mixtral": {},
    "gemma": {},
    "gemma2": {},
    "phi": {},
    "phi3": {"original_max_position_embeddings": 512},
    "phimoe": {"original_max_position_embeddings": 512, "architectures": ["PhiMoEForCausalLM"]},
    "qwen2": {"max_window_layers": 2},
    "qwen3": {"max_window_layers": 2},
    "qwen3_moe": {"max_window_layers": 2, "num_experts": 4},
    "starcoder2": {},
    "deepseek_v2": {"scoring_func": "softmax"},
    "deepseek_v3": {"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "glm4": {},
    "smollm3": {},
    "granitemoehybrid": {"normalization_function": "rmsnorm"},
    "gpt_oss": {},
    "lfm2": {},
}
_layer_types = {"full_attention": "attention", "linear_attention": "mamba"}


def is_known_to_mistralrs(architecture: Architecture) -> bool:
    """Whether mistral.rs has this architecture."""
    return architecture.model_type in _known


def with_older_config(folder: Path, copy: Path) -> Path:
    """A copy of a model whose config.json has the form of transformers 4."""
    copy.mkdir()
    for file in folder.iterdir():
        if file.name != "config.json":
            (copy / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    kind = config["model_type"]
    if kind == "granitemoehybrid":
        config["layer_types"] = [_layer_types[one] for one in config["layer_types"]]
    (copy / "config.json").write_text(json.dumps({**config, **_known[kind]}))
    return copy

# SPDX-License-Identifier: Apache-2.0
"""Tiny models with seeded random weights, one for each architecture, as transformers saves them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from dynamo_llm.paths import demo_model_dir
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, logging

#: Tokens of every answer.
max_tokens = 16
#: Every sliding window and attention chunk is shorter than the longest prompt.
window = 16

_texts = [
    "a",
    "The cache",
    "What is a KV cache?",
    "Tokens are cut from a text, one after the other.",
    "hello " * 9,
    "prefill and decode are two phases of inference; " * 3,
    "x y z 1 2 3 ",
    "The engine streams tokens. " * 9,
]

#: Stands for a size that an architecture does not have.
_absent = object()

_sizes: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True}
#: mistral.rs grows the caches of hybrid models from 1 by 512 tokens, and fails beyond the context length.
_longer = {"max_position_embeddings": 1024}
_latent_attention = {
    "num_key_value_heads": 2,
    "head_dim": _absent,
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_sliding_and_full: dict[str, Any] = {
    "sliding_window": window,
    "layer_types": ["sliding_attention", "full_attention"],
}
#: The last two layers use keys and values of the first two.
_shared_keys = {
    "sliding_window": window,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
}
_short_names = {
    "vocab_size": 2048,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 512,
    "bos_token_id": 1,
    "eos_token_id": 0,
}


@dataclass(frozen=True)
class Architecture:
    """A kind of model, small."""

    name: str
    """Name of its row."""
    model_type: str
    """``model_type`` of ``config.json``."""
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Keys of the configuration beside the sizes that all have."""
    sizes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType(_sizes))
    """The sizes."""
    has_no_context_length: bool = False
    """Whether ``config.json`` does not say how long the context is."""
    seed: int = 0
    """Of the weights."""
    gguf: str | None = None
    """``general.architecture`` of GGUF, if mistral.rs reads GGUF files of this architecture."""

    def make(self, folder: Path) -> Any:
        """Save a model with random weights into a folder, with the demo model's tokenizer.

        :return: the model, in evaluation mode.
        """
        settings = {
            key: value for key, value in {**self.sizes, **self.settings}.items() if value is not _absent
        }
        config = AutoConfig.for_model(self.model_type, **settings)
        torch.manual_seed(self.seed)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_config(config, dtype=torch.float32).eval()
        _randomize(model)
        model.generation_config.eos_token_id = 0
        model.generation_config.pad_token_id = 0
        progress = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        model.save_pretrained(folder)
        if progress:
            logging.enable_progress_bar()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(demo_model_dir() / file, folder)
        return model


def _randomize(model: Any) -> None:
    """Make every weight count: a bias or a norm that an engine leaves out changes the answer."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            random = torch.randn_like(weight)
            if name.endswith(("A_log", "dt_bias", "time_decay")):
                continue  # these have ranges of their own
            if weight.ndim > 1:
                weight.copy_(random * (1.2 / weight.shape[-1] ** 0.5 if weight.shape[-1] > 1 else 0.3))
            elif "bias" in name or "sink" in name:
                weight.copy_(random * 0.1)
            else:
                weight.add_(random * 0.2)
        # Small beside what the layers add: else a model whose head is tied repeats its prompt's last token.
        embedding = model.get_input_embeddings().weight
        embedding.copy_(torch.randn_like(embedding) * 0.1)
        head = model.get_output_embeddings()
        if head is not None and head.weight is not embedding:
            head.weight.copy_(torch.randn_like(head.weight))
        for weights in (embedding, None if head is None else head.weight):
            if weights is not None:
                weights[_unwanted()] = 0
        if getattr(head, "bias", None) is not None:
            head.bias[_unwanted()] = -50


@cache
def tokenizer() -> Any:
    """The demo model's tokenizer, which all of them have."""
    return Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json"))


@cache
def prompts() -> list[tuple[str | list[int], list[int]]]:
    """Prompts as a request has them, texts and token ids, and their token ids."""
    texts: list[tuple[str | list[int], list[int]]] = []
    for text in _texts:
        texts.append((text, tokenizer().encode(text, add_special_tokens=False).ids))
    return [*texts, *((ids, ids) for _, ids in texts[2:6:3])]


@cache
def _unwanted() -> list[int]:
    """Tokens that must not be in an answer: special ones, which end it or are left out of its text, and
    those that are no text alone.
    """
    texts = [tokenizer().decode([token]) for token in range(tokenizer().get_vocab_size())]
    return [token for token, text in enumerate(texts) if "\ufffd" in text or not text.isprintable()]


architectures = [
    Architecture("llama", "llama", gguf="llama"),
    Architecture("llama, biases", "llama", {"attention_bias": True, "mlp_bias": True}),
    Architecture("llama, tied", "llama", {"tie_word_embeddings": True}, gguf="llama"),
    Architecture(
        "llama, rope llama3",
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    Architecture("mistral", "mistral", {"sliding_window": None}, gguf="llama"),
    Architecture("mistral, sliding window", "mistral", {"sliding_window": window}),
    Architecture(
        "mixtral",
        "mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        gguf="llama",
    ),
    Architecture("gemma", "gemma", gguf="gemma"),
    Architecture("gemma2", "gemma2", {"sliding_window": window, "query_pre_attn_scalar": 32}, gguf="gemma2"),
    Architecture(
        "gemma3_text",
        "gemma3_text",
        {**_sliding_and_full, "query_pre_attn_scalar": 32},
    ),
    Architecture("phi", "phi", {"num_key_value_heads": 2}, gguf="phi2"),
    Architecture("phi3", "phi3", {"num_key_value_heads": 2, "sliding_window": None}, gguf="phi3"),
    Architecture("phi3, sliding window", "phi3", {"num_key_value_heads": 2, "sliding_window": window}),
    Architecture(
        "phimoe",
        "phimoe",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        gguf="phimoe",
    ),
    Architecture("qwen2", "qwen2", gguf="qwen2"),
    Architecture(
        "qwen2, sliding window",
        "qwen2",
        {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1},
    ),
    Architecture("qwen2_moe", "qwen2_moe", {**_experts, "shared_expert_intermediate_size": 48}),
    Architecture("qwen3", "qwen3", gguf="qwen3"),
    Architecture("qwen3_moe", "qwen3_moe", _experts, gguf="qwen3moe"),
    Architecture(
        "qwen3_next",
        "qwen3_next",
        {**_experts, **_longer, "layer_types": ["linear_attention", "full_attention"]},
    ),
    Architecture("starcoder2", "starcoder2", {"sliding_window": None}, gguf="starcoder2"),
    # mistral.rs computes it less exactly than others: log-probs are off by up to 0.01. With the seed 0
    # that changes a router's choice of an expert in one of ten answers, and with it the tokens that follow.
    Architecture("deepseek_v2", "deepseek_v2", {**_latent_attention, "topk_method": "greedy"}, seed=1),
    Architecture("deepseek_v3", "deepseek_v3", _latent_attention),
    Architecture("glm4", "glm4", gguf="glm4"),
    Architecture("smollm3", "smollm3", {"num_hidden_layers": 4}, gguf="smollm3"),
    Architecture(
        "granitemoehybrid",
        "granitemoehybrid",
        {
            "layer_types": ["attention", "attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 48,
            "position_embedding_type": "rope",
        },
    ),
    Architecture(
        "granitemoehybrid, mamba",
        "granitemoehybrid",
        {
            **_longer,
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 48,
            "mamba_n_heads": 4,
            "mamba_d_head": 32,
            "mamba_d_state": 16,
        },
    ),
    Architecture(
        "granite",
        "granite",
        {
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.7,
            "logits_scaling": 3.0,
            "attention_multiplier": 0.25,
        },
        gguf="granite",
    ),
    Architecture(
        "gpt_oss",
        "gpt_oss",
        {
            **_sliding_and_full,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    Architecture("gpt2", "gpt2", sizes=_short_names),
    Architecture("gpt_neox", "gpt_neox"),
    Architecture(
        "gpt_neo",
        "gpt_neo",
        {
            "attention_types": [[["global", "local"], 1]],
            "num_layers": 2,
            "num_heads": 2,
            "window_size": window,
        },
    ),
    Architecture("gptj", "gptj", {"rotary_dim": 16}, sizes=_short_names),
    Architecture("opt", "opt", {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    Architecture("falcon", "falcon", {"head_dim": _absent}),
    Architecture("falcon, alibi", "falcon", {"alibi": True, "parallel_attn": False, "head_dim": _absent}),
    Architecture("bloom", "bloom", sizes={**_short_names, "hidden_size": 64}, has_no_context_length=True),
    Architecture(
        "mpt",
        "mpt",
        sizes={"vocab_size": 2048, "d_model": 64, "n_heads": 2, "n_layers": 2, "max_seq_len": 512},
    ),
    Architecture("olmo2", "olmo2"),
    Architecture(
        "cohere2",
        "cohere2",
        _sliding_and_full,
    ),
    Architecture(
        "llama4_text",
        "llama4_text",
        {
            "attention_chunk_size": window,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 96,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
        },
    ),
    Architecture("lfm2", "lfm2", {**_longer, "layer_types": ["conv", "full_attention"], "block_ff_dim": 96}),
    Architecture(
        "minimax", "minimax", {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 4}
    ),
    Architecture(
        "gemma3n_text",
        "gemma3n_text",
        {
            **_shared_keys,
            "vocab_size_per_layer_input": 2048,
            "hidden_size_per_layer_input": 16,
            "laurel_rank": 8,
            "intermediate_size": [96] * 4,
            "activation_sparsity_pattern": [0.0] * 4,
        },
    ),
    Architecture(
        "gemma4_text",
        "gemma4_text",
        {
            **_shared_keys,
            "vocab_size_per_layer_input": 2048,
            "hidden_size_per_layer_input": 16,
            "global_head_dim": 32,
        },
    ),
    Architecture("exaone4", "exaone4", _sliding_and_full),
    Architecture("olmo3", "olmo3", _sliding_and_full),
    Architecture("nemotron", "nemotron"),
    Architecture("stablelm", "stablelm"),
    Architecture("codegen", "codegen", {"rotary_dim": 16}, sizes=_short_names),
    Architecture("gpt_bigcode", "gpt_bigcode", sizes=_short_names),
    Architecture("minimax_m2", "minimax_m2", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    Architecture(
        "deepseek_v32",
        "deepseek_v32",
        {**_latent_attention, "index_n_heads": 2, "index_head_dim": 32, "index_topk": 8},
    ),
    Architecture("bert", "bert", {"head_dim": _absent, "is_decoder": False}),
    Architecture("rwkv", "rwkv", {"attention_hidden_size": 64}),
    Architecture("mamba", "mamba", {"state_size": 16, "num_hidden_layers": 2}),
    Architecture(
        "t5",
        "t5",
        sizes={"vocab_size": 2048, "d_model": 64, "d_kv": 32, "d_ff": 96, "num_layers": 2, "num_heads": 2},
    ),
    Architecture(
        "bart",
        "bart",
        sizes={
            "vocab_size": 2048,
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 96,
            "decoder_ffn_dim": 96,
            "max_position_embeddings": 512,
        },
    ),
]

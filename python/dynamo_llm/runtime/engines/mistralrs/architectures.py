# SPDX-License-Identifier: Apache-2.0
"""Lists the architectures that mistral.rs computes, and what it reads of their config.json and weights.

:data:`known` is the only such list: the errors, ``dynamo-llm doctor``, and the documentation use it. Each
architecture except GptOss was compared with transformers, with random weights. mistral.rs also has code for
PhiMoE and HunYuanMoEV1, but its results differ from those of transformers, so they are not in the list.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """What mistral.rs reads of models of one architecture. Tensor names are regular expressions."""

    layer: str
    """Tensors of a layer, without ``model.layers.N.``."""
    outer: str = r"model\.(embed_tokens|norm)\.weight"
    """Tensors outside of the layers, except ``lm_head.weight``."""
    conditional: Mapping[str, str] = field(default_factory=dict)
    """Additional tensors of a layer, by the key of config.json that makes mistral.rs read them."""
    scalings: frozenset[str] = frozenset()
    """Kinds of RoPE scaling, other than none, that mistral.rs computes as transformers does."""
    rope_theta: float = 10000.0
    """Base of RoPE if config.json does not have it."""
    is_tied: bool = False
    """Whether the head is the embedding if config.json does not declare ``tie_word_embeddings``."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Default values, as in transformers, of keys that mistral.rs needs and config.json may omit."""
    required: Mapping[str, Any] = field(default_factory=dict)
    """Values that mistral.rs assumes; another value of the key would change the answer."""
    derives_head_dim: bool = False
    """Whether mistral.rs ignores ``head_dim``: its head size is ``hidden_size / num_attention_heads``."""


_qkv = r"self_attn\.[qkv]_proj\.weight"
_attention = r"self_attn\.[qkvo]_proj\.weight"
_mlp = r"mlp\.(gate|up|down)_proj\.weight"
_norms = r"(input|post_attention)_layernorm\.weight"
_head_norms = r"self_attn\.[qk]_norm\.weight"
_experts = r"mlp\.experts\.(\d+\.(gate|up|down)_proj\.weight|(gate_up|gate|up|down)_proj(\.weight)?)"
_shared_experts = r"mlp\.shared_experts\.(gate|up|down)_proj\.weight"
_latent = (
    r"self_attn\.((q|q_a|q_b|kv_a_proj_with_mqa|kv_b|o)_proj|kv_a_proj_with_mqa|(q|kv)_a_layernorm)\.weight"
)
_latent_biases = {"attention_bias": r"self_attn\.(q_a_proj|kv_a_proj_with_mqa|o_proj)\.bias"}
_correction = r"mlp\.gate\.e_score_correction_bias"
_w_experts = r"block_sparse_moe\.(gate|experts\.\d+\.w[123])\.weight"
_delta_net = r"linear_attn\.(A_log|dt_bias|(conv1d|norm|out_proj|in_proj_(qkvz|ba|qkv|z|b|a))\.weight)"
_short_convolution = r"conv\.(conv|in_proj|out_proj)"


def _any(*names: str) -> str:
    return "|".join(names)


def _biases(which: str) -> dict[str, str]:
    return {"attention_bias": rf"self_attn\.[{which}]_proj\.bias"}


_llama = _any(_attention, _mlp, _norms)
_lfm2 = _any(
    _qkv,
    r"self_attn\.(out_proj|[qk]_layernorm)\.weight",
    rf"{_short_convolution}\.weight",
    r"(ffn|operator)_norm\.weight",
)
_lfm2_biases = {"conv_bias": rf"{_short_convolution}\.bias"}
_lfm2_outer = r"model\.(embed_tokens|embedding_norm)\.weight"

# Default values that several architectures share.
_silu: dict[str, Any] = {"hidden_act": "silu", "rms_norm_eps": 1e-6}
_windows = {"sliding_window": None, "use_sliding_window": False, "max_window_layers": 28}
_gemma: dict[str, Any] = {"attention_bias": False, "rms_norm_eps": 1e-6, "max_position_embeddings": 8192}
_one_group = {"n_group": 1, "topk_group": 1}
_deepseek = (
    dict(_silu, attention_bias=False, moe_layer_freq=1)
    | dict(q_lora_rank=1536, kv_lora_rank=512)
    | dict(qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)
)

#: Architectures by their names in "architectures" of config.json.
known: Mapping[str, Architecture] = MappingProxyType(
    {
        "LlamaForCausalLM": Architecture(
            _llama,
            scalings=frozenset({"llama3", "linear"}),
            defaults=dict(_silu, max_position_embeddings=2048),
            derives_head_dim=True,
        ),
        "MistralForCausalLM": Architecture(
            _llama, scalings=frozenset({"yarn"}), defaults=dict(_silu, sliding_window=4096)
        ),
        "MixtralForCausalLM": Architecture(
            _any(_attention, _norms, _w_experts),
            rope_theta=1e6,
            defaults=dict(_silu, rms_norm_eps=1e-5, sliding_window=None)
            | dict(num_local_experts=8, num_experts_per_tok=2),
            derives_head_dim=True,
        ),
        "GemmaForCausalLM": Architecture(
            _llama,
            conditional=_biases("qkvo"),
            is_tied=True,
            defaults=dict(_gemma, hidden_act="gelu_pytorch_tanh", head_dim=256, num_key_value_heads=16),
            required={"use_bidirectional_attention": False},
        ),
        "Gemma2ForCausalLM": Architecture(
            _any(_attention, _mlp, _norms, r"(pre|post)_feedforward_layernorm\.weight"),
            conditional=_biases("qkvo"),
            is_tied=True,
            defaults=dict(_gemma, hidden_activation="gelu_pytorch_tanh", head_dim=256, num_key_value_heads=4)
            | dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
            | dict(sliding_window=4096, query_pre_attn_scalar=256),
        ),
        "PhiForCausalLM": Architecture(
            _any(
                r"self_attn\.([qkv]_proj|dense)\.(weight|bias)",
                r"mlp\.fc[12]\.(weight|bias)",
                r"input_layernorm\.(weight|bias)",
            ),
            outer=r"model\.(embed_tokens\.weight|final_layernorm\.(weight|bias))",
            defaults=dict(hidden_act="gelu_new", layer_norm_eps=1e-5, qk_layernorm=False)
            | dict(partial_rotary_factor=0.5, max_position_embeddings=2048),
            required={"qk_layernorm": False},
            derives_head_dim=True,
        ),
        "Phi3ForCausalLM": Architecture(
            _any(r"self_attn\.(qkv|o)_proj\.weight", r"mlp\.(gate_up|down)_proj\.weight", _norms),
            scalings=frozenset({"longrope"}),
            defaults=dict(_silu, rms_norm_eps=1e-5, sliding_window=None)
            | dict(original_max_position_embeddings=4096, partial_rotary_factor=1.0),
            derives_head_dim=True,
        ),
        "Qwen2ForCausalLM": Architecture(
            _any(_attention, r"self_attn\.[qkv]_proj\.bias", _mlp, _norms),
            defaults=_silu | _windows,
            derives_head_dim=True,
        ),
        "Qwen3ForCausalLM": Architecture(
            _any(_llama, _head_norms),
            required={"use_sliding_window": False},
            defaults=dict(_silu, head_dim=128) | _windows,
        ),
        "Qwen3MoeForCausalLM": Architecture(
            _any(_llama, _head_norms, r"mlp\.gate\.weight", _experts),
            required={"use_sliding_window": False},
            defaults=dict(_silu, num_key_value_heads=4, mlp_only_layers=[], decoder_sparse_step=1)
            | _windows
            | dict(num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=False),
        ),
        "Starcoder2ForCausalLM": Architecture(
            _any(_attention, r"mlp\.c_(fc|proj)\.weight", r"(input|post_attention)_layernorm\.(weight|bias)"),
            outer=r"model\.(embed_tokens\.weight|norm\.(weight|bias))",
            conditional={"use_bias": r"(self_attn\.[qkvo]_proj|mlp\.c_(fc|proj))\.bias"},
            is_tied=True,
            defaults=dict(hidden_act="gelu_pytorch_tanh", norm_epsilon=1e-5, use_bias=True)
            | dict(num_key_value_heads=2, sliding_window=None, max_position_embeddings=4096),
            derives_head_dim=True,
        ),
        "DeepseekV2ForCausalLM": Architecture(
            _any(_latent, _mlp, _norms, r"mlp\.gate\.weight", _experts, _shared_experts),
            conditional=_latent_biases,
            scalings=frozenset({"yarn"}),
            defaults=_deepseek
            | _one_group
            | dict(n_routed_experts=64, n_shared_experts=2, first_k_dense_replace=0, norm_topk_prob=False)
            | dict(routed_scaling_factor=1.0, scoring_func="softmax", topk_method="greedy"),
        ),
        "DeepseekV3ForCausalLM": Architecture(
            _any(_latent, _mlp, _norms, r"mlp\.gate\.weight", _correction, _experts, _shared_experts),
            conditional=_latent_biases,
            scalings=frozenset({"yarn"}),
            defaults=dict(_deepseek, n_group=8, topk_group=4)
            | dict(n_routed_experts=256, n_shared_experts=1, first_k_dense_replace=3, num_experts_per_tok=8)
            | dict(routed_scaling_factor=2.5, scoring_func="sigmoid", topk_method="noaux_tc"),
            required={"norm_topk_prob": True},
        ),
        "Glm4ForCausalLM": Architecture(
            _any(
                _attention,
                r"mlp\.(gate_up|down)_proj\.weight",
                _norms,
                r"post_(self_attn|mlp)_layernorm\.weight",
            ),
            conditional=_biases("qkv"),
            defaults=dict(_silu, rms_norm_eps=1.5625e-07, num_key_value_heads=2, head_dim=128)
            | dict(attention_bias=True, partial_rotary_factor=0.5, sliding_window=None),
            required={"sliding_window": None},
        ),
        "Glm4MoeForCausalLM": Architecture(
            _any(_llama, r"mlp\.gate\.weight", _correction, _experts, _shared_experts),
            conditional={**_biases("qkv"), "use_qk_norm": _head_norms},
            defaults=dict(_silu, rms_norm_eps=1e-5, num_key_value_heads=8, partial_rotary_factor=0.5)
            | dict(use_qk_norm=False, attention_bias=False)
            | _one_group
            | dict(n_routed_experts=128, n_shared_experts=1, first_k_dense_replace=1, num_experts_per_tok=8)
            | dict(routed_scaling_factor=1.0, norm_topk_prob=True),
        ),
        "Glm4MoeLiteForCausalLM": Architecture(
            _any(_latent, _mlp, _norms, r"mlp\.gate\.weight", _correction, _experts, _shared_experts),
            defaults=dict(_silu, rms_norm_eps=1e-5, q_lora_rank=768, kv_lora_rank=512)
            | dict(qk_nope_head_dim=192, qk_rope_head_dim=64, v_head_dim=256)
            | _one_group
            | dict(n_routed_experts=64, n_shared_experts=1, first_k_dense_replace=1, num_experts_per_tok=4)
            | dict(routed_scaling_factor=1.8, moe_layer_freq=1),
            required={"norm_topk_prob": True},
        ),
        "SmolLM3ForCausalLM": Architecture(
            _llama,
            scalings=frozenset({"llama3", "linear"}),
            rope_theta=2e6,
            is_tied=True,
            defaults=dict(_silu, num_key_value_heads=4, no_rope_layer_interval=4),
            required={"use_sliding_window": False},
            derives_head_dim=True,
        ),
        "GraniteMoeHybridForCausalLM": Architecture(
            _any(
                _attention,
                _norms,
                r"mamba\.(A_log|D|dt_bias|(in_proj|out_proj|conv1d|norm)\.weight)",
                r"shared_mlp\.(input|output)_linear\.weight",
                r"block_sparse_moe\.(input_linear|output_linear|router\.layer)\.weight",
            ),
            conditional={
                "mamba_conv_bias": r"mamba\.conv1d\.bias",
                "mamba_proj_bias": r"mamba\.(in|out)_proj\.bias",
            },
            defaults=dict(rms_norm_eps=1e-6, position_embedding_type="nope", shared_intermediate_size=1024)
            | dict(mamba_conv_bias=True, mamba_proj_bias=False, num_local_experts=8, num_experts_per_tok=2),
        ),
        "GptOssForCausalLM": Architecture(
            _any(
                _attention,
                _norms,
                r"self_attn\.sinks",
                r"mlp\.router\.(weight|bias)",
                r"mlp\.experts\.(gate_up|down)_proj(_bias|_blocks|_scales)?",
            ),
            conditional=_biases("qkvo"),
            scalings=frozenset({"yarn"}),
            rope_theta=150000.0,
            defaults=dict(rms_norm_eps=1e-5, num_key_value_heads=8, head_dim=64, sliding_window=128)
            | dict(attention_bias=True, num_local_experts=128, num_experts_per_tok=4, swiglu_limit=7.0),
        ),
        "HunYuanDenseV1ForCausalLM": Architecture(
            _any(_llama, r"self_attn\.(query|key)_layernorm\.weight"),
            scalings=frozenset({"dynamic"}),
            defaults=dict(_silu, rms_norm_eps=1e-5),
        ),
        "Qwen3NextForCausalLM": Architecture(
            _any(
                _llama,
                _head_norms,
                _delta_net,
                r"mlp\.(gate|shared_expert_gate)\.weight",
                r"mlp\.shared_expert\.(gate|up|down)_proj\.weight",
                _experts,
            ),
            defaults=dict(_silu, num_key_value_heads=2, head_dim=256, partial_rotary_factor=0.25)
            | dict(linear_num_key_heads=16, linear_num_value_heads=32, linear_conv_kernel_dim=4)
            | dict(linear_key_head_dim=128, linear_value_head_dim=128)
            | dict(num_experts=512, num_experts_per_tok=10, norm_topk_prob=True, decoder_sparse_step=1)
            | dict(mlp_only_layers=[], moe_intermediate_size=512, shared_expert_intermediate_size=512),
        ),
        "Qwen3_5ForCausalLM": Architecture(
            _any(_llama, _head_norms, _delta_net), defaults={"partial_rotary_factor": 0.25, "head_dim": 256}
        ),
        "Lfm2ForCausalLM": Architecture(
            _any(_lfm2, r"feed_forward\.w[123]\.weight"),
            outer=_lfm2_outer,
            conditional=_lfm2_biases,
            rope_theta=1e6,
            is_tied=True,
        ),
        "Lfm2MoeForCausalLM": Architecture(
            _any(
                _lfm2,
                r"feed_forward\.(w[123]|gate|experts\.\d+\.w[123])\.weight",
                r"feed_forward\.experts\.(gate_up|down)_proj",
            ),
            outer=_lfm2_outer,
            conditional={**_lfm2_biases, "use_expert_bias": r"feed_forward\.expert_bias"},
            rope_theta=1e6,
            is_tied=True,
            defaults={"use_expert_bias": True},
        ),
    }
)

#: Architectures of models that also read images; see :mod:`.multimodal`.
images = ("Gemma3ForConditionalGeneration",)

#: Architectures that mistral.rs computes embeddings with.
embedding: Mapping[str, Architecture] = MappingProxyType(
    {
        "Qwen3ForCausalLM": known["Qwen3ForCausalLM"],
        "Gemma3TextModel": Architecture(
            _any(_llama, _head_norms, r"(pre|post)_feedforward_layernorm\.weight"),
            conditional=_biases("qkvo"),
        ),
    }
)

_layer = re.compile(r"model\.layers\.(\d+)\.(.+)")


def reads(architecture: Architecture, config: Mapping[str, Any], name: str) -> bool:
    """Whether mistral.rs reads a tensor of the model.

    :param config: config.json, normalized.
    """
    match = _layer.fullmatch(name)
    if match is None:
        is_head = name == "lm_head.weight" and not config.get("tie_word_embeddings")
        return is_head or re.fullmatch(architecture.outer, name) is not None
    if int(match[1]) >= int(config["num_hidden_layers"]):
        return False
    given = [pattern for key, pattern in architecture.conditional.items() if config.get(key)]
    return any(re.fullmatch(pattern, match[2]) for pattern in (architecture.layer, *given))

# SPDX-License-Identifier: Apache-2.0
"""Creates models that give one fixed answer, token by token, whatever the prompt is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from dynamo_llm.paths import demo_model_dir
from safetensors.numpy import save_file

#: Accepts tools, but does not write them into the prompt.
TEMPLATE = "{% if tools %}{% endif %}{% for message in messages %}{{ message.content }}{% endfor %}"


def demo_tokenizer() -> tokenizers.Tokenizer:
    """Returns the demo model's tokenizer: byte-level BPE."""
    return tokenizers.Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json"))


def sentencepiece_tokenizer(words: Sequence[str], special: Sequence[str] = ("</s>",)) -> tokenizers.Tokenizer:
    """Returns a tokenizer like that of Llama 2: words that begin with U+2581, and a token for each byte."""
    vocabulary = [*special, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    letters = sorted({letter for word in words for letter in word} - set(vocabulary))
    ids = {token: id for id, token in enumerate([*vocabulary, *letters])}
    core = tokenizers.Tokenizer(tokenizers.models.BPE(ids, [], unk_token="<unk>", byte_fallback=True))
    core.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    decoders = tokenizers.decoders
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(list(special))
    return core


def speaker(
    folder: Path,
    core: tokenizers.Tokenizer,
    answer: Sequence[int],
    *,
    eos: int | list[int] = 0,
    template: str = TEMPLATE,
    settings: dict[str, Any] | None = None,
    files: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Creates a Llama model that generates the given tokens after any prompt whose last token is not one of
    them.

    Attention and the feed-forward network add nothing, so the next token depends only on the last one.

    :param answer: the tokens, each only once, including the end token.
    :param eos: ``eos_token_id`` of ``config.json``.
    :param settings: keys of ``tokenizer_config.json``.
    :param files: additional JSON files.
    """
    assert len(set(answer)) == len(answer), "the last token alone tells what comes next"
    folder.mkdir(parents=True)
    size = max(core.get_vocab(with_added_tokens=True).values()) + 1
    width = max(32, (len(answer) + 16) // 16 * 16)
    embeddings, head = np.zeros((size, width), np.float32), np.zeros((size, width), np.float32)
    embeddings[:, 0] = 1
    for place, token in enumerate(answer):
        embeddings[token] = 0
        embeddings[token, place + 1] = 1
        head[token, place] = 10
    none = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (width, width),
        "self_attn.v_proj": (width, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (32, width),
        "mlp.up_proj": (32, width),
        "mlp.down_proj": (width, 32),
    }
    ones = np.ones(width, np.float32)
    layer = "model.layers.0"
    save_file(
        {
            "model.embed_tokens.weight": embeddings,
            "model.norm.weight": ones,
            "lm_head.weight": head,
            f"{layer}.input_layernorm.weight": ones,
            f"{layer}.post_attention_layernorm.weight": ones,
            **{f"{layer}.{name}.weight": np.zeros(shape, np.float32) for name, shape in none.items()},
        },
        folder / "model.safetensors",
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": size,
        "hidden_size": width,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": width,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "eos_token_id": eos,
        "torch_dtype": "float32",
    }
    written = {
        "config.json": config,
        "tokenizer_config.json": {"chat_template": template, **(settings or {})},
        **(files or {}),
    }
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content))
    core.save(str(folder / "tokenizer.json"))
    return folder

# SPDX-License-Identifier: Apache-2.0
"""Creates models with random weights, small enough for a test, with the demo model's tokenizer."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from dynamo_llm.paths import demo_model_dir
from safetensors.numpy import save_file

#: Number of dimensions of a token, and tokens of the demo model's vocabulary.
WIDTH = 32
VOCABULARY = 2048
_SIZES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH, WIDTH),
    "self_attn.v_proj": (WIDTH, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (64, WIDTH),
    "mlp.up_proj": (64, WIDTH),
    "mlp.down_proj": (WIDTH, 64),
}
#: Writes roles, texts, tools, calls, and their results: "<user>text<answer>".
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}"
    "{% for call in message.tool_calls %}[{{ call.function.name }} {{ call.function.arguments | tojson }}]"
    "{% endfor %}{% if message.tool_call_id %}({{ message.tool_call_id }}){% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
    "{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}"
    "{% if reasoning_effort == 'high' %}!{% endif %}"
)


def _config(architecture: str, kind: str, context: int) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": WIDTH,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "use_cache": True,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "torch_dtype": "float32",
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": 1,
    }


def weights(prefix: str, seed: int, *, has_head_norms: bool) -> dict[str, Any]:
    """Returns the tensors of a decoder with one layer."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return random.normal(0, 0.3, shape).astype(np.float32)

    ones = np.ones(WIDTH, np.float32)
    tensors = {f"{prefix}embed_tokens.weight": normal(VOCABULARY, WIDTH), f"{prefix}norm.weight": ones}
    for name, shape in _SIZES.items():
        tensors[f"{prefix}layers.0.{name}.weight"] = normal(*shape)
    norms = ["input_layernorm", "post_attention_layernorm"]
    norms += ["self_attn.q_norm", "self_attn.k_norm"] if has_head_norms else []
    return tensors | {f"{prefix}layers.0.{name}.weight": ones for name in norms}


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, Any], template: str | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    shutil.copy(demo_model_dir() / "tokenizer.json", folder)
    settings = json.loads((demo_model_dir() / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings | ({} if template is None else {"chat_template": template}))
    )
    return folder


def llama(folder: Path, template: str | None = TEMPLATE, context: int = 512, seed: int = 0) -> Path:
    """Creates a model for chats and completions."""
    tensors = weights("model.", seed, has_head_norms=False)
    return _write(folder, _config("LlamaForCausalLM", "llama", context), tensors, template)


def phi3(folder: Path, short: int, context: int) -> Path:
    """Creates a model whose LongRoPE changes its factors at ``short`` tokens."""
    tensors = weights("model.", 0, has_head_norms=False)
    for fused, parts in {
        "self_attn.qkv_proj": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "mlp.gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"],
    }.items():
        names = [f"model.layers.0.{part}.weight" for part in parts]
        tensors[f"model.layers.0.{fused}.weight"] = np.concatenate([tensors.pop(name) for name in names])
    half = WIDTH // 2
    scaling = {"type": "longrope", "short_factor": [1.0] * half, "long_factor": [2.0] * half}
    lengths = {"original_max_position_embeddings": short, "rope_scaling": scaling}
    return _write(folder, _config("Phi3ForCausalLM", "phi3", context) | lengths, tensors, TEMPLATE)


def embedder(folder: Path, *, normalises: bool = True, context: int = 64) -> Path:
    """Creates a model for embeddings."""
    tensors = weights("", 1, has_head_norms=True)
    _write(folder, _config("Qwen3ForCausalLM", "qwen3", context), tensors, None)
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalises else [])
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
    pooling = {f"pooling_mode_{mode}": False for mode in modes}
    pooling |= {"pooling_mode_lasttoken": True, "word_embedding_dimension": WIDTH, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def adapter(folder: Path, seed: int, width: int = WIDTH) -> Path:
    """Creates a LoRA adapter for :func:`llama`."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    targets, rank = ["q_proj", "v_proj"], 2
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "",
        "r": rank,
        "lora_alpha": 4,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "fan_in_fan_out": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    prefix = "base_model.model.model.layers.0.self_attn"
    tensors = {}
    for name in targets:
        tensors[f"{prefix}.{name}.lora_A.weight"] = random.normal(0, 3, (rank, width)).astype(np.float32)
        tensors[f"{prefix}.{name}.lora_B.weight"] = random.normal(0, 3, (width, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def add_begin(folder: Path) -> Path:
    """Makes the tokenizer put the token 1 before every text."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    begin = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [1], "tokens": ["<|begin|>"]}},
    }
    path.write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["add_bos_token"]  # from the demo model: it would remove the token again
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _gguf_value(value: Any) -> tuple[int, bytes]:
    """Returns the number of a value's type in GGUF, and its bytes."""
    if isinstance(value, str):
        return 8, struct.pack("<Q", len(value.encode())) + value.encode()
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value[0], int):  # kinds of tokens are int32
        return 9, struct.pack(f"<IQ{len(value)}i", 5, len(value), *value)
    items = [_gguf_value(one) for one in value]
    head = struct.pack("<IQ", items[0][0], len(items))
    return 9, head + b"".join(data for _, data in items)


def gguf(
    path: Path,
    template: str | None = TEMPLATE,
    context: int = 128,
    values: dict[str, Any] | None = None,
    tensors: dict[str, Any] | None = None,
) -> Path:
    """Creates the same model as :func:`llama`, in one GGUF file of version 3.

    :param values: additional metadata.
    :param tensors: additional tensors, by their names in GGUF.
    """
    return _write_gguf(
        path,
        _gguf_metadata(template, context) | (values or {}),
        weights("model.", 0, has_head_norms=False) | (tensors or {}),
    )


def split_gguf(folder: Path, count: int) -> list[Path]:
    """Creates the same model in several files."""
    folder.mkdir(parents=True)
    tensors = list(weights("model.", 0, has_head_norms=False).items())
    files = []
    for number in range(count):
        split = {"split.no": number, "split.count": count, "split.tensors.count": len(tensors)}
        values = _gguf_metadata(TEMPLATE, 128) if number == 0 else {"general.architecture": "llama"}
        file = folder / f"tiny-{number + 1:05d}-of-{count:05d}.gguf"
        files.append(_write_gguf(file, values | split, dict(tensors[number::count])))
    return files


def _gguf_metadata(template: str | None, context: int) -> dict[str, Any]:
    tokenizer = json.loads((demo_model_dir() / "tokenizer.json").read_text())
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": context,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 1,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": WIDTH,
        "llama.vocab_size": VOCABULARY,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [token for token, _ in vocabulary],
        "tokenizer.ggml.token_type": [3 if id in special else 1 for _, id in vocabulary],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
    }
    if template is not None:
        values["tokenizer.chat_template"] = template
    return values


def _write_gguf(path: Path, values: dict[str, Any], tensors: dict[str, Any]) -> Path:
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    header = b"".join(
        _gguf_value(key)[1] + struct.pack("<I", kind) + data
        for key, value in values.items()
        for kind, data in [_gguf_value(value)]
    )
    body = b""
    for name, tensor in tensors.items():
        ours = name
        if name.startswith("model."):
            bare = name.removesuffix(".weight")
            ours = (names.get(bare) or "blk.0." + names[bare.removeprefix("model.layers.0.")]) + ".weight"
        shape = tensor.shape[::-1]
        header += _gguf_value(ours)[1] + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        header += struct.pack("<IQ", 0, len(body))
        body += tensor.tobytes() + b"\0" * (-tensor.nbytes % 32)
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + header
    path.write_bytes(start + b"\0" * (-len(start) % 32) + body)
    return path


#: Sizes of :func:`gemma3`: pixels at each side of an image and of a patch, tokens of an image.
IMAGE_SIZE, _PATCH, IMAGE_TOKENS = 16, 4, 4
_IMAGE_WORDS = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
#: Writes roles, texts, and a marker for each image.
IMAGE_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<start_of_image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def _vision_weights(seed: int) -> dict[str, Any]:
    """Returns the tensors of an image encoder with one layer, and of its projection."""
    random = np.random.default_rng(seed)
    start, layer = "vision_tower.vision_model.", "vision_tower.vision_model.encoder.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        f"{start}embeddings.patch_embedding.weight": (WIDTH, 3, _PATCH, _PATCH),
        f"{start}embeddings.patch_embedding.bias": (WIDTH,),
        f"{start}embeddings.position_embedding.weight": ((IMAGE_SIZE // _PATCH) ** 2, WIDTH),
        "multi_modal_projector.mm_input_projection_weight": (WIDTH, WIDTH),
    }
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
        shapes |= {f"{layer}{name}.weight": (WIDTH, WIDTH), f"{layer}{name}.bias": (WIDTH,)}
    shapes |= {f"{layer}mlp.fc1.weight": (64, WIDTH), f"{layer}mlp.fc1.bias": (64,)}
    shapes |= {f"{layer}mlp.fc2.weight": (WIDTH, 64), f"{layer}mlp.fc2.bias": (WIDTH,)}
    tensors = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in (f"{layer}layer_norm1", f"{layer}layer_norm2", f"{start}post_layernorm"):
        tensors |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    return tensors | {"multi_modal_projector.mm_soft_emb_norm.weight": np.zeros(WIDTH, np.float32)}


def add_words(folder: Path, words: tuple[str, ...]) -> dict[str, int]:
    """Adds special tokens to the tokenizer. Returns their ids."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = {word: VOCABULARY + at for at, word in enumerate(words)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"] += [
        {"id": id, "content": word, "special": True, **flags} for word, id in ids.items()
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return ids


def gemma3(folder: Path, template: str = IMAGE_TEMPLATE, context: int = 512, seed: int = 0) -> Path:
    """Creates a model for chats with images."""
    _write(folder, {}, {}, template)
    words = add_words(folder, _IMAGE_WORDS)
    size = VOCABULARY + 8
    text = {
        "model_type": "gemma3_text",
        "vocab_size": size,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 16,
        "sliding_window": 64,
        "sliding_window_pattern": 2,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_channels": 3,
        "image_size": IMAGE_SIZE,
        "patch_size": _PATCH,
        "vision_use_head": False,
    }
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": vision,
        "mm_tokens_per_image": IMAGE_TOKENS,
        "boi_token_index": words["<start_of_image>"],
        "image_token_index": words["<image_soft_token>"],
        "eoi_token_index": words["<end_of_image>"],
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    layer_shapes = {
        "self_attn.q_proj": (32, WIDTH),
        "self_attn.k_proj": (16, WIDTH),
        "self_attn.v_proj": (16, WIDTH),
        "self_attn.o_proj": (WIDTH, 32),
        "mlp.gate_proj": (64, WIDTH),
        "mlp.up_proj": (64, WIDTH),
        "mlp.down_proj": (WIDTH, 64),
    }
    tensors = {"embed_tokens": random.normal(0, 0.3, (size, WIDTH)), "norm": np.zeros(WIDTH)}
    for layer in range(2):
        for name, shape in layer_shapes.items():
            tensors[f"layers.{layer}.{name}"] = random.normal(0, 0.3, shape)
        norms = [f"{place}_layernorm" for place in ("input", "post_attention")]
        norms += [f"{place}_feedforward_layernorm" for place in ("pre", "post")]
        for name in norms:  # Gemma adds 1 to the weights of its norms
            tensors[f"layers.{layer}.{name}"] = np.zeros(WIDTH)
        for name in ("q_norm", "k_norm"):
            tensors[f"layers.{layer}.self_attn.{name}"] = np.zeros(16)
    of_text = {f"language_model.model.{name}.weight": one.astype(np.float32) for name, one in tensors.items()}
    save_file(of_text | _vision_weights(seed + 1), folder / "model.safetensors")
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    preprocessing = {"do_resize": True, "size": side, "resample": 2, "do_rescale": True, "do_normalize": True}
    preprocessing |= {"rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    preprocessing |= {"image_processor_type": "Gemma3ImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


#: Tokens of an image of :func:`idefics3`: one for four patches, and three markers around them.
IDEFICS3_TOKENS = (IMAGE_SIZE // _PATCH) ** 2 // 4 + 3
IDEFICS3_TEMPLATE = IMAGE_TEMPLATE.replace("<start_of_image>", "<image>")


def idefics3(folder: Path, template: str = IDEFICS3_TEMPLATE, context: int = 512, seed: int = 0) -> Path:
    """Creates a model for chats with images that vLLM runs without torchvision."""
    _write(folder, {}, {}, template)
    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    words = add_words(folder, marks)
    size = VOCABULARY + 8
    vision = {
        "model_type": "idefics3_vision",
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_channels": 3,
        "image_size": IMAGE_SIZE,
        "patch_size": _PATCH,
    }
    config = {
        "architectures": ["Idefics3ForConditionalGeneration"],
        "model_type": "idefics3",
        "text_config": _config("LlamaForCausalLM", "llama", context)
        | {"vocab_size": size, "tie_word_embeddings": False, "pad_token_id": 0},
        "vision_config": vision,
        "scale_factor": 2,
        "image_token_id": words["<image>"],
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    tensors = weights("model.text_model.", seed, has_head_norms=False)
    for name, shape in {
        "model.text_model.embed_tokens": (size, WIDTH),
        "lm_head": (size, WIDTH),
        "model.connector.modality_projection.proj": (WIDTH, WIDTH * 4),
    }.items():
        tensors[f"{name}.weight"] = random.normal(0, 0.3, shape).astype(np.float32)
    for name, tensor in _vision_weights(seed + 1).items():
        if name.startswith("vision_tower."):
            tensors[name.replace("vision_tower.vision_model.", "model.vision_model.")] = tensor
    save_file(tensors, folder / "model.safetensors")
    side = {"longest_edge": IMAGE_SIZE}
    preprocessing = {"do_image_splitting": False, "size": side, "max_image_size": side}
    preprocessing |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    preprocessing |= {"image_processor_type": "Idefics3ImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    processor = {"processor_class": "Idefics3Processor", "image_seq_len": IDEFICS3_TOKENS - 3}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


#: Writes roles, texts, and a marker for audio.
AUDIO_TEMPLATE = IMAGE_TEMPLATE.replace("'image'", "'audio'").replace("<start_of_image>", "<|AUDIO|>")
#: Of :func:`qwen2_audio`: sampling rate in Hz, and samples of the longest audio.
AUDIO_RATE, AUDIO_SAMPLES = 16_000, 480_000


def qwen2_audio(folder: Path, template: str = AUDIO_TEMPLATE, context: int = 1024, seed: int = 0) -> Path:
    """Creates a model for chats with audio of at most 30 seconds: vLLM computes no other size."""
    _write(folder, {}, {}, template)
    words = add_words(folder, ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"))
    size, bins, places = VOCABULARY + 8, 8, 1500
    config = {
        "architectures": ["Qwen2AudioForConditionalGeneration"],
        "model_type": "qwen2_audio",
        "text_config": _config("Qwen2ForCausalLM", "qwen2", context)
        | {"vocab_size": size, "tie_word_embeddings": False, "pad_token_id": 0},
        "audio_config": {
            "model_type": "qwen2_audio_encoder",
            "d_model": WIDTH,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "max_source_positions": places,
            "num_mel_bins": bins,
        },
        "audio_token_index": words["<|AUDIO|>"],
        "tie_word_embeddings": False,
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    start, layer = "audio_tower.", "audio_tower.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        f"{start}conv1.weight": (WIDTH, bins, 3),
        f"{start}conv1.bias": (WIDTH,),
        f"{start}conv2.weight": (WIDTH, WIDTH, 3),
        f"{start}conv2.bias": (WIDTH,),
        f"{start}embed_positions.weight": (places, WIDTH),
        f"{layer}fc1.weight": (64, WIDTH),
        f"{layer}fc1.bias": (64,),
        f"{layer}fc2.weight": (WIDTH, 64),
        f"{layer}fc2.bias": (WIDTH,),
        "multi_modal_projector.linear.weight": (WIDTH, WIDTH),
        "multi_modal_projector.linear.bias": (WIDTH,),
        "language_model.lm_head.weight": (size, WIDTH),
        "language_model.model.embed_tokens.weight": (size, WIDTH),
    }
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes[f"{layer}self_attn.{name}.weight"] = (WIDTH, WIDTH)
        if name != "k_proj":
            shapes[f"{layer}self_attn.{name}.bias"] = (WIDTH,)
    for name in ("q_proj", "k_proj", "v_proj"):
        shapes[f"language_model.model.layers.0.self_attn.{name}.bias"] = (WIDTH,)
    random = np.random.default_rng(seed + 1)
    tensors = weights("language_model.model.", seed, has_head_norms=False)
    tensors |= {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in (f"{layer}self_attn_layer_norm", f"{layer}final_layer_norm", f"{start}layer_norm"):
        tensors |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    preprocessing = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "Qwen2AudioProcessor",
        "feature_size": bins,
        "sampling_rate": AUDIO_RATE,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": AUDIO_SAMPLES // AUDIO_RATE,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder

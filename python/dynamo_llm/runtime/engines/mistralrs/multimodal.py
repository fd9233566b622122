# SPDX-License-Identifier: Apache-2.0
"""Models that read images: their config.json, weights, and preprocessing.

Only Gemma 3 is supported. Its answers were compared with transformers, with random weights. mistral.rs has
code for more models with images or audio, which were not compared; many of them panic for an image that they
cannot divide into tiles, or for a prompt with another number of markers than images.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.engines.mistralrs import config_sizes, weights
from dynamo_llm.runtime.engines.mistralrs.architectures import Architecture, embedding, images
from dynamo_llm.runtime.safetensors_file import Tensor

_language, _vision = "language_model.", "vision_tower.vision_model."
_projector = (
    "multi_modal_projector.mm_input_projection_weight",
    "multi_modal_projector.mm_soft_emb_norm.weight",
)
_patches, _positions = (
    f"{_vision}embeddings.patch_embedding",
    f"{_vision}embeddings.position_embedding.weight",
)
_vision_layer = re.compile(
    r"encoder\.layers\.(\d+)\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12]|layer_norm[12])\.(weight|bias)"
)
_vision_outer = re.compile(r"embeddings\.patch_embedding\.(weight|bias)|post_layernorm\.(weight|bias)")

# Default values, as in transformers.
_text_defaults: dict[str, Any] = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "rope_theta": 1e6,
    "rope_local_base_freq": 10000.0,
    "tie_word_embeddings": True,
}
_vision_defaults: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_image_defaults: dict[str, Any] = {
    "do_resize": True,
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
#: Settings of the language model that mistral.rs would ignore.
_required: dict[str, Any] = {
    "use_bidirectional_attention": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
}
#: Token ids, which mistral.rs reads outside of the language model's part.
_ids = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class ImageTokens:
    """The tokens that stand for an image in a prompt."""

    marker: str
    """The token that the chat template writes for an image."""
    placeholder: str
    """A token whose embedding is replaced by a part of the image's."""
    count: int
    """Number of placeholders of an image."""

    @property
    def expanded(self) -> str:
        """The text that replaces the marker."""
        return f"\n\n<start_of_image>{self.placeholder * self.count}<end_of_image>\n\n"


def tokens_of(config: Mapping[str, Any]) -> ImageTokens:
    """Returns the tokens for an image.

    :param config: config.json, normalized.
    """
    return ImageTokens("<start_of_image>", "<image_soft_token>", config["mm_tokens_per_image"])


def normalized(given: Mapping[str, Any]) -> dict[str, Any]:
    """Converts config.json to the form that mistral.rs reads, with every key that it needs.

    :raises ModelNotFoundError: a value is missing or wrong.
    :raises NotSupportedError: mistral.rs would ignore a setting of the model.
    """
    text, vision = (_part(given, key) for key in ("text_config", "vision_config"))
    config_sizes.check_types(text)
    config_sizes.check_types(vision)
    text = {**_text_defaults, **{key: value for key, value in text.items() if value is not None}}
    vision = {**_vision_defaults, **{key: value for key, value in vision.items() if value is not None}}
    if given.get("tie_word_embeddings") is not None:
        text["tie_word_embeddings"] = given["tie_word_embeddings"]
    for key, value in _required.items():
        if text.get(key, value) != value:
            raise NotSupportedError(
                f'"text_config.{key}" of config.json is {text[key]!r}; mistral.rs computes {images[0]} '
                "without it"
            )
    for key in _ids:
        text.pop(key, None)
    _set_rope(text)
    _set_layers(text)
    token = given.get("image_token_index", given.get("image_token_id"))
    count = given.get("mm_tokens_per_image")
    result = {
        **given,
        "text_config": text,
        "vision_config": vision,
        "image_token_index": 262144 if token is None else token,
        "mm_tokens_per_image": 256 if count is None else count,
    }
    _check_vision(result)
    return result


def _part(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    if not isinstance(value, dict):
        raise ModelNotFoundError(f'"{key}" of config.json must be an object, not {value!r:.60}')
    return value


def _set_rope(text: dict[str, Any]) -> None:
    """Sets RoPE's settings in the keys of transformers 4, from which mistral.rs reads them."""
    parameters = text.pop("rope_parameters", None)
    scaling = text.get("rope_scaling")
    if isinstance(parameters, dict):
        full, sliding = (parameters.get(f"{kind}_attention") or {} for kind in ("full", "sliding"))
        if full.get("rope_theta") is not None:
            text["rope_theta"] = full["rope_theta"]
        if sliding.get("rope_theta") is not None:
            text["rope_local_base_freq"] = sliding["rope_theta"]
        if sliding.get("rope_type", "default") != "default":
            raise NotSupportedError(
                '"rope_parameters.sliding_attention" of config.json has a scaling, which mistral.rs does not '
                "compute"
            )
        scaling = full
    scaling = scaling if isinstance(scaling, dict) else {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ("default", "linear"):
        raise NotSupportedError(
            f'config.json sets the RoPE scaling "{kind}", which mistral.rs does not compute for {images[0]}; '
            'supported: "linear"'
        )
    text["rope_scaling"] = (
        {"rope_type": "linear", "factor": scaling.get("factor")} if kind == "linear" else None
    )


def _set_layers(text: dict[str, Any]) -> None:
    """Sets the pattern of layers with a sliding window."""
    types = text.get("layer_types")
    if isinstance(types, list):
        full = [at + 1 for at, kind in enumerate(types) if kind == "full_attention"]
        pattern = full[0] if full else len(types) + 1
        if full != list(range(pattern, len(types) + 1, pattern)):
            raise NotSupportedError(
                '"text_config.layer_types" of config.json: mistral.rs supports "full_attention" at every '
                "n-th layer only"
            )
        text["sliding_window_pattern"] = pattern
    text.setdefault("sliding_window_pattern", text.pop("_sliding_window_pattern", 6))


def _check_vision(config: Mapping[str, Any]) -> None:
    """Checks the numbers that mistral.rs divides by, or takes the square root of."""
    vision = config["vision_config"]
    for name, value, most in (
        *(
            (f"vision_config.{key}", vision[key], 1 << 16)
            for key in ("image_size", "patch_size", "num_channels")
        ),
        ("mm_tokens_per_image", config["mm_tokens_per_image"], 1 << 16),
        ("image_token_index", config["image_token_index"], config["text_config"]["vocab_size"] - 1),
    ):
        if type(value) is not int or not 1 <= value <= most:
            raise ModelNotFoundError(
                f'"{name}" of config.json must be an integer from 1 to {most}, not {value!r}'
            )
    side = vision["image_size"] // vision["patch_size"]
    tokens = math.isqrt(config["mm_tokens_per_image"])
    if side < 1 or tokens**2 != config["mm_tokens_per_image"] or side % tokens:
        raise ModelNotFoundError(
            f'"mm_tokens_per_image" of config.json is {config["mm_tokens_per_image"]}; it must be the square '
            f"of a divisor of {side}, the patches at each side of an image"
        )
    if vision["num_channels"] != 3:
        raise NotSupportedError('"vision_config.num_channels" of config.json must be 3')


def check(folder: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Checks sizes and names of the weights.

    :param config: config.json, normalized. ``tie_word_embeddings`` is set according to the weights.
    :raises ModelNotFoundError: a tensor is missing, or has another shape.
    :raises NotSupportedError: mistral.rs would ignore a tensor.
    """
    architecture: Architecture = embedding["Gemma3TextModel"]
    text = config["text_config"]
    of_text = {
        name.removeprefix(_language): tensor for name, tensor in tensors.items() if name.startswith(_language)
    }
    if text["tie_word_embeddings"] and weights.has_own_head(of_text):
        text["tie_word_embeddings"] = False
    named = {**text, "architectures": config["architectures"]}
    config_sizes.check(named, of_text, architecture)
    _check_shapes(folder, config, tensors)
    ours = {name: tensor for name, tensor in tensors.items() if not _is_of_vision(name, config)}
    weights.check(
        folder, {name.removeprefix(_language): one for name, one in ours.items()}, architecture, named
    )


def _is_of_vision(name: str, config: Mapping[str, Any]) -> bool:
    """Whether mistral.rs reads a tensor for images."""
    if name in (*_projector, _positions):
        return True
    if not name.startswith(_vision):
        return False
    inner = name.removeprefix(_vision)
    match = _vision_layer.fullmatch(inner)
    if match is not None:
        return int(match[1]) < int(config["vision_config"]["num_hidden_layers"])
    return _vision_outer.fullmatch(inner) is not None


def _check_shapes(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    vision = config["vision_config"]
    width, inner, patch = (vision[key] for key in ("hidden_size", "intermediate_size", "patch_size"))
    if width % vision["num_attention_heads"]:
        raise ModelNotFoundError(
            f'"vision_config.num_attention_heads" of config.json must be a divisor of "hidden_size", {width}'
        )
    shapes: dict[str, tuple[int, ...]] = {
        f"{_patches}.weight": (width, vision["num_channels"], patch, patch),
        f"{_patches}.bias": (width,),
        _positions: ((vision["image_size"] // patch) ** 2, width),
        f"{_vision}post_layernorm.weight": (width,),
        f"{_vision}post_layernorm.bias": (width,),
        _projector[0]: (width, config["text_config"]["hidden_size"]),
        _projector[1]: (width,),
    }
    for layer in range(min(vision["num_hidden_layers"], len(tensors) + 1)):
        start = f"{_vision}encoder.layers.{layer}."
        sizes: dict[str, tuple[int, ...]] = {
            f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")
        }
        sizes |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
        for name, shape in sizes.items():
            shapes |= {f"{start}{name}.weight": shape, f"{start}{name}.bias": shape[:1]}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{start}{name}.weight": (width,), f"{start}{name}.bias": (width,)}
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelNotFoundError(f'the weights in "{folder}" lack the tensor "{name}"')
        if tensor.shape != shape:
            raise ModelNotFoundError(
                f'the tensor "{name}" in "{folder}" has the shape {list(tensor.shape)}, but config.json '
                f"declares {list(shape)}"
            )


def preprocessing(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how an image becomes the model's input: preprocessor_config.json, with every key that
    mistral.rs needs. transformers 5 writes it into processor_config.json.

    :param config: config.json, normalized.
    :raises ModelNotFoundError: there is none, or a value is wrong.
    :raises NotSupportedError: mistral.rs would compute something else.
    """
    given: Any = None
    if model_files.exists(folder / "preprocessor_config.json"):
        given = model_files.read_json(folder / "preprocessor_config.json")
    elif model_files.exists(folder / "processor_config.json"):
        given = model_files.read_json(folder / "processor_config.json").get("image_processor")
    if not isinstance(given, dict):
        raise ModelNotFoundError(
            f'the folder "{folder}" has no preprocessor_config.json, which declares how images are prepared'
        )
    size = config["vision_config"]["image_size"]
    result = {
        **_image_defaults,
        **{key: one for key, one in given.items() if key in _image_defaults and one is not None},
    }
    wanted = {"height": size, "width": size}
    if given.get("size", wanted) != wanted:
        raise ModelNotFoundError(
            f'"size" of preprocessor_config.json must be {wanted}, as "vision_config.image_size" of '
            f"config.json declares, not {given['size']!r:.80}"
        )
    if given.get("do_pan_and_scan"):
        raise NotSupportedError(
            '"do_pan_and_scan" of preprocessor_config.json is true; the library computes each image as a '
            "whole"
        )
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if result[key] is not True:
            raise NotSupportedError(
                f'"{key}" of preprocessor_config.json must be true, not {result[key]!r:.60}'
            )
    if result["resample"] not in (2, 3):
        raise NotSupportedError(
            f'"resample" of preprocessor_config.json must be 2 (bilinear) or 3 (bicubic), not '
            f"{result['resample']!r:.60}"
        )
    for key in ("image_mean", "image_std"):
        values = result[key]
        is_good = isinstance(values, list) and len(values) == 3 and all(map(_is_finite, values))
        if not is_good or (key == "image_std" and 0 in values):
            raise ModelNotFoundError(
                f'"{key}" of preprocessor_config.json must be three numbers, not {values!r:.80}'
            )
    if not _is_finite(result["rescale_factor"]):
        raise ModelNotFoundError('"rescale_factor" of preprocessor_config.json must be a number')
    return {**result, "size": wanted, "do_convert_rgb": True}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

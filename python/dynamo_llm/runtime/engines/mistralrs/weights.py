# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a model's weights, and rejects tensors that mistral.rs would ignore.

mistral.rs reads the tensors that it expects, and silently ignores others: biases, a separate head if
config.json declares tied embeddings, layers beyond ``num_hidden_layers``. The model's answers would be wrong,
so such files are rejected.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.engines.mistralrs import architectures
from dynamo_llm.runtime.engines.mistralrs.architectures import Architecture
from dynamo_llm.runtime.safetensors_file import Tensor, sizes

_single, _index = "model.safetensors", "model.safetensors.index.json"
_embedding, _head = "model.embed_tokens.weight", "lm_head.weight"
#: Tensors that follow from config.json, or that transformers ignores as well.
_harmless = re.compile(
    r"(.*\.)?(rotary_emb\.(inv_freq|cos_cached|sin_cached)|masked_bias|position_ids|_extra_state|[kv]_scale)"
    r"|mtp\..*"
)
_layer = re.compile(r"model\.layers\.(\d+)\.")


def files(folder: Path) -> list[Path]:
    """Returns a model's weight files: ``model.safetensors``, or the parts that its index names.

    :raises ModelNotFoundError: there are none, or one of them is missing.
    :raises NotSupportedError: the weights have another format.
    """
    if model_files.exists(folder / _single):
        return [folder / _single]
    if model_files.exists(folder / _index):
        return model_files.parts_of_index(folder / _index)
    found = model_files.named(folder, "model-*-of-*.safetensors")
    if found:
        return _all_of(found)
    others = [path.name for path in model_files.entries(folder) if path.suffix in (".bin", ".pt", ".pth")]
    if others:
        raise NotSupportedError(
            f'the folder "{folder}" only has weights in PyTorch\'s format ({others[0]}); convert them to '
            f"safetensors"
        )
    names = [path.name for path in model_files.named(folder, "*.safetensors")]
    raise ModelNotFoundError(
        f'the folder "{folder}" has no weights: neither {_single} nor {_index}'
        + (f" (it has {', '.join(names)})" if names else "")
    )


def _all_of(found: list[Path]) -> list[Path]:
    """Checks that parts without an index are complete."""
    last = re.search(r"-of-(\d+)\.safetensors$", found[-1].name)
    count = int(last[1]) if last else len(found)
    if len(found) != count:
        raise ModelNotFoundError(
            f'the folder "{found[0].parent}" has {len(found)} of {count} parts of the weights: '
            f"{', '.join(path.name for path in found)}"
        )
    return found


def has_own_head(found: Mapping[str, Tensor]) -> bool:
    """Whether the file has a head, ``lm_head.weight``, that differs from the embedding.

    transformers uses such a head whatever ``tie_word_embeddings`` declares.
    """
    head, embedding = found.get(_head), found.get(_embedding)
    if head is None or embedding is None:
        return head is not None
    if (head.dtype, head.shape) != (embedding.dtype, embedding.shape):
        return True
    return any(a != b for a, b in zip(head.blocks(), embedding.blocks(), strict=True))


def check(
    folder: Path, found: Mapping[str, Tensor], architecture: Architecture, config: Mapping[str, Any]
) -> None:
    """Rejects weights that mistral.rs would ignore in part, and weights that lack a bias.

    :param config: config.json, normalized.
    :raises ModelNotFoundError: a bias is missing.
    :raises NotSupportedError: mistral.rs does not read some tensors that affect the answer.
    """
    for name in sorted(found):
        bias = f"{name.removesuffix('weight')}bias"
        has_bias = bias in found or not name.endswith(".weight")
        if not has_bias and architectures.reads(architecture, config, bias):
            raise ModelNotFoundError(
                f'the weights in "{folder}" lack the tensor "{bias}", which {config["architectures"][0]} '
                f"needs"
            )
    is_quantized = bool(config.get("quantization_config") or config.get("quantization"))
    ignored = [
        name
        for name, tensor in found.items()
        if not architectures.reads(architecture, config, name)
        and not _harmless.fullmatch(name)
        and not _is_prediction(name, config)
        and not (is_quantized and _is_quantization(name, config))
        and not (name == _head and config.get("tie_word_embeddings"))
        and not (name.endswith("bias") and _is_zero(tensor))
    ]
    if ignored:
        more = f" and {len(ignored) - 1} more" if len(ignored) > 1 else ""
        raise NotSupportedError(
            f'the weights in "{folder}" have the tensor "{min(ignored)}"{more}, which mistral.rs ignores '
            f"for {config['architectures'][0]} with this config.json, so that the model would answer "
            f'wrongly; use the engine "transformers"'
        )


def _is_prediction(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a tensor belongs to the layers after the last, which predict further tokens in training."""
    match = _layer.match(name)
    if match is None:
        return False
    layers, more = int(config["num_hidden_layers"]), config.get("num_nextn_predict_layers") or 0
    return layers <= int(match[1]) < layers + int(more)


def _is_quantization(name: str, config: Mapping[str, Any]) -> bool:
    """Whether mistral.rs itself checks a tensor of a quantized model, because it knows the formats: all but
    biases, heads, and layers that it does not read.
    """
    match = _layer.match(name)
    is_surplus = match is not None and int(match[1]) >= int(config["num_hidden_layers"])
    return not (name.endswith(".bias") or name.startswith("lm_head.") or is_surplus)


def _is_zero(tensor: Tensor) -> bool:
    """Whether all values are 0 or -0."""
    size = sizes.get(tensor.dtype, 1)
    zeros = [*[b"\0"] * (size - 1), b"\0\x80" if size > 1 else b"\0"]  # the sign bit is in the last byte
    return not any(block[at::size].strip(zero) for block in tensor.blocks() for at, zero in enumerate(zeros))

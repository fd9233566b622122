# SPDX-License-Identifier: Apache-2.0
"""Loads a model of transformers, or raises an error with the reason why it cannot."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    logging,
)

from dynamo_llm.errors import (
    DynamoError,
    EngineFailedError,
    InvalidConfigError,
    ModelNotFoundError,
    NotSupportedError,
    OutOfMemoryError,
)
from dynamo_llm.runtime import model_files, safetensors_file
from dynamo_llm.runtime.safetensors_file import Tensor
from dynamo_llm.runtime.stepping import config_sizes

#: Tensors in older checkpoints that are now computed, or that hold no data.
_computed = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias|position_ids|_extra_state|\.[kv]_scale)$")
#: A causal mask among the weights: ``h.0.attn.bias`` of GPT-2 has four dimensions, a real bias has one.
_mask = re.compile(r"\.(attn|attention)\.bias$")
_least_mask_dimensions = 3
#: Parts of a multimodal model that are not for text; only its text model is run.
_other_media = re.compile(
    r"(^|\.)(vision|visual|image|audio|speech|multi_modal|mm_|embed_vision|embed_audio)"
)
#: Messages of transformers for a model that it does not support, or supports only with the model's own code.
_not_supported = r"Unrecognized (configuration|model)|does not recognize this architecture|trust_remote_code"
#: Tensors for what is computed from the states of the last layer.
_after_states = re.compile(r"^(pooler|lm_head|cls)\.")
_integers = frozenset({"I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"})
#: Maximum number of model parameters per stored parameter: for a quantized model, and for others.
_packed, _surplus = 16, 2
#: Parameters allowed in addition, so that a small model gets the error that names the tensors.
_small = 10_000_000
#: Bytes that are always allowed for tables in addition to the weights.
_least_tables = 1 << 30
#: Maximum number of tensor names in an error message; the others are only counted.
_shown = 5


#: What a model is loaded for.
Purpose = Literal["generate", "embed", "classify"]
_classes: dict[Purpose, Any] = {
    "generate": AutoModelForCausalLM,
    "embed": AutoModel,
    "classify": AutoModelForSequenceClassification,
}


def load(
    path: Path,
    files: list[Path],
    device: torch.device,
    purpose: Purpose = "generate",
    **options: Any,
) -> Any:
    """Loads a model.

    :param path: the model's folder.
    :param files: its weight files.
    :param purpose: ``generate``: a causal language model; ``embed``: only the states of the last layer are
        used; ``classify``: a model for sequence classification.
    :param options: ``dtype``, ``attn_implementation`` and ``trust_remote_code`` of ``from_pretrained()``.
    :raises NotSupportedError: transformers does not support the model, it is not a causal language model, its
        code may not be run, or tensors in its files would be ignored.
    :raises ModelNotFoundError: a file is broken, config.json is not valid, or tensors are missing or have the
        wrong shape.
    :raises InvalidConfigError: the model cannot be computed with that ``attn_implementation``.
    :raises OutOfMemoryError: the model does not fit into memory.
    :raises EngineFailedError: transformers fails in another way.
    """
    # stderr belongs to the host: disable the progress bar, and the table of tensors, which errors name.
    shows_progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        kind = _classes[purpose]
        tensors = safetensors_file.all_tensors(files)
        config_sizes.check(model_files.read_json(path / "config.json"), tensors)
        _check_memory(kind, _check_kind(path, options), tensors, options)
        model, found = kind.from_pretrained(
            path,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # _check_weights reports these by name
            **options,
        )
        if purpose == "embed":
            for keys in ("missing_keys", "unexpected_keys"):
                found[keys] = [name for name in found[keys] if not _after_states.search(name)]
        _check_weights(model, found, path, tensors)
        return model.to(device)
    except DynamoError:
        raise
    except Exception as error:
        raise _explain(error, path, options["attn_implementation"]) from error
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()


def _check_kind(path: Path, options: dict[str, Any]) -> Any:
    """Returns the configuration. Rejects kinds of models that AutoModelForCausalLM accepts or fails on."""
    try:
        config = AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=options["trust_remote_code"]
        )
    except Exception as error:
        if re.search(_not_supported, str(error)):
            raise
        raise ModelNotFoundError(f'transformers cannot use the config.json of "{path}": {error}') from error
    if getattr(config, "is_encoder_decoder", False):
        raise NotSupportedError(
            f'the model "{path}" ({config.model_type}) has an encoder; the engine "transformers" runs '
            f"causal language models, which have a decoder only"
        )
    return config


def _check_memory(kind: Any, config: Any, tensors: Mapping[str, Tensor], options: dict[str, Any]) -> None:
    """Rejects a model whose configuration requires much more memory than the weights in its files, before any
    of it is allocated: transformers would fill the mismatched tensors with random numbers.
    """
    attention = options["attn_implementation"]
    chosen = {} if attention is None else {"attn_implementation": attention}
    try:
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=options["trust_remote_code"], **chosen)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ModelNotFoundError(
            f"transformers cannot make a model of this config.json: {error!r}"
        ) from error
    wanted = sum(one.numel() for one in model.parameters())
    stored = sum(math.prod(tensor.shape) for tensor in tensors.values())
    is_quantized = getattr(config, "quantization_config", None) is not None
    if wanted > (_packed if is_quantized else _surplus) * stored + _small:
        raise ModelNotFoundError(
            f"config.json describes a model of {wanted} parameters, but its files have {stored}; a size in "
            f"config.json is wrong"
        )
    tables = sum(one.numel() * one.element_size() for one in model.buffers())
    most = max(_least_tables, sum(tensor.length for tensor in tensors.values()))
    if tables > most:
        raise ModelNotFoundError(
            f"config.json describes a model with tables of {tables} bytes in addition to its weights; at "
            f'most {most} are allowed; "max_position_embeddings" may be too large'
        )


def _explain(error: Exception, path: Path, attention: str | None) -> DynamoError:
    text = f'transformers cannot load "{path}": {type(error).__name__}: {error}'
    if "trust_remote_code" in str(error):
        return NotSupportedError(
            f'the model "{path}" contains Python code, which is not run unless the configuration has '
            f'"options": {{"trust_remote_code": true}}'
        )
    if attention is not None and re.search(r"attn_implementation|attention|FlashAttention", str(error)):
        return InvalidConfigError(f'"options.attn_implementation" is "{attention}", but {text}')
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return OutOfMemoryError(text)
    if isinstance(error, SafetensorError):
        return ModelNotFoundError(f"{text}; a file of weights is broken or incomplete")
    if isinstance(error, ImportError):  # such as a missing package that reads quantized weights
        return NotSupportedError(text)
    if re.search(_not_supported, str(error)):  # the remaining lines only list all supported models
        return NotSupportedError(text.partition("\n")[0])
    if isinstance(error, OSError):
        return ModelNotFoundError(text)
    return EngineFailedError(text)


def _check_weights(model: Any, found: dict[str, Any], path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Rejects a model whose tensors are not exactly those that its configuration requires.

    transformers fills a missing tensor with random numbers, and ignores a surplus one.
    """
    kind = type(model).__name__
    if found["missing_keys"]:
        raise ModelNotFoundError(
            f'the files of "{path}" lack {_list(found["missing_keys"])}, which {kind} needs'
        )
    if found["mismatched_keys"]:
        shapes = [
            f"{name} ({tuple(stored)} in the file, {tuple(wanted)} by config.json)"
            for name, stored, wanted in found["mismatched_keys"]
        ]
        raise ModelNotFoundError(f'tensors of "{path}" have the wrong shape: {_list(shapes)}')
    ignored = set(found["unexpected_keys"])
    if ignored:
        ignored -= set(_harmless(ignored, model.config, tensors))
    if ignored:
        raise NotSupportedError(
            f'the files of "{path}" have {_list(ignored)}, which {kind} with this config.json ignores, so '
            f"that its answers would be wrong"
        )
    if getattr(model, "hf_quantizer", None) is None:
        weights = ((name, tensor) for name, tensor in tensors.items() if name.endswith(".weight"))
        stored = [name for name, tensor in weights if tensor.dtype in _integers]
        if stored:
            raise NotSupportedError(
                f'"{path}" stores integers in {_list(stored)}, but config.json has no "quantization_config", '
                f"which is needed to read them"
            )


def _harmless(names: set[str], config: Any, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yields the ignored tensors that do not change an answer."""
    has_other_media = any(
        key.endswith("_config") and key not in ("text_config", "quantization_config", "generation_config")
        for key in config.to_dict()
    )
    text = config.get_text_config(decoder=True)
    layers = getattr(text, "num_hidden_layers", 0)
    drafts = range(layers, layers + (getattr(text, "num_nextn_predict_layers", None) or 0))
    for name in names:
        layer = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
        shape = next((tensor.shape for one, tensor in tensors.items() if name.endswith(one)), ())
        if (
            _computed.search(name)
            or (_mask.search(name) and len(shape) >= _least_mask_dimensions)
            or (has_other_media and _other_media.search(name))
            or (layer and int(layer[1]) in drafts)  # layers for multi-token prediction, which is not used
        ):
            yield name


def _list(names: Iterable[str]) -> str:
    """Returns the first few names, and the number of all if there are more."""
    ordered = sorted(names)
    if len(ordered) <= _shown:
        return ", ".join(ordered)
    return f"{', '.join(ordered[:_shown])} and {len(ordered) - _shown} more"

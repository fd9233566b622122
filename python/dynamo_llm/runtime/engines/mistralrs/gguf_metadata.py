# SPDX-License-Identifier: Apache-2.0
"""Reads and checks the metadata of GGUF files."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime import gguf_file
from dynamo_llm.runtime.engines.mistralrs import config_sizes

_layer = re.compile(r"blk\.(\d+)\.")
#: Architectures that mistral.rs computes wrongly, with the reason. Found by comparing tiny models with
#: transformers.
_wrong = {"phimoe": "it weighs the experts in another way"}
_sentence_piece_ids = {"unk_token": 0, "bos_token": 1, "eos_token": 2}


def check_tensors(path: Path, files: Iterable[Path]) -> None:
    """Rejects models that mistral.rs computes wrongly: those with tensors that it ignores (layers after the
    last, a bias of the head), and the architectures in :data:`_wrong`.

    :param path: the first of the model's files, which has the metadata.
    :raises NotSupportedError: the model has such tensors, or such an architecture.
    :raises ModelNotFoundError: the metadata do not match the tensors.
    """
    headers = [gguf_file.read(file) for file in files]
    values = _merged(headers, path)
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    architecture = values.get("general.architecture")
    if architecture in _wrong:
        raise NotSupportedError(
            f'the file "{path}" has the architecture "{architecture}" ("general.architecture"), which '
            f"mistral.rs computes wrongly: {_wrong[architecture]}"
        )
    layers = values.get(f"{architecture}.block_count")
    ignored = []
    for name in tensors:
        match = _layer.match(name)
        is_surplus = match is not None and isinstance(layers, int) and int(match[1]) >= layers
        if is_surplus or name == "output.bias":
            ignored.append(name)
    if ignored:
        raise NotSupportedError(
            f'the file "{path}" has the tensor "{min(ignored)}", which mistral.rs ignores, so that the model '
            f"would answer wrongly; its metadata declare {layers} layers"
        )
    config_sizes.check_gguf(path, values, tensors)


def _merged(headers: list[gguf_file.Header], path: Path) -> dict[str, Any]:
    """Merges the metadata of all files. They must agree: mistral.rs uses values of the last file, this
    library those of the first.
    """
    first, *others = (header.metadata for header in headers)
    for other in others:
        for key in other.keys() & first.keys():
            if other[key] != first[key] and not key.startswith("split."):
                raise ModelNotFoundError(f'the files of the model "{path}" have different values of "{key}"')
    return {key: value for metadata in (*others, first) for key, value in metadata.items()}


def chat_templates(metadata: dict[str, Any]) -> dict[str, str]:
    """Returns the chat templates by name; the standard one is ``default``."""
    prefix = "tokenizer.chat_template"
    found = {"default": metadata.get(prefix)}
    found |= {
        key[len(prefix) + 1 :]: value for key, value in metadata.items() if key.startswith(prefix + ".")
    }
    return {name: text for name, text in found.items() if isinstance(text, str)}


def special_tokens(metadata: dict[str, Any]) -> dict[str, str]:
    """Returns the texts of the special tokens by name: ``bos_token``, ``eos_token``."""
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    if metadata.get("tokenizer.ggml.model") == "llama":  # SentencePiece's standard ids, which files may omit
        ids = {**ids, **{name: id for name, id in _sentence_piece_ids.items() if ids[name] is None}}
    return {name: tokens[id] for name, id in ids.items() if isinstance(id, int) and 0 <= id < len(tokens)}


#: Texts of tokens that end a turn, or an answer, in files that do not declare their ids.
_end_texts = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
}


def end_token_ids(metadata: dict[str, Any]) -> list[int]:
    """Returns the ids of the tokens that end an answer: EOS, EOT, EOM, and control tokens that are known to
    end a turn. llama.cpp finds them in the same way.
    """
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    named = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    found = [
        id
        for id, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind in (3, 4) and token in _end_texts
    ]
    ids = [id for id in named if type(id) is int and 0 <= id < len(tokens)]
    return list(dict.fromkeys([*ids, *found]))

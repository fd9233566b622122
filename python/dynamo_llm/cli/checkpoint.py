# SPDX-License-Identifier: Apache-2.0
"""Describes a model on disk by its headers and JSON files; no weights are loaded."""

import os
from dataclasses import dataclass
from pathlib import Path

from dynamo_llm.cli import hub_cache
from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import gguf_file, model_files, safetensors_file


class UnusableModelError(Exception):
    """A model cannot be used; the message is the reason."""


@dataclass
class Checkpoint:
    """A model on disk."""

    name: str
    path: Path
    format: str | None = None
    """``safetensors`` or ``GGUF``."""
    architecture: str | None = None
    context_length: int | None = None
    """In tokens."""
    bytes: int = 0
    """Size of the weights."""
    is_embedding: bool = False
    """Whether it is an embedding model, which answers no chats."""
    problem: str | None = None
    """Why it cannot be used; None if it can."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder has the layout of a Hugging Face model. ``config.json`` alone is not enough: other
    programs have one, too.
    """
    patterns = ("*.safetensors*", "pytorch_model*", "tokenizer*.json")
    return os.path.lexists(folder / "config.json") and any(
        path.match(pattern) for path in model_files.entries(folder) for pattern in patterns
    )


def inspect(path: Path) -> Checkpoint:
    """Describes a model's folder or GGUF file."""
    found = Checkpoint(_name(path), path)
    try:
        if path.is_dir():
            _inspect_folder(found)
        else:
            _inspect_gguf(found)
    except (UnusableModelError, ModelNotFoundError) as error:
        found.problem = str(error)
    except OSError as error:
        found.problem = f"{error.filename or path} cannot be read: {error.strerror}"
    return found


def is_later_part(name: str) -> bool:
    """Whether a file is a part of a GGUF model, but not the first."""
    match = gguf_file.PART.fullmatch(name)
    return match is not None and int(match[2]) != 1


def _name(path: Path) -> str:
    """The model's name: in a Hugging Face cache as ``--model`` takes it, elsewhere that of the file or
    folder.
    """
    if (name := hub_cache.name_of(path)) is not None:
        return name
    for part in path.parts:  # a snapshot without the name of a commit
        if part.startswith("models--"):
            name = "/".join(part.split("--")[1:])
            return f"{name}/{path.name}" if path.suffix == ".gguf" else name
    return path.name


def _inspect_folder(found: Checkpoint) -> None:
    folder = found.path
    if not model_files.exists(folder / "config.json"):
        raise UnusableModelError("it has no config.json and no .gguf file")
    found.is_embedding = model_files.exists(folder / "modules.json")  # of sentence-transformers
    config = model_files.read_json(folder / "config.json")
    text_config = config.get("text_config")  # the language model within a multimodal one
    for part in (config, text_config if isinstance(text_config, dict) else {}):
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
            if found.context_length is None and isinstance(part.get(key), int):
                found.context_length = part[key]
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        found.architecture = str(architectures[0])
    weights = model_files.named(folder, "*.safetensors")
    index = folder / "model.safetensors.index.json"
    if model_files.exists(index):
        model_files.parts_of_index(index)
    if not weights:
        pickled = any(path.match("pytorch_model*.bin") for path in model_files.entries(folder))
        raise UnusableModelError(
            "its weights are pickled (pytorch_model.bin), and a pickle can run any code; convert them to "
            "safetensors"
            if pickled
            else "it has no *.safetensors file"
        )
    found.format = "safetensors"
    for path in weights:
        found.bytes += path.stat().st_size
        safetensors_file.tensors(path)
    if found.architecture is None:
        raise UnusableModelError('config.json has no "architectures"')
    if not model_files.exists(folder / "tokenizer.json"):
        raise UnusableModelError(
            'it has no tokenizer.json; name one in the configuration: "options": {"tokenizer_json": "..."}'
        )


def _inspect_gguf(found: Checkpoint) -> None:
    found.format = "GGUF"
    metadata = gguf_file.read(found.path).metadata
    found.bytes = sum(part.stat().st_size for part in gguf_file.parts(found.path))
    name = metadata.get("general.architecture")
    found.architecture = name if isinstance(name, str) else None
    length = metadata.get(f"{name}.context_length")
    found.context_length = length if isinstance(length, int) else None
    if found.architecture is None:
        raise UnusableModelError('its header has no "general.architecture"')

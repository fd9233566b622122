# SPDX-License-Identifier: Apache-2.0
"""Prepares the folder that mistral.rs loads a model from.

mistral.rs opens every file whose name it knows, even unchecked ones: params.json instead of config.json, or
the target of a link or FIFO with such a name. So it gets a folder with only links to the weights and copies
of the JSON files that were checked.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import model_files, safetensors_file
from dynamo_llm.runtime.engines.mistralrs import temporary_files
from dynamo_llm.runtime.engines.mistralrs.model import Model

_index = "model.safetensors.index.json"
_lists = ("modules.json",)
#: Token ids at which mistral.rs ends an answer. It panics if they do not represent a token.
_id_keys = ("bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens")
#: Files that mistral.rs does not read.
_ignored = {"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "LICENSE"}


@contextmanager
def of(model: Model, is_token: Callable[[int], bool] | None = None) -> Iterator[Path]:
    """Provides the folder for a model while mistral.rs loads it: a temporary one, unless the model's own
    folder contains nothing but the files that mistral.rs may read.

    :param is_token: returns whether an id is that of a token; None if unknown.
    :raises ModelNotFoundError: one of the files is not a regular file, or is broken.
    """
    texts = {} if model.kind == "gguf" else _texts(model, is_token)
    modules = _folders_of_modules(model.path) if model.kind == "embedding" else []
    if model.kind != "gguf" and _is_ready(model.path, texts, [*model.files, *modules]):
        yield model.path
        return
    written = {name: json.dumps(_finite(value)) for name, value in texts.items()}
    with temporary_files.folder(written, [*model.files, *modules]) as path:
        yield path


def _texts(model: Model, is_token: Callable[[int], bool] | None) -> dict[str, Any]:
    """Returns the contents of the JSON files that mistral.rs reads in addition to the weights, by name."""
    size = model.language_config.get("vocab_size", 0) if model.config else 0
    is_id = is_token or (lambda id: id < size)
    texts: dict[str, Any] = {"config.json": _with_ids(model.config, is_id)}
    names = ["tokenizer_config.json", "generation_config.json"]
    if model.kind == "embedding":
        names += ["modules.json", "config_sentence_transformers.json", "tokenizer.json"]
    if len(model.files) > 1:
        names.append(_index)
    for name in names:
        path = model.path / name
        if model_files.exists(path):
            texts[name] = model_files.read_json(path, list if name in _lists else dict)
    if (tokens := model.image_tokens) is not None:
        texts["preprocessor_config.json"] = model.preprocessing
        texts["processor_config.json"] = {"image_seq_len": tokens.count}
    if "generation_config.json" in texts:
        texts["generation_config.json"] = _with_ids(texts["generation_config.json"], is_id)
    if "tokenizer.json" in texts:  # both are only for batches in training
        texts["tokenizer.json"] = {**texts["tokenizer.json"], "truncation": None, "padding": None}
    return texts


def _with_ids(config: dict[str, Any], is_id: Callable[[int], bool]) -> dict[str, Any]:
    """Returns a configuration without ids that are not those of a token: the model never generates them."""
    result = dict(config)
    for key in _id_keys:
        given = result.get(key)
        ids = given if isinstance(given, list) else [given]
        right = [id for id in ids if type(id) is int and 0 <= id < 2**32 and is_id(id)]
        if given is not None and right != ids:
            result[key] = (right if isinstance(given, list) else None) or None
    return result


def _finite(value: Any) -> Any:
    """Returns a value with null for infinity and NaN. Where these matter, other checks reject them."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_ready(folder: Path, texts: dict[str, Any], links: list[Path]) -> bool:
    """Whether a folder has the files unchanged, and no others that mistral.rs would read."""
    names = {*texts, *(path.name for path in links), "tokenizer.json", "README.md", *_ignored}
    if any(path.name not in names for path in model_files.entries(folder) if path.name[0] != "."):
        return False
    return all(
        model_files.read_json(folder / name, list if name in _lists else dict) == _finite(value)
        for name, value in texts.items()
    )


def _folders_of_modules(folder: Path) -> list[Path]:
    """Returns the existing folders that modules.json of an embedding model names."""
    found = []
    for entry in model_files.read_json(folder / "modules.json", list):
        name = entry.get("path") if isinstance(entry, dict) else None
        if name is None or name == "":
            continue
        if not isinstance(name, str) or name != Path(name).name or name == "..":
            raise ModelNotFoundError(
                f'the file "{folder / "modules.json"}" names {name!r}, which must be a folder next to it'
            )
        if (folder / name).is_dir():
            model_files.check_folder(folder / name)
            for file in model_files.named(folder / name, "*.safetensors"):
                safetensors_file.tensors(file)
            found.append(folder / name)
    return found

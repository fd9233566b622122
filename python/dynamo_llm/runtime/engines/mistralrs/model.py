# SPDX-License-Identifier: Apache-2.0
"""The files of a model: where they are, what they are for, and what is wrong with them.

mistral.rs says of some faults what its parser said, and panics about others. So what can be seen in the
files is checked before.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dynamo_llm.errors import InvalidConfigError, ModelNotFoundError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engines.mistralrs.options import Options

_weights = ("*.safetensors", "*.bin", "*.pth", "*.pt")


@dataclass(frozen=True)
class Model:
    """A model that can be loaded, as far as its files tell."""

    path: Path
    """Folder, or file in GGUF."""
    kind: Literal["folder", "gguf", "embedding"]
    """How mistral.rs loads it."""


def find(model: str | None, options: Options) -> Model:
    """The model that a configuration names.

    :raises ModelNotFoundError: there is none, or a file of it is missing or broken.
    :raises InvalidConfigError: ``options`` does not fit it.
    """
    path, is_gguf = _find(model)
    if is_gguf:
        if options.task == "embed":
            raise InvalidConfigError('"options.task": mistral.rs makes no embeddings with models in GGUF')
        return Model(path, "gguf")
    has_modules = (path / "modules.json").is_file()
    if options.task == "embed" and not has_modules:
        raise ModelNotFoundError(
            f'the folder "{path}" has no modules.json, which says how its embeddings are made'
        )
    _check_folder(path, options)
    if options.task == "generate" or not has_modules:
        return Model(path, "folder")
    _check_modules(path)
    if options.adapters:
        raise InvalidConfigError('"options.adapters": mistral.rs has no adapters for embedding models')
    return Model(path, "embedding")


def _find(model: str | None) -> tuple[Path, bool]:
    """The folder or file of a model, and whether it is GGUF."""
    path = demo_model_dir() if model is None else Path(model).expanduser()
    if not path.exists():
        raise ModelNotFoundError(
            f'the model "{path}" does not exist; "model" is a folder with config.json and '
            f"*.safetensors, or a .gguf file"
        )
    if path.is_dir():
        if (path / "config.json").is_file():
            return path, False
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return files[0], True
        raise ModelNotFoundError(
            f'the folder "{path}" is no model: it has no config.json'
            + (f" and {len(files)} .gguf files; name one of them" if files else " and no .gguf file")
        )
    if path.suffix != ".gguf":
        raise ModelNotFoundError(
            f'the file "{path}" is no model: "model" is a folder with config.json, or a .gguf file'
        )
    return path, True


def read_json(path: Path, kind: type = dict) -> Any:
    """A file's JSON.

    :raises ModelNotFoundError: it cannot be read, or is something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f'the file "{path}" of the model cannot be read: {error}') from error
    if not isinstance(value, kind):
        word = "an object" if kind is dict else "an array"
        raise ModelNotFoundError(f'the file "{path}" of the model must be {word} in JSON')
    return value


def _check_folder(path: Path, options: Options) -> None:
    architectures = read_json(path / "config.json").get("architectures")
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise ModelNotFoundError(
            f'"{path / "config.json"}" has no "architectures", such as ["LlamaForCausalLM"], by which '
            f"mistral.rs knows the model's kind"
        )
    tokenizer = Path(options.tokenizer_json or path / "tokenizer.json").expanduser()
    if not tokenizer.is_file():
        hint = "" if options.tokenizer_json else '; give one as "options.tokenizer_json"'
        raise ModelNotFoundError(f'the model has no tokenizer: "{tokenizer}" is no file{hint}')
    if not isinstance(read_json(tokenizer).get("model"), dict):
        raise ModelNotFoundError(f'the file "{tokenizer}" is no tokenizer: it has no "model"')
    if (path / "tokenizer_config.json").exists():
        read_json(path / "tokenizer_config.json")
    files = [file for pattern in _weights for file in sorted(path.glob(pattern))]
    if not files:
        raise ModelNotFoundError(f'the folder "{path}" has no weights: no *.safetensors')
    for file in files:
        if file.suffix == ".safetensors":
            check_safetensors(file)
    index = path / "model.safetensors.index.json"
    if index.exists():
        shards = read_json(index).get("weight_map", {})
        missing = sorted({name for name in shards.values() if not (path / name).is_file()})
        if missing:
            raise ModelNotFoundError(f'the folder "{path}" lacks {missing[0]}, which {index.name} names')


def check_safetensors(path: Path) -> None:
    """See whether a file of weights is whole.

    :raises ModelNotFoundError: it is not.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise ValueError("its header does not fit into it")
            header = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelNotFoundError(f'the file "{path}" is no safetensors file: {error}') from error
    if 8 + length + max(ends, default=0) != size:
        raise ModelNotFoundError(
            f'the file "{path}" is not whole: it has {size} bytes, and its header speaks of '
            f"{8 + length + max(ends, default=0)}"
        )


def _modules(path: Path) -> list[str]:
    """The kinds of the modules that make an embedding, in their order."""
    modules = read_json(path / "modules.json", list)
    return [str(entry.get("type", "")) if isinstance(entry, dict) else "" for entry in modules]


def _check_modules(path: Path) -> None:
    kinds = _modules(path)
    if not kinds or not kinds[0].endswith(".Transformer"):
        raise ModelNotFoundError(
            f'the modules in "{path / "modules.json"}" must begin with sentence-transformers\' Transformer'
        )


def normalises(path: Path) -> bool:
    """Whether an embedding model's vectors have the length 1."""
    return any(kind.endswith(".Normalize") for kind in _modules(path))

# SPDX-License-Identifier: Apache-2.0
"""Finds and checks the files of a model.

mistral.rs reports some faults in its parser's terms, panics on others, and ignores some. So faults that can
be detected in the files are reported in advance.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dynamo_llm.errors import InvalidConfigError, ModelNotFoundError, NotSupportedError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime import gguf_file, model_files, safetensors_file
from dynamo_llm.runtime.engines.mistralrs import (
    architectures,
    config_sizes,
    gguf_metadata,
    multimodal,
    normalized_config,
    weights,
)
from dynamo_llm.runtime.engines.mistralrs.options import Options
from dynamo_llm.runtime.hub.hub_name import PREFIX

if TYPE_CHECKING:
    from dynamo_llm.runtime.pipeline.model_folder import ModelFolder

_expected = "a folder with config.json and *.safetensors, or a .gguf file"
_hub_name = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Model:
    """A model that, according to its files, can be loaded."""

    path: Path
    """The folder, or the GGUF file; for several files, the first."""
    kind: Literal["folder", "gguf", "embedding", "images"]
    """How mistral.rs loads the model."""
    files: tuple[Path, ...] = ()
    """The weight files."""
    config: dict[str, Any] = field(default_factory=dict)
    """Only for a folder: config.json, normalized."""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    """Only for a model that reads images: preprocessor_config.json, normalized."""

    @property
    def language_config(self) -> dict[str, Any]:
        """The part of config.json that describes the language model."""
        config: dict[str, Any] = self.config["text_config"] if self.kind == "images" else self.config
        return config

    @property
    def image_tokens(self) -> "multimodal.ImageTokens | None":
        """The tokens for an image; None if the model reads none."""
        return multimodal.tokens_of(self.config) if self.kind == "images" else None

    def tokenizer_folder(self, options: Options) -> "ModelFolder":
        """Returns the tokenizer's folder: the model's own, or if that has none, the one in the options."""
        from dynamo_llm.runtime.pipeline.model_folder import ModelFolder  # needs tokenizers

        has_tokenizer = model_files.exists(self.path / "tokenizer.json")
        return ModelFolder(self.path if has_tokenizer else options.tokenizer_json or self.path)


def find(model: str | None, options: Options) -> Model:
    """Returns the model that a configuration names.

    :raises ModelNotFoundError: the model does not exist, or one of its files is missing or broken.
    :raises NotSupportedError: mistral.rs cannot compute it, or would ignore part of it.
    :raises InvalidConfigError: ``options`` do not match it.
    """
    path, is_gguf = _find(model)
    if is_gguf:
        if options.task == "embed":
            raise InvalidConfigError(
                '"options.task": mistral.rs does not make embeddings with models in GGUF'
            )
        files = gguf_file.parts(path)
        gguf_metadata.check_tensors(path, files)
        return Model(path, "gguf", files)
    has_modules = model_files.exists(path / "modules.json")
    if options.task == "embed" and not has_modules:
        raise ModelNotFoundError(
            f'the folder "{path}" has no modules.json, which tells how its embeddings are made'
        )
    is_embedding = options.task != "generate" and has_modules
    if is_embedding:
        _check_modules(path)
        if options.adapters:
            raise InvalidConfigError('"options.adapters": mistral.rs has no adapters for embedding models')
    given = model_files.read_json(path / "config.json")
    names = given.get("architectures")
    if not is_embedding and isinstance(names, list) and len(names) == 1 and names[0] in architectures.images:
        return _read_multimodal(path, options, given)
    config, files = _read_folder(path, options, is_embedding)
    return Model(path, "embedding" if is_embedding else "folder", files, config)


def _read_multimodal(path: Path, options: Options, given: dict[str, Any]) -> Model:
    """Returns a model that reads images."""
    if options.adapters:
        raise InvalidConfigError('"options.adapters": mistral.rs has no adapters for models that read images')
    if options.prefix_cache_n:
        raise InvalidConfigError(
            '"options.prefix_cache_n": mistral.rs 0.9.5 fails for several images if it keeps the KV cache of '
            "prompts; leave it out, or set it to 0"
        )
    _check_tokenizer(path, options)
    files = weights.files(path)
    config = multimodal.normalized(given)
    multimodal.check(path, config, safetensors_file.all_tensors(files))
    return Model(path, "images", tuple(files), config, multimodal.preprocessing(path, config))


def _find(model: str | None) -> tuple[Path, bool]:
    """Returns the folder or file of a model, and whether it is GGUF."""
    path = demo_model_dir() if model is None else Path(model).expanduser()
    if not path.is_dir() and not model_files.exists(path):
        is_hub_name = _hub_name.fullmatch(str(model))
        hint = f'; for the model of the Hugging Face Hub, write "{PREFIX}{model}"'
        raise ModelNotFoundError(
            f'the model "{path}" does not exist; "model" must be {_expected}' + (hint if is_hub_name else "")
        )
    if path.is_dir():
        return _in_folder(path)
    if path.suffix != ".gguf":
        raise ModelNotFoundError(f'the file "{path}" is not a model: "model" must be {_expected}')
    return path, True


def _in_folder(path: Path) -> tuple[Path, bool]:
    if model_files.exists(path / "config.json"):
        return path, False
    if model_files.exists(path / "adapter_config.json"):
        raise ModelNotFoundError(
            f'the folder "{path}" has a LoRA adapter, not a model; give the folder of its base model as '
            f'"model", and this one in "options": {{"adapters": {{"NAME": "{path}"}}}}'
        )
    files = model_files.named(path, "*.gguf")
    matches = [gguf_file.PART.fullmatch(file.name) for file in files]
    models = [file for file, match in zip(files, matches, strict=True) if not match or int(match[2]) == 1]
    if len(models) == 1:
        return models[0], True
    if models:
        names = ", ".join(file.name for file in models)
        raise ModelNotFoundError(
            f'the folder "{path}" has {len(models)} .gguf files that are models; name one of them: {names}'
        )
    raise ModelNotFoundError(
        f'the folder "{path}" is not a model: it has no config.json and no .gguf file'
        + (f" that is the first part of one (it has {files[0].name})" if files else "")
    )


def _read_folder(path: Path, options: Options, is_embedding: bool) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Returns config.json, normalized, and the weight files."""
    given = model_files.read_json(path / "config.json")
    names = given.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelNotFoundError(
            f'"{path / "config.json"}" has no "architectures", such as ["LlamaForCausalLM"], which '
            f"mistral.rs needs"
        )
    _check_tokenizer(path, options)
    _check_adapter(path, options)
    files = weights.files(path)
    tensors = safetensors_file.all_tensors(files)
    if is_embedding:
        normal = normalized_config.normalized_embedding(given)
        architecture = architectures.embedding[normal["architectures"][0]]
        # Weights of a transformer without a head have no prefix.
        tensors = {
            name if name.startswith(("model.", "lm_head.")) else f"model.{name}": tensor
            for name, tensor in tensors.items()
        }
        tensors.pop("lm_head.weight", None)
    else:
        normal = normalized_config.normalized(given)
        architecture = normalized_config.architecture_of(given)
        if normal["tie_word_embeddings"] and weights.has_own_head(tensors):
            normal["tie_word_embeddings"] = False
    config_sizes.check(normal, tensors, architecture)
    weights.check(path, tensors, architecture, normal)
    return normal, tuple(files)


def _check_tokenizer(path: Path, options: Options) -> None:
    tokenizer = Path(options.tokenizer_json or path / "tokenizer.json").expanduser()
    if not model_files.exists(tokenizer):
        hint = "" if options.tokenizer_json else '; give one as "options.tokenizer_json"'
        raise ModelNotFoundError(f'the model has no tokenizer: "{tokenizer}" is not a file{hint}')
    description = model_files.read_json(tokenizer)
    if not isinstance(description.get("model"), dict):
        raise ModelNotFoundError(f'the file "{tokenizer}" is not a tokenizer: it has no "model"')
    added = description.get("added_tokens")
    check_added(len(added) if isinstance(added, list) else 0)
    if model_files.exists(path / "tokenizer_config.json"):
        model_files.read_json(path / "tokenizer_config.json")


#: Maximum number of added tokens. The time to load them in mistral.rs is quadratic in their number.
_most_added = 32_768


def check_added(count: int) -> None:
    """Rejects a tokenizer with a number of added tokens that mistral.rs would take very long to load.

    :raises NotSupportedError: there are too many.
    """
    if count > _most_added:
        raise NotSupportedError(
            f"the model's tokenizer has {count} added tokens; mistral.rs takes minutes to load more than "
            f"{_most_added}"
        )


def _check_adapter(path: Path, options: Options) -> None:
    """Rejects a LoRA adapter in the model's folder that no option names: transformers would apply it."""
    if not model_files.exists(path / "adapter_config.json"):
        return
    named = {Path(str(folder)).expanduser().absolute() for folder in options.adapters.values()}
    if path.absolute() not in named:
        raise NotSupportedError(
            f'the folder "{path}" has a LoRA adapter next to the model (adapter_config.json), which is not '
            f'applied automatically; name it with "options": {{"adapters": {{"NAME": "{path}"}}}} and give '
            f'the name as "model" of requests; or move the adapter\'s files elsewhere'
        )


def _modules(path: Path) -> list[str]:
    """Returns the kinds of an embedding model's modules, in order."""
    modules = model_files.read_json(path / "modules.json", list)
    return [str(entry.get("type", "")) if isinstance(entry, dict) else "" for entry in modules]


def _check_modules(path: Path) -> None:
    kinds = _modules(path)
    if not kinds or not kinds[0].endswith(".Transformer"):
        raise ModelNotFoundError(
            f'the modules in "{path / "modules.json"}" must begin with sentence-transformers\' Transformer'
        )


def normalises(path: Path) -> bool:
    """Whether an embedding model's vectors have length 1."""
    return any(kind.endswith(".Normalize") for kind in _modules(path))

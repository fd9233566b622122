# SPDX-License-Identifier: Apache-2.0
"""Chooses the files of a repository that an engine needs.

Names of files come from a server and are untrusted. Only names that match the patterns below are chosen, and
none of them leaves the folder of the repository.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from dynamo_llm.runtime.gguf_file import PART

#: What transformers, mistral.rs, and vLLM read beside the weights.
_small = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|chat_template|preprocessor_config|processor_config|video_preprocessor_config|hf_quant_config"
    r"|quantize_config|modules|config_sentence_transformers|sentence_bert_config)\.json"
    r"|vocab\.txt|merges\.txt|tokenizer\.model|spiece\.model|sentencepiece\.bpe\.model|[\w.-]+\.tiktoken"
    r"|chat_template\.jinja|additional_chat_templates/[\w-][\w.-]*\.jinja",
    re.ASCII,
)
_tokenizer = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template)\.json"
    r"|chat_template\.jinja|additional_chat_templates/[\w-][\w.-]*\.jinja",
    re.ASCII,
)
#: Modules of sentence-transformers, in folders such as 1_Pooling.
_module = re.compile(r"\d{1,2}_[A-Za-z0-9]+/(config\.json|model\.safetensors)", re.ASCII)
_code = re.compile(r"\w[\w.-]*\.py", re.ASCII)
_whole, _index = "model.safetensors", "model.safetensors.index.json"
_shard = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors", re.ASCII)
_weights = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
_gguf = re.compile(r"(?:[\w+-][\w.+-]*/){0,4}[\w+-][\w.+-]*\.gguf", re.ASCII)
#: GGUF files that are not models: projectors of vision models, and statistics for quantizing.
_not_models = re.compile(r"mmproj|imatrix", re.I)
_label = re.compile(
    r"(?:^|[-._/])((?:UD-|i1-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32))(?=[-._/]|$)",
    re.I,
)
_most_parts = 4096
_most_listed = 40


class SelectionError(Exception):
    """A repository lacks what was asked for. The message follows "the repository ..."."""


@dataclass(frozen=True)
class Selection:
    """The chosen files, the small ones first."""

    files: tuple[str, ...]
    file: str | None = None
    """The file that is the model, the first one for several parts; None if the folder is the model."""


def select(
    names: Collection[str],
    formats: Sequence[str],
    quantization: str | None,
    read_index: Callable[[str], Any],
) -> Selection:
    """Chooses the files of a model.

    :param names: all files of the repository, with ``/`` between folders.
    :param formats: what the engine loads: ``safetensors``, ``gguf``, ``tokenizer`` (no weights), and ``code``
        if it may run Python files of the repository.
    :param quantization: part of the name of a GGUF file.
    :param read_index: returns the JSON value in a file that lists the weights.
    :raises SelectionError: the repository has no such model.
    """
    if quantization is not None:
        if "gguf" not in formats:
            raise SelectionError(
                f'was asked for its quantization "{quantization}", which is a GGUF file, but the engine does '
                f'not load GGUF; leave out ":{quantization}", or use the engine "mistralrs"'
            )
        return _quantized(names, quantization)
    if "tokenizer" in formats:
        files = sorted(filter(_tokenizer.fullmatch, names))
        if "tokenizer.json" not in files:
            raise SelectionError("has no tokenizer.json" + _contents(names))
        return Selection(tuple(files))
    if "safetensors" in formats and "config.json" in names:
        weights = _weights_of(names, read_index)
        if weights:
            has_code = "code" in formats
            small = {name for name in names if _small.fullmatch(name) or (has_code and _code.fullmatch(name))}
            if _index in names and _whole not in names:
                small.add(_index)
            if "modules.json" in names:
                small |= {name for name in names if _module.fullmatch(name)}
            return Selection((*sorted(small), *(name for name in weights if name not in small)))
    if "gguf" in formats and any(map(_gguf.fullmatch, names)):
        return _quantized(names, None)
    if "adapter_config.json" in names:
        raise SelectionError(
            "has a LoRA adapter, not a model; give its base model, and the adapter's folder as an option of "
            "the engine"
        )
    wanted = " and no .gguf file" if "gguf" in formats else ""
    raise SelectionError(f"has no config.json with *.safetensors{wanted}" + _contents(names))


def _weights_of(names: Collection[str], read_index: Callable[[str], Any]) -> list[str]:
    """The weight files at the top of a repository, in transformers' order of preference; empty if none."""
    if _whole in names:
        return [_whole]
    if _index in names:
        index = read_index(_index)
        places = index.get("weight_map") if isinstance(index, dict) else None
        files = set(places.values()) if isinstance(places, dict) and _are_texts(places) else set()
        if not files or len(files) > _most_parts or not all(map(_weights.fullmatch, files)):
            raise SelectionError(
                f'has a {_index} that is not an index: its "weight_map" must name *.safetensors files beside '
                f"it"
            )
        if missing := sorted(files - set(names)):
            raise SelectionError(f"lacks {missing[0]}, which its {_index} names")
        return sorted(files)
    shards = {name: match for name in names if (match := _shard.fullmatch(name))}
    counts = {int(match[2]) for match in shards.values()}
    if len(counts) > 1 or (counts and len(shards) != counts.pop()):
        raise SelectionError(f"has only some parts of its weights: {_listed(sorted(shards))}")
    return sorted(shards)


def _are_texts(places: dict[str, Any]) -> bool:
    return all(isinstance(name, str) for name in places.values())


def _contents(names: Collection[str]) -> str:
    """What a repository has instead, and what to do about it."""
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        return (
            "; its weights are pickled (*.bin, *.pt), and a pickle can run any code: choose a repository "
            "with safetensors"
        )
    if any(name.endswith(".gguf") for name in names):
        return "; it has GGUF files, which this engine does not load"
    if any(name.endswith(".onnx") for name in names):
        return "; it has ONNX files, which no engine here loads"
    return f"; it has {_listed(sorted(names)[:12])}" if names else "; it is empty"


# -------------------------------------------------------------------------------------------- GGUF


def _quantized(names: Collection[str], wanted: str | None) -> Selection:
    """Chooses a GGUF model, with all its parts."""
    files = sorted(filter(_gguf.fullmatch, names))
    models = [name for name in files if not (match := PART.fullmatch(name)) or int(match[2]) == 1]
    if not models and wanted is not None and "config.json" in names:
        raise SelectionError(f'has no .gguf file, and so no quantization "{wanted}"; leave out ":{wanted}"')
    if not models:
        raise SelectionError("has no .gguf file" + _contents([name for name in names if name not in files]))
    chosen = _matching(models, wanted)
    if len(chosen) != 1:
        if wanted is None:
            raise SelectionError(
                f"has {len(chosen)} GGUF models; name one of them, as in "
                f'":{_labels(chosen or models)[0]}": {_listed(_labels(chosen or models))}'
            )
        if chosen:
            raise SelectionError(
                f'has {len(chosen)} files that match the quantization "{wanted}"; name one of them: '
                f"{_listed(chosen)}"
            )
        usable = _usable(models)
        raise SelectionError(f'has no quantization "{wanted}"; it has: {_listed(_labels(usable or models))}')
    return Selection(tuple(_parts(chosen[0], set(files))), chosen[0])


def _usable(models: list[str]) -> list[str]:
    return [name for name in models if not _not_models.search(name.rpartition("/")[2])]


def _matching(models: list[str], wanted: str | None) -> list[str]:
    """The models that a quantization names: one with that file name, else those with it as a word of the
    name, else those that contain it.
    """
    if wanted is None:
        return _usable(models)
    exact = [name for name in models if wanted in _names(name)]
    if exact:
        return exact
    word = re.compile(rf"(?<![a-z0-9]){re.escape(wanted.lower())}(?![a-z0-9_])")
    tests: list[Callable[[str], Any]] = [word.search, lambda text: wanted.lower() in text]
    for test in tests:
        for text_of in (_stem, lambda name: name.removesuffix(".gguf")):
            if found := [name for name in _usable(models) if test(text_of(name).lower())]:
                return found
    return []


def _stem(name: str) -> str:
    """A file's name without folder, extension, and the number of the part."""
    match = PART.fullmatch(name)
    return (match[1] if match else name.removesuffix(".gguf")).rpartition("/")[2]


def _names(name: str) -> set[str]:
    """The texts that name exactly this model."""
    folder, slash, file = name.rpartition("/")
    stem = _stem(name)
    texts = {file, file.removesuffix(".gguf"), stem}
    return texts | {f"{folder}{slash}{text}" for text in texts}


def _labels(models: Sequence[str]) -> list[str]:
    """What to write after ":" for each model: its quantization if that is unique, otherwise its file."""
    found = [(matches[-1] if (matches := _label.findall(_stem(name))) else _stem(name)) for name in models]
    return [label if found.count(label) == 1 else name for label, name in zip(found, models, strict=True)]


def _parts(first: str, files: Collection[str]) -> list[str]:
    match = PART.fullmatch(first)
    if match is None:
        return [first]
    count = int(match[3])
    if count > _most_parts:
        raise SelectionError(f"has a model in {count} files; at most {_most_parts} are allowed")
    parts = [f"{match[1]}-{number:05d}-of-{match[3]}.gguf" for number in range(1, count + 1)]
    if missing := [name for name in parts if name not in files]:
        raise SelectionError(f"lacks {len(missing)} of the {count} parts of a model: {_listed(missing)}")
    return parts


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _most_listed} more" if len(names) > _most_listed else ""
    return ", ".join(names[:_most_listed]) + more

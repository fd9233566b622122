# SPDX-License-Identifier: Apache-2.0
"""Reads how an embedding model makes a vector of a text: the files of sentence-transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.runtime import model_files

#: Ways to make one vector of those of all tokens, by their names in files of sentence-transformers.
_poolings = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
#: The same in older files, where each has a key of its own.
_modes = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
#: Kinds of modules, in their order; the last one is optional.
_kinds = ["Transformer", "Pooling", "Normalize"]


def is_embedding_model(path: Path) -> bool:
    """Whether a folder has a model for embeddings."""
    return model_files.exists(path / "modules.json")


@dataclass(frozen=True)
class SentenceModules:
    """The steps from the vectors of tokens to the vector of a text."""

    pooling: str
    """``cls`` (the first token's), ``mean``, ``max``, or ``last`` (the last token's)."""
    normalizes: bool
    """Whether vectors have length 1."""
    max_tokens: int | None
    """Longest text in tokens; None if the files do not limit it."""

    @classmethod
    def of(cls, path: Path) -> "SentenceModules":
        """Reads the files of a folder.

        :raises ModelNotFoundError: a file is missing or not valid.
        :raises NotSupportedError: the model has other modules, or other ways to pool.
        """
        file = path / "modules.json"
        modules = [one for one in model_files.read_json(file, list) if isinstance(one, dict)]
        kinds = [str(one.get("type", "")).rpartition(".")[2] for one in modules]
        if kinds not in (_kinds[:2], _kinds):
            raise NotSupportedError(
                f'the modules in "{file}" are {", ".join(kinds) or "missing"}; the engine "transformers" '
                f"supports Transformer, Pooling, and Normalize, in this order"
            )
        if modules[0].get("path"):
            raise NotSupportedError(
                f'"{file}" has the Transformer in a folder of its own; it must be in "{path}"'
            )
        folder = path / str(modules[1].get("path", ""))
        pooling = _pooling(folder / "config.json")
        file = path / "sentence_bert_config.json"
        settings: dict[str, Any] = model_files.read_json(file) if model_files.exists(file) else {}
        if settings.get("do_lower_case"):
            raise NotSupportedError(
                f'"{file}" has "do_lower_case", which the engine "transformers" does not support'
            )
        limit = settings.get("max_seq_length")
        return cls(pooling, kinds == _kinds, limit if isinstance(limit, int) and limit > 0 else None)


def _pooling(file: Path) -> str:
    if not model_files.exists(file):
        raise ModelNotFoundError(f'the embedding model lacks "{file}"')
    config = model_files.read_json(file)
    named = config.get("pooling_mode")
    found = {str(named)} if named is not None else set()
    found |= {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    known = {**_poolings, **_modes}
    if len(found) != 1 or not found <= known.keys():
        raise NotSupportedError(
            f'"{file}" pools by {", ".join(sorted(found)) or "nothing"}; the engine "transformers" supports '
            f"one of {', '.join(_poolings)}"
        )
    return known[found.pop()]

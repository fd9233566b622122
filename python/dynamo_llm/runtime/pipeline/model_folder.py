# SPDX-License-Identifier: Apache-2.0
"""Reads the tokenizer, the chat templates, and the token settings in a model's folder."""

from functools import cached_property
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.pipeline.special_tokens import SpecialTokens

#: Tokenizers without a limit declare a huge ``model_max_length``; values from this one on are ignored.
_most_tokens = 10**9
#: Maximum number of tokens that end an answer; every request checks all of them.
_most_ends = 1024


class ModelFolder:
    """A model's folder in Hugging Face's layout.

    :param path: the folder, or its ``tokenizer.json``.
    :raises ModelNotFoundError: it has no ``tokenizer.json``. Properties also raise it if a file is not a JSON
        object.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path).expanduser()
        self.tokenizer_file = (
            given if given.suffix == ".json" and not given.is_dir() else given / "tokenizer.json"
        )
        self.path = self.tokenizer_file.parent
        """The folder itself."""
        if not model_files.exists(self.tokenizer_file):
            raise ModelNotFoundError(
                f'"{given}" has no tokenizer.json, which a token-level engine needs; "path" or "tokenizer" '
                f"of the engine's description must be a folder with one"
            )

    def _read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        value: dict[str, Any] = model_files.read_json(file) if model_files.exists(file) else {}
        return value

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """The content of ``tokenizer_config.json``."""
        return self._read("tokenizer_config.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``; for a multimodal model, with the keys of its text model on top."""
        config = self._read("config.json")
        text = config.get("text_config")
        return {**config, **text} if isinstance(text, dict) else config

    @cached_property
    def declared_tokens(self) -> SpecialTokens:
        """The special and added tokens that the files next to ``tokenizer.json`` declare."""
        files = self.tokenizer_config, self._read("special_tokens_map.json"), self._read("added_tokens.json")
        try:
            return SpecialTokens(*files)
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelNotFoundError(
                f'the special tokens in the folder "{self.path}" do not have the form that transformers '
                f"writes: {error}"
            ) from error

    @property
    def special_tokens(self) -> dict[str, Any]:
        """Texts of the special tokens by name: ``bos_token``, ``image_token``, and so on."""
        return self.declared_tokens.by_name

    @cached_property
    def chat_templates(self) -> dict[str, str]:
        """Sources of the chat templates by name; the standard one is ``default``."""
        templates: dict[str, str] = {}
        given = self.tokenizer_config.get("chat_template") or self._read("chat_template.json").get(
            "chat_template"
        )
        if isinstance(given, list) and all(isinstance(entry, dict) for entry in given):
            given = {entry.get("name"): entry.get("template") for entry in given}
        given = given if isinstance(given, dict) else {"default": given or ""}
        if not all(isinstance(text, str) for entry in given.items() for text in entry):
            raise ModelNotFoundError(
                f'"chat_template" in the folder "{self.path}" must be a text, or a list of objects with the '
                f'texts "name" and "template"'
            )
        templates.update({name: text for name, text in given.items() if text})
        # A template file takes precedence over the key "chat_template": it is the newer format.
        for file in model_files.named(self.path / "additional_chat_templates", "*.jinja"):
            templates[file.stem] = model_files.read_text(file)
        file = self.path / "chat_template.jinja"
        if model_files.exists(file):
            templates["default"] = model_files.read_text(file)
        return templates

    @cached_property
    def eos_token_ids(self) -> list[int]:
        """Ids of tokens that end an answer, from ``generation_config.json`` and ``config.json``. The
        tokenizer may have more: see :attr:`Tokenizer.eos_token_ids`.
        """
        found: list[int] = []
        for source in (self._read("generation_config.json"), self.config):
            for key in ("eos_token_id", "eot_token_id"):
                ids = source.get(key)
                found += [
                    id for id in (ids if isinstance(ids, list) else [ids]) if type(id) is int and id >= 0
                ]
        ids = list(dict.fromkeys(found))
        if len(ids) > _most_ends:
            raise ModelNotFoundError(
                f'the files in "{self.path}" declare {len(ids)} tokens that end an answer; at most '
                f"{_most_ends} are allowed"
            )
        return ids

    @cached_property
    def context_length(self) -> int | None:
        """Maximum number of tokens of prompt and answer together; None if the files do not declare it."""
        keys = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
        for length in (*map(self.config.get, keys), self.tokenizer_config.get("model_max_length")):
            if isinstance(length, int | float) and 0 < length < _most_tokens:
                return int(length)
        return None

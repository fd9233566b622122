# SPDX-License-Identifier: Apache-2.0
"""The files of a model that say how to talk to it."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError

_special_names = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
#: ``model_max_length`` of tokenizers that know none is a huge number.
_most_tokens = 10**9


def _content(token: Any) -> Any:
    """A special token is a string, or an object that has it as ``content``."""
    return token.get("content") if isinstance(token, dict) else token


class Folder:
    """A model's folder in Hugging Face's layout.

    :param path: the folder, or its ``tokenizer.json``.
    :raises ModelNotFoundError: it has no ``tokenizer.json``; or, later, a file of it is no JSON object.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path).expanduser()
        self.tokenizer_file = (
            given if given.is_file() and given.suffix == ".json" else given / "tokenizer.json"
        )
        self.path = self.tokenizer_file.parent
        """The folder itself."""
        if not self.tokenizer_file.is_file():
            raise ModelNotFoundError(
                f'"{given}" has no tokenizer.json, which an engine of token ids needs; "path" or "tokenizer" '
                f"of its description must be a folder with one"
            )

    def _read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelNotFoundError(f'"{file}" is no JSON: {error}') from error
        if not isinstance(value, dict):
            raise ModelNotFoundError(f'"{file}" must be a JSON object')
        return value

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """``tokenizer_config.json``."""
        return self._read("tokenizer_config.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``; of a model that also sees or hears, the part for text."""
        config = self._read("config.json")
        text = config.get("text_config")
        return {**config, **text} if isinstance(text, dict) else config

    @cached_property
    def special_tokens(self) -> dict[str, Any]:
        """Special tokens by name: ``bos_token``, ``eos_token``, ..., as texts."""
        tokens: dict[str, Any] = {}
        for source in (self._read("special_tokens_map.json"), self.tokenizer_config):
            extra = source.get("extra_special_tokens")
            named = extra if isinstance(extra, dict) else {}
            for name, token in {**{key: source.get(key) for key in _special_names}, **named}.items():
                if isinstance(_content(token), str):
                    tokens[name] = _content(token)
            additional = source.get("additional_special_tokens")
            if isinstance(additional, list):
                tokens["additional_special_tokens"] = [_content(token) for token in additional]
        return tokens

    @cached_property
    def chat_templates(self) -> dict[str, str]:
        """Sources of the chat templates by name; the usual one is ``default``."""
        templates: dict[str, str] = {}
        given = self.tokenizer_config.get("chat_template") or self._read("chat_template.json").get(
            "chat_template"
        )
        if isinstance(given, str):
            templates["default"] = given
        elif isinstance(given, list):
            templates.update({entry["name"]: entry["template"] for entry in given})
        elif isinstance(given, dict):
            templates.update(given)
        # Files are newer than the key.
        for file in sorted((self.path / "additional_chat_templates").glob("*.jinja")):
            templates[file.stem] = file.read_text(encoding="utf-8")
        file = self.path / "chat_template.jinja"
        if file.is_file():
            templates["default"] = file.read_text(encoding="utf-8")
        return templates

    @cached_property
    def eos_token_ids(self) -> list[int]:
        """Ids of tokens that end an answer, by ``generation_config.json`` and ``config.json``."""
        found: list[int] = []
        for source in (self._read("generation_config.json"), self.config):
            ids = source.get("eos_token_id")
            found += ids if isinstance(ids, list) else [] if ids is None else [ids]
        return list(dict.fromkeys(found))

    @cached_property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer together, at most; None if the files do not say."""
        for source, keys in (
            (self.config, ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")),
            (self.tokenizer_config, ("model_max_length",)),
        ):
            for key in keys:
                length = source.get(key)
                if isinstance(length, int | float) and 0 < length < _most_tokens:
                    return int(length)
        return None

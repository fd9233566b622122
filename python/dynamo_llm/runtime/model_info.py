# SPDX-License-Identifier: Apache-2.0
"""What an engine reports about its model."""

from typing import Any, TypedDict


class ModelInfo(TypedDict, total=False):
    """An engine's description of the model that it has loaded. All keys are optional."""

    path: str
    """Folder or file of the model."""
    context_length: int
    """Maximum number of tokens of prompt and answer together."""
    longest_token: int
    """Maximum number of bytes of text that one token stands for. With it and ``context_length``, the library
    refuses texts that cannot fit at once; for token-level engines the pipeline checks that."""
    capabilities: list[str]
    """What requests may use: ``chat``, ``completion``, ``embedding``, ``logprobs``, ``seed``, ``tools``,
    ``json_schema``, ``regex``, ``grammar``, ``lora``, ``priority``, ..."""
    models: list[str] | list[dict[str, Any]]
    """For an engine with several models: the names that a request may give as ``model``; or a dictionary per
    model, with ``id`` and the keys of this class, which :meth:`~dynamo_llm.Runtime.models` lists."""
    changes: bool
    """Whether ``models`` is a dynamic model list: see :attr:`EngineConfig.changed`."""
    adapters: list[str]
    """Names of LoRA adapters, which a request may give as ``model``."""
    tokenizer: str
    """Folder with ``tokenizer.json`` and ``tokenizer_config.json``; token-level engines need it if it is not
    ``path``."""
    eos_token_ids: list[int]
    """Tokens that end an answer, in addition to those in the tokenizer's files."""
    request_keys: list[str]
    """Keys of request bodies that the engine takes in addition to those that every engine takes: keys of its
    own, which other engines refuse, and, for a token-level engine, keys that the pipeline passes on:
    ``extra``, ``allowed_token_ids``, ``bad_words``, ``length_penalty``, ..."""

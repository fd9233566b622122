# SPDX-License-Identifier: Apache-2.0
"""The configuration of a worker."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster.endpoint_path import full_path
from dynamo_llm.runtime.cluster.settings import Settings

#: Names of ``model.types``, and Dynamo's.
types = {"chat": "Chat", "completions": "Completions", "embeddings": "Embedding"}
_counts = (
    "context_length",
    "kv_block_size",
    "total_kv_blocks",
    "max_num_seqs",
    "max_num_batched_tokens",
    "data_parallel_size",
)


@dataclass(frozen=True)
class ModelConfig:
    """The keys of ``model``: what the cluster is told of it."""

    name: str | None = None
    """What requests give as their ``model``; default: the runtime's name for it."""
    path: str | None = None
    """Folder with its tokenizer and ``config.json``, which frontends read; default: what the engine says."""
    input: Literal["auto", "tokens", "text"] = "auto"
    """What the worker gets: token ids, or OpenAI's bodies; ``auto`` is what the engine takes. With ``text``
    an engine of token ids gets its template and tokenizer here, and not at the frontend."""
    types: list[str] = field(default_factory=lambda: ["chat", "completions"])
    """Kinds of requests: ``chat``, ``completions``, ``embeddings``."""
    context_length: int | None = None
    """Tokens of prompt and answer together; default: what the engine or the model's files say."""
    kv_block_size: int | None = None
    """Tokens in a block of the KV cache, as in the KV events."""
    total_kv_blocks: int | None = None
    """Blocks of the KV cache, of each rank."""
    max_num_seqs: int | None = None
    """Sequences in a step."""
    max_num_batched_tokens: int | None = None
    """Tokens in a step."""
    data_parallel_size: int | None = None
    """Ranks of the engine."""
    data_parallel_start_rank: int | None = None
    """The first of them."""
    user_data: dict[str, Any] = field(default_factory=dict)
    """Anything more that the model's card is to say."""
    role: Literal["aggregated", "prefill", "decode"] = "aggregated"
    """What part of a request the worker does."""
    tool_call_parser: str | None = None
    """Dynamo's parser with which a frontend finds calls of tools in the answer."""
    reasoning_parser: str | None = None
    """The same for the reasoning."""
    self_host_metadata: bool = False
    """Frontends fetch the model's files from the worker; needs DYN_SYSTEM_PORT in its environment."""
    chat_template: str | None = None
    """File with a chat template, in place of the model's own."""
    aliases: list[str] = field(default_factory=list)
    """More names of the model."""


@dataclass(frozen=True)
class HealthConfig:
    """The keys of ``health``."""

    stall_ms: int = 60000
    """Milliseconds for which the engine may be silent while requests wait for it; 0: for ever."""
    payload: dict[str, Any] | None = None
    """A request that tells whether the engine works; default: one token. For engines of data there is no
    default."""


@dataclass(frozen=True)
class _Keys:
    cluster: dict[str, Any] | None = None
    endpoint: str | None = None
    runtime: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    health: dict[str, Any] | None = None
    drain_ms: int = 30000


@dataclass(frozen=True)
class WorkerConfig:
    """A worker's configuration, checked. Make it with :meth:`read`."""

    settings: Settings
    endpoint: str
    """``namespace.component.endpoint``."""
    runtime: dict[str, Any]
    """That of the runtime that it serves."""
    model: ModelConfig
    has_model: bool
    """Whether the configuration says something of a model."""
    health: HealthConfig
    drain_ms: int
    """Milliseconds that requests in flight get when the worker ends without another time; -1: for ever."""

    @classmethod
    def read(cls, given: dict[str, Any]) -> "WorkerConfig":
        """Check what the configuration says.

        :raises InvalidConfigError: an unknown key (the nearest known one is named), or a wrong value.
        """
        keys = options.read(_Keys, given, "")
        settings = Settings.read(keys.cluster or {})
        if keys.endpoint is None:
            raise InvalidConfigError(
                '"endpoint" of the configuration is missing: where in the cluster to serve, like '
                f'"{settings.namespace}.backend.generate"'
            )
        if keys.runtime is None:
            raise InvalidConfigError(
                '"runtime" of the configuration is missing: the engine to serve, like {"engine": "mistralrs"}'
            )
        for key in ("pipeline", "models"):
            if key in keys.runtime:
                why = '"model.input" decides it' if key == "pipeline" else "a worker serves one model"
                raise InvalidConfigError(
                    f'"runtime.{key}" of a worker\'s configuration must be left out: {why}'
                )
        if keys.drain_ms < -1:
            raise InvalidConfigError(
                f'"drain_ms" of the configuration must be -1 or more, not {keys.drain_ms}'
            )
        health = options.read(HealthConfig, keys.health or {}, "health")
        if health.stall_ms < 0:
            raise InvalidConfigError(
                f'"health.stall_ms" of the configuration must be 0 or more, not {health.stall_ms}'
            )
        return cls(
            settings=settings,
            endpoint=full_path(keys.endpoint, settings.namespace),
            runtime=keys.runtime,
            model=_read_model(keys.model or {}),
            has_model=bool(keys.model),
            health=health,
            drain_ms=keys.drain_ms,
        )


def _read_model(given: dict[str, Any]) -> ModelConfig:
    model = options.read(
        ModelConfig, {key: value for key, value in given.items() if value is not None}, "model"
    )
    for key in _counts:
        value = cast("int | None", getattr(model, key))
        if value is not None and not 1 <= value < 1 << 32:
            raise InvalidConfigError(
                f'"model.{key}" of the configuration must be from 1 to 4294967295, not {value}'
            )
    if (rank := model.data_parallel_start_rank) is not None and not 0 <= rank < 1 << 32:
        raise InvalidConfigError(
            f'"model.data_parallel_start_rank" of the configuration must be from 0 to 4294967295, not {rank}'
        )
    for key in ("name", "path", "chat_template"):
        if getattr(model, key) == "":
            raise InvalidConfigError(f'"model.{key}" of the configuration must not be empty')
    if not model.types or any(kind not in types for kind in model.types):
        raise InvalidConfigError(
            f'"model.types" of the configuration must have some of {", ".join(types)}, not {model.types!r}'
        )
    if not all(isinstance(alias, str) and alias for alias in model.aliases):
        raise InvalidConfigError('"model.aliases" of the configuration must be strings that are not empty')
    if model.chat_template is not None and not Path(model.chat_template).expanduser().is_file():
        raise InvalidConfigError(
            f'"model.chat_template" of the configuration, "{model.chat_template}", is no file'
        )
    return model

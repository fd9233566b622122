# SPDX-License-Identifier: Apache-2.0
"""The configuration of a worker."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import router_options
from dynamo_llm.runtime.cluster.settings import Router, Settings
from dynamo_llm.runtime.options import Must, at_least, between, non_empty

#: Names of ``model.types``, and Dynamo's.
model_types = {"chat": "Chat", "completions": "Completions", "embeddings": "Embedding"}

_u32 = (1 << 32) - 1
_Count = Annotated[int, between(1, _u32)]
_Text = Annotated[str, non_empty]
_roles = ("aggregated", "prefill", "decode", "encode")
_role_sets = Must(
    f"an array of arrays of some of {', '.join(_roles)}",
    lambda given: all(one and set(one) <= set(_roles) for one in given),
)
_some_types = Must(
    f"an array of some of {', '.join(model_types)}", lambda given: given and set(given) <= set(model_types)
)


@dataclass(frozen=True)
class ModelConfig:
    """The keys of ``model``: the description of the model in the cluster."""

    name: _Text | None = None
    """The ``model`` of requests; default: the runtime's name for it."""
    path: _Text | None = None
    """Folder with its tokenizer and ``config.json``, which frontends read; default: the engine's."""
    input: Literal["auto", "tokens", "text"] = "auto"
    """What the worker receives: token ids, or OpenAI request bodies; ``auto``: what the engine takes. With
    ``text``, the worker applies the template and tokenizer of a token-level engine, not the frontend."""
    types: Annotated[list[str], _some_types] = field(default_factory=lambda: ["chat", "completions"])
    """Kinds of requests: ``chat``, ``completions``, ``embeddings``."""
    context_length: _Count | None = None
    """Maximum tokens of prompt and answer together; default: that of the engine or the model's files."""
    kv_block_size: _Count | None = None
    """Tokens per block of the KV cache, as in the KV events."""
    total_kv_blocks: _Count | None = None
    """Blocks of the KV cache of each rank."""
    max_num_seqs: _Count | None = None
    """Maximum sequences in a step."""
    max_num_batched_tokens: _Count | None = None
    """Maximum tokens in a step."""
    data_parallel_size: _Count | None = None
    """Data parallel ranks of the engine."""
    data_parallel_start_rank: Annotated[int, between(0, _u32)] | None = None
    """The first of them."""
    user_data: dict[str, Any] = field(default_factory=dict)
    """Additional data for the model's card."""
    role: Literal["aggregated", "prefill", "decode"] = "aggregated"
    """The worker's role in disaggregated serving."""
    tool_call_parser: str | None = None
    """Dynamo's parser that a frontend extracts tool calls with."""
    reasoning_parser: str | None = None
    """Dynamo's parser that a frontend extracts reasoning with."""
    self_host_metadata: bool = False
    """Whether frontends download the model's files from the worker; requires DYN_SYSTEM_PORT to be set."""
    chat_template: _Text | None = None
    """File with a chat template that replaces the model's."""
    aliases: Annotated[list[str], Must("an array of non-empty strings", all)] = field(default_factory=list)
    """Further names of the model."""
    needs: Annotated[list[list[str]], _role_sets] | None = None
    """Roles of the other workers without which the model is not served: an array of alternatives, each an
    array of roles; default: ``[["prefill"]]`` of a decode worker, ``[["decode"]]`` of a prefill worker."""
    router: Router | None = None
    """How frontends select among the workers of this model and role; default: as they are configured."""
    router_options: dict[str, Any] = field(default_factory=dict)
    """The options of that router."""
    max_gpu_lora_count: _Count | None = None
    """Maximum LoRA adapters in the GPU's memory at once."""
    runtime_config: dict[str, Any] = field(default_factory=dict)
    """Further attributes of Dynamo's ModelRuntimeConfig."""


@dataclass(frozen=True)
class HealthConfig:
    """The keys of ``health``."""

    stall_ms: Annotated[int, at_least(0)] = 60000
    """Milliseconds for which the engine may be silent while requests are in flight; 0: no limit."""
    payload: dict[str, Any] | None = None
    """A request that tests whether the engine works; default: one token. Raw engines have no default."""


@dataclass(frozen=True)
class _Keys:
    cluster: dict[str, Any] | None = None
    endpoint: str | None = None
    runtime: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    health: dict[str, Any] | None = None
    drain_ms: Annotated[int, between(-1, 10**12)] = 30000
    engine_routes: Annotated[list[str], Must("an array of non-empty strings", all)] = field(
        default_factory=list
    )
    python: dict[str, Any] = field(default_factory=dict)  # read by the library


@dataclass(frozen=True)
class WorkerConfig:
    """A worker's validated configuration. Create it with :meth:`read`."""

    settings: Settings
    endpoint: str
    """``namespace.component.endpoint``."""
    runtime: dict[str, Any]
    """The configuration of the runtime that it serves."""
    model: ModelConfig
    has_model: bool
    """Whether the configuration describes a model."""
    health: HealthConfig
    drain_ms: int
    """Milliseconds that requests in flight get to finish at a shutdown without a timeout; -1: no timeout."""
    engine_routes: list[str]
    """Control calls of the engine that Dynamo's system server offers as ``/engine/NAME``."""

    @classmethod
    def read(cls, given: dict[str, Any]) -> "WorkerConfig":
        """Validates a configuration.

        :raises InvalidConfigError: an unknown key (the nearest known one is named), or a wrong value.
        """
        keys = options.read(_Keys, given, "")
        settings = Settings.read(keys.cluster or {})
        if keys.endpoint is None:
            raise InvalidConfigError(
                '"endpoint" of the configuration is missing; set it to the endpoint to serve, like '
                f'"{settings.endpoint_namespace}.backend.generate"'
            )
        if keys.runtime is None:
            raise InvalidConfigError(
                '"runtime" of the configuration is missing; set it to the engine to serve, like '
                '{"engine": "mistralrs"}'
            )
        for key in ("pipeline", "models"):
            if key in keys.runtime:
                why = '"model.input" determines it' if key == "pipeline" else "a worker serves one model"
                raise InvalidConfigError(
                    f'"runtime.{key}" of a worker\'s configuration must be left out: {why}'
                )
        return cls(
            settings=settings,
            endpoint=settings.full_path(keys.endpoint),
            runtime=keys.runtime,
            model=_read_model(keys.model or {}),
            has_model=bool(keys.model),
            health=options.read(HealthConfig, keys.health or {}, "health"),
            drain_ms=keys.drain_ms,
            engine_routes=keys.engine_routes,
        )


def _read_model(given: dict[str, Any]) -> ModelConfig:
    model = options.read(
        ModelConfig, {key: value for key, value in given.items() if value is not None}, "model"
    )
    if model.chat_template is not None and not Path(model.chat_template).expanduser().is_file():
        raise InvalidConfigError(
            f'"model.chat_template" of the configuration, "{model.chat_template}", is not a file'
        )
    if model.router is not None:
        router_options.check(model.router_options, model.router, "model.router_options")
    elif model.router_options:
        raise InvalidConfigError('"model.router_options" of the configuration requires "model.router"')
    return model

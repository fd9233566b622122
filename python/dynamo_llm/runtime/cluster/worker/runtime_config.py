# SPDX-License-Identifier: Apache-2.0
"""A worker's ModelRuntimeConfig: the part of its card that routers, frontends, and planners read."""

import json
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.cluster.worker.config import ModelConfig
from dynamo_llm.runtime.options import unknown_key

#: Attributes that a key of ``model`` with the same name sets.
_own = (
    "total_kv_blocks",
    "max_num_seqs",
    "max_num_batched_tokens",
    "data_parallel_size",
    "data_parallel_start_rank",
    "tool_call_parser",
    "reasoning_parser",
)
_where = "model.runtime_config"


def runtime_config(core: Any, config: ModelConfig, context_length: int | None) -> Any:
    """Returns Dynamo's ModelRuntimeConfig for a model.

    :param core: the module ``dynamo._core``.
    :raises InvalidConfigError: Dynamo's class has no such attribute, or it takes no such value.
    """
    made = core.ModelRuntimeConfig()
    for key in _own:
        if (value := getattr(config, key)) is not None:
            setattr(made, key, value)
    if context_length is not None:
        made.context_length = context_length
    if config.role == "decode":
        made.enable_local_indexer = False  # routers look up prompts at the prefill workers
    given = dict(config.runtime_config)
    known = [name for name in dir(made) if not name.startswith("_") and not callable(getattr(made, name))]
    for key in given:
        if key in (*_own, "context_length"):
            raise InvalidConfigError(
                f'"{_where}.{key}" of the configuration must be left out; set "model.{key}" instead'
            )
        if key not in known:
            raise InvalidConfigError(unknown_key(key, known, f"{_where}."))
    endpoint = ("bootstrap_host", "bootstrap_port")
    bootstrap: dict[str, Any] = {key: given.pop(key) for key in endpoint if key in given}
    if bootstrap:
        _call(made.set_disaggregated_endpoint, "bootstrap_host", bootstrap)
    for key, value in given.items():
        if key == "structural_tag":
            _call(made.set_structural_tag, key, {"structural_tag": value})
        elif key == "runtime_data":
            for name, one in _object(key, value).items():
                made.set_engine_specific(name, json.dumps(one))
        else:
            is_set = isinstance(getattr(made, key), set) and isinstance(value, list)
            _call(setattr, key, None, made, key, set(value) if is_set else value)
    return made


def _call(function: Any, key: str, keywords: dict[str, Any] | None, *values: Any) -> None:
    try:
        function(*values, **(keywords or {}))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidConfigError(f'"{_where}.{key}" of the configuration is invalid: {error}') from error


def _object(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidConfigError(f'"{_where}.{key}" of the configuration must be an object')
    return value

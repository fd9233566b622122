# SPDX-License-Identifier: Apache-2.0
"""The configuration's ``cluster.router_options``: keyword arguments of Dynamo's RouterConfig, and of its
KvRouterConfig for the router ``kv``. Those that it omits come from Dynamo's environment variables.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.options import Must, at_least, between

_fraction = Must("a number from 0 to 1", lambda value: 0 <= value <= 1)
_share = Must("a number of at least 0", lambda value: 0 <= value < float("inf"))


@dataclass(frozen=True)
class RouterOptions:
    """The options that every router has; Dynamo's RouterConfig takes them."""

    active_decode_blocks_threshold: Annotated[float, _fraction] | None = None
    """Share of its KV blocks in use from which a worker is busy; None: never."""
    active_prefill_tokens_threshold: Annotated[int, at_least(0)] | None = None
    """Tokens in prefill from which a worker is busy; None: never."""
    active_prefill_tokens_threshold_frac: Annotated[float, _share] | None = None
    """The same, as a share of the worker's ``max_num_batched_tokens``."""
    session_affinity_ttl_secs: Annotated[int, between(1, 31_536_000)] | None = None
    """Seconds after its last request for which a session stays with its worker; None: no sessions."""
    session_affinity_mode: Literal["hard", "soft"] = "hard"
    """``hard``: the requests of a session go to its worker; ``soft``: they prefer it."""


#: Names of :class:`RouterOptions`.
common = tuple(field.name for field in fields(RouterOptions))

#: Dynamo's environment variables, the options that they set, and the types of their values.
_common_variables: dict[str, tuple[str, type]] = {
    "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD": ("active_decode_blocks_threshold", float),
    "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD": ("active_prefill_tokens_threshold", int),
    "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC": ("active_prefill_tokens_threshold_frac", float),
}
_kv_variables: dict[str, tuple[str, type]] = {
    "DYN_ENABLE_SESSION_PREFIX_INDEX": ("enable_session_prefix_index", bool),
    "DYN_ROUTER_APPROXIMATE_CACHE_POLICY": ("router_approximate_cache_policy", str),
    "DYN_ROUTER_ASSUME_KV_REUSE": ("router_assume_kv_reuse", bool),
    "DYN_ROUTER_CONDITIONAL_DISAGG": ("conditional_disagg_enabled", bool),
    "DYN_ROUTER_CONDITIONAL_DISAGG_CONFIG": ("conditional_disagg_*", dict),
    "DYN_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT": ("decode_active_request_weight", float),
    "DYN_ROUTER_DECODE_POLICY": ("router_decode_policy", str),
    "DYN_ROUTER_DISK_CACHE_HIT_WEIGHT": ("disk_cache_hit_weight", float),
    "DYN_ROUTER_EVENT_THREADS": ("router_event_threads", int),
    "DYN_ROUTER_HOST_CACHE_HIT_WEIGHT": ("host_cache_hit_weight", float),
    "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT": ("overlap_score_credit", float),
    "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY": ("overlap_score_credit_decay", float),
    "DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT": ("overlap_score_weight", float),
    "DYN_ROUTER_POLICY_CONFIG": ("router_policy_config", str),
    "DYN_ROUTER_PREDICTED_TTL_SECS": ("router_predicted_ttl_secs", float),
    "DYN_ROUTER_PREFILL_LOAD_SCALE": ("prefill_load_scale", float),
    "DYN_ROUTER_PREFILL_POLICY": ("router_prefill_policy", str),
    "DYN_ROUTER_QUEUE_POLICY": ("router_queue_policy", str),
    "DYN_ROUTER_QUEUE_THRESHOLD": ("router_queue_threshold", float),
    "DYN_ROUTER_REPLICA_SYNC": ("router_replica_sync", bool),
    "DYN_ROUTER_TEMPERATURE": ("router_temperature", float),
    "DYN_ROUTER_TRACKING_HASH": ("router_tracking_hash", str),
    "DYN_ROUTER_TRACKING_KEY_FILE": ("router_tracking_key_file", str),
    "DYN_ROUTER_TRACKING_KEY_ID": ("router_tracking_key_id", str),
    "DYN_ROUTER_TRACK_ACTIVE_BLOCKS": ("router_track_active_blocks", bool),
    "DYN_ROUTER_TRACK_OUTPUT_BLOCKS": ("router_track_output_blocks", bool),
    "DYN_ROUTER_TRACK_PREFILL_TOKENS": ("router_track_prefill_tokens", bool),
    "DYN_ROUTER_TTL_SECS": ("router_ttl_secs", float),
    "DYN_ROUTER_USE_KV_EVENTS": ("use_kv_events", bool),
    "DYN_SERVE_INDEXER": ("serve_indexer", bool),
    "DYN_SHARED_CACHE_MULTIPLIER": ("shared_cache_multiplier", float),
    "DYN_SHARED_CACHE_TYPE": ("shared_cache_type", str),
    "DYN_USE_REMOTE_INDEXER": ("use_remote_indexer", bool),
}
#: Keywords that Dynamo takes and that cannot be set here, and why.
_refused = {
    "enforce_disagg": "NVIDIA Dynamo ignores it: the roles and needs of the workers decide whether a "
    'request is split into prefill and decode; for decode workers that also answer alone, set "needs" to [] '
    'in "model" of their configuration',
    "router_prefill_load_model": "it requires Dynamo's simulator of an engine (ais_perf_config), which "
    "cannot be configured here",
}


#: The same, in a client only.
_sessions = (
    "NVIDIA Dynamo takes the session of a request from HTTP headers only, which a client inside the process "
    'does not send; a request can name its worker with "nvext.backend_instance_id"'
)
_refused_of_clients = {"session_affinity_ttl_secs": _sessions, "session_affinity_mode": _sessions}


def read(given: Mapping[str, Any], router: str) -> dict[str, Any]:
    """Checks the options of a client's router, and adds those of the environment.

    :param given: the options of the configuration.
    :returns: keyword arguments of RouterConfig and, for the router ``kv``, KvRouterConfig. Dynamo checks the
        latter.
    :raises InvalidConfigError: an option of the configuration or of the environment is unknown or invalid.
    """
    where = "cluster.router_options"
    _refuse(_refused_of_clients, given, where)
    return {**_from_environment(router), **check(given, router, where)}


def check(given: Mapping[str, Any], router: str, where: str) -> dict[str, Any]:
    """Checks the options of a router that frontends get from a worker, and returns them.

    :param where: their path in the configuration, for messages.
    """
    _refuse(_refused, given, where)
    others = [key for key in given if key not in common]
    if others and router != "kv":
        raise InvalidConfigError(
            f'"{where}" of the configuration has "{others[0]}", which requires the "router" "kv", not '
            f'"{router}"; every router takes: {", ".join(common)}'
        )
    options.read(RouterOptions, {key: given[key] for key in given if key in common}, where)
    return dict(given)


def _refuse(refused: Mapping[str, str], given: Mapping[str, Any], where: str) -> None:
    for key, why in refused.items():
        if key in given:
            raise InvalidConfigError(f'"{where}.{key}" of the configuration cannot be set: {why}')


def _from_environment(router: str) -> dict[str, Any]:
    variables = {**_common_variables, **(_kv_variables if router == "kv" else {})}
    found: dict[str, Any] = {}
    for variable, (option, kind) in variables.items():
        text = os.environ.get(variable)
        if text is None or (kind is not bool and text in ("", "None")):
            continue
        value = _value(variable, text, kind)
        if kind is dict:
            found |= {f"conditional_disagg_{key}": one for key, one in value.items()}
            continue
        if option in common:
            try:
                options.read(RouterOptions, {option: value}, "")
            except InvalidConfigError as error:
                raise InvalidConfigError(
                    f"the environment variable {variable} is invalid: {error}"
                ) from error
        found[option] = value
    if router == "kv" and _is_true(os.environ.get("DYN_ROUTER_LOAD_AWARE", "")):
        raise InvalidConfigError(
            "the environment variable DYN_ROUTER_LOAD_AWARE is not supported: NVIDIA Dynamo deprecates it; "
            'unset it and set "cluster.router_options" to {"overlap_score_credit": 0, "use_kv_events": '
            'false, "router_assume_kv_reuse": false}'
        )
    return found


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes", "on")


def _value(variable: str, text: str, kind: type) -> Any:
    """Converts a variable's value as Dynamo's command line does."""
    if kind is bool:
        return _is_true(text)
    try:
        value = json.loads(text) if kind is dict else kind(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        what = {int: "an integer", float: "a number", dict: "a JSON object"}[kind]
        raise InvalidConfigError(f'the environment variable {variable} must be {what}, not "{text}"')
    return value

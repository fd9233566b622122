# SPDX-License-Identifier: Apache-2.0
"""The options of a client's router, from the configuration and from Dynamo's environment variables."""

import argparse
import importlib.util
import os
from typing import Any

import pytest
from dynamo_llm import InvalidConfigError
from dynamo_llm.runtime.cluster import router_options
from dynamo_llm.runtime.cluster.settings import Settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes Dynamo's environment variables."""
    for name in os.environ:
        if name.startswith("DYN_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"router_options": {"router_temperature": 1}},
            '"cluster.router_options" .* "router_temperature", .*"router" "kv", not "round_robin"; every '
            "router takes: active_decode_blocks_threshold, ",
        ),
        (
            {"router_options": {"active_decode_blocks_threshold": 85}},
            '"cluster.router_options.active_decode_blocks_threshold" .* must be a number from 0 to 1, not 85',
        ),
        (
            {"router_options": {"session_affinity_ttl_secs": 60}},
            '"cluster.router_options.session_affinity_ttl_secs" .* cannot be set: .* HTTP headers',
        ),
        (
            {"router_options": {"enforce_disagg": True}},
            '"cluster.router_options.enforce_disagg" .* cannot be set: NVIDIA Dynamo ignores it.*"needs"',
        ),
        (
            {"router": "kv", "router_options": {"router_prefill_load_model": "ais"}},
            '"cluster.router_options.router_prefill_load_model" .* cannot be set',
        ),
    ],
)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    """Each error names the option and what would be right."""
    with pytest.raises(InvalidConfigError, match=message):
        Settings.read(given)


def test_the_environment_completes_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are defaults; those of the router kv count for it only."""
    monkeypatch.setenv("DYN_ROUTER_MODE", "power-of-two")
    monkeypatch.setenv("DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD", "60")
    monkeypatch.setenv("DYN_ROUTER_TEMPERATURE", "0.5")
    monkeypatch.setenv("DYN_ROUTER_USE_KV_EVENTS", "off")
    monkeypatch.setenv("DYN_ROUTER_QUEUE_THRESHOLD", "None")
    settings = Settings.read({"router_options": {"active_decode_blocks_threshold": 0.5}})
    assert settings.router == "power_of_two"
    assert settings.router_options == {
        "active_prefill_tokens_threshold": 60,
        "active_decode_blocks_threshold": 0.5,
    }
    settings = Settings.read({"router": "kv", "router_options": {"router_temperature": 0}})
    assert settings.router_options == {
        "active_prefill_tokens_threshold": 60,
        "use_kv_events": False,
        "router_temperature": 0,
    }


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "DYN_ROUTER_MODE",
            "best",
            "DYN_ROUTER_MODE must be one of round-robin, .*device-aware-weighted, not",
        ),
        ("DYN_ROUTER_EVENT_THREADS", "many", 'DYN_ROUTER_EVENT_THREADS must be an integer, not "many"'),
        (
            "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD",
            "7",
            "BLOCKS_THRESHOLD is invalid: .*from 0 to 1",
        ),
        ("DYN_ROUTER_LOAD_AWARE", "true", "DYN_ROUTER_LOAD_AWARE is not supported.*overlap_score_credit"),
    ],
)
def test_mistakes_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    """Each error names the variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidConfigError, match=message):
        Settings.read({} if variable == "DYN_ROUTER_MODE" else {"router": "kv"})


#: Examples of values of a type; the second is what Dynamo's parser makes of it.
examples: dict[type, tuple[str, Any]] = {
    bool: ("yes", True),
    int: ("3", 3),
    float: ("0.25", 0.25),
    str: ("text", "text"),
}
#: Options whose values are checked by Dynamo's parser.
words = {
    "router_approximate_cache_policy": "lru",
    "router_queue_policy": "wspt",
    "router_tracking_hash": "keyed-xxh3-v1",
    "shared_cache_type": "hicache",
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_variables_are_those_of_dynamo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo's frontend reads the same variables into the same options."""
    if importlib.util.find_spec("dynamo") is None or importlib.util.find_spec("dynamo.frontend") is None:
        pytest.skip("needs Dynamo's frontend: pip install --no-deps ai-dynamo")
    from dynamo.common.configuration.groups import kv_router_args, router_args
    from dynamo.frontend.frontend_args import FrontendArgGroup

    known = {**router_options._common_variables, **router_options._kv_variables}
    options = {option for option, kind in known.values() if kind is not dict}
    theirs = {*router_args._ROUTER_FIELDS, *kv_router_args._KV_ROUTER_FIELDS}
    conditional = set(kv_router_args._CONDITIONAL_DISAGG_CONFIG_FIELDS.values())
    refused = {*router_options._refused, *router_options._refused_of_clients}
    assert options == theirs - conditional - refused
    expected: dict[str, Any] = {}
    for variable, (option, kind) in known.items():
        if kind is not dict:
            text, value = examples[kind]
            text, value = words.get(option, text), words.get(option, value)
            monkeypatch.setenv(variable, text)
            expected[option] = value
    monkeypatch.setenv("DYN_ROUTER_CONDITIONAL_DISAGG_CONFIG", '{"policy": "prefill_load"}')
    parser = argparse.ArgumentParser()
    FrontendArgGroup().add_arguments(parser)
    parsed = vars(parser.parse_args([]))
    assert {option: parsed[option] for option in expected} == expected
    expected["conditional_disagg_policy"] = "prefill_load"
    assert Settings.read({"router": "kv"}).router_options == expected

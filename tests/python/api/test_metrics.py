# SPDX-License-Identifier: Apache-2.0
"""Metrics of a runtime as a Prometheus parser reads them; model descriptions and timing."""

from typing import Any

import dynamo_llm
import pytest
from conftest import engine
from dynamo_llm import Runtime
from prometheus_client.parser import text_string_to_metric_families

#: The metrics in docs/metrics.md.
families = {
    "dynamo_llm_requests",
    "dynamo_llm_requests_in_flight",
    "dynamo_llm_requests_queued",
    "dynamo_llm_prompt_tokens",
    "dynamo_llm_cached_tokens",
    "dynamo_llm_completion_tokens",
    "dynamo_llm_streams_full",
    "dynamo_llm_queue_seconds",
    "dynamo_llm_time_to_first_token_seconds",
    "dynamo_llm_inter_token_seconds",
    "dynamo_llm_request_seconds",
}


def read(runtime: Runtime) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(runtime.metrics())}


def value(runtime: Runtime, name: str, **labels: str) -> float:
    """Returns the value of the sample that has at least these labels."""
    found = [
        sample.value
        for family in read(runtime).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_metrics_parse_as_prometheus() -> None:
    with Runtime(
        models=[{"name": 'a "b"\n\\', "engine": "echo"}, {"name": "c", "engine": "echo"}]
    ) as runtime:
        runtime.complete("one two three", model="c").result()
        read_back = read(runtime)
        assert set(read_back) == families
        names = {sample.labels["model"] for sample in read_back["dynamo_llm_requests"].samples}
        assert names == {'a "b"\n\\', "c"}
        for name in ("queue_seconds", "time_to_first_token_seconds", "request_seconds"):
            assert value(runtime, f"dynamo_llm_{name}_count", model="c") == 1
            buckets = [s for s in read_back[f"dynamo_llm_{name}"].samples if s.labels.get("le") == "+Inf"]
            assert len(buckets) == 2
        assert value(runtime, "dynamo_llm_completion_tokens_total", model="c") == 3
        assert value(runtime, "dynamo_llm_inter_token_seconds_count", model="c") == 2


def test_statuses_and_usage() -> None:
    with Runtime() as runtime:
        result = runtime.chat("What is a KV cache?").result()
        assert result.usage is not None
        assert value(runtime, "dynamo_llm_prompt_tokens_total") == result.usage.prompt_tokens
        assert value(runtime, "dynamo_llm_completion_tokens_total") == result.usage.completion_tokens
        assert value(runtime, "dynamo_llm_python_wait_seconds_count") >= 1
        assert value(runtime, "dynamo_llm_python_wait_seconds_bucket", le="+Inf") >= 1
    with Runtime(engine="scripted", limits={"max_concurrent": 1, "max_queued": 0}) as runtime:
        stalled = runtime.complete('[{"text": "a"}, {"stall": true}]')
        with pytest.raises(dynamo_llm.OverloadedError):
            runtime.complete("[]")
        assert value(runtime, "dynamo_llm_requests_in_flight") == 1
        stalled.cancel()
        with pytest.raises(dynamo_llm.CancelledError):
            stalled.result()
        assert value(runtime, "dynamo_llm_requests_total", status="overloaded") == 1
        assert value(runtime, "dynamo_llm_requests_total", status="cancelled") == 1
        assert value(runtime, "dynamo_llm_requests_total", status="ok") == 0


def test_timing() -> None:
    with Runtime(engine="echo") as runtime:
        request = runtime.complete("a b c")
        result = request.result()
        assert result.timing is not None and result.timing.total is not None
        assert result.timing.queue is not None and result.timing.first_token is not None
        assert 0 <= result.timing.queue <= result.timing.first_token <= result.timing.total
        assert request.timing.total == result.timing.total
        times = result.timing
        assert repr(times) == (
            f"Timing(queue={times.queue!r}, first_token={times.first_token!r}, total={times.total!r})"
        )


def test_models() -> None:
    """The model list contains the description of a Python engine, and its adapters by name."""
    with Runtime(engine("describing:Describing"), name="mine") as runtime:
        (model,) = runtime.models()
        assert model["id"] == "mine" and model["context_length"] == 99
        assert model["capabilities"] == ["completion"] and model["adapters"] == ["poet"]
        assert runtime.complete("x", model="poet").result().text == "x"
        with pytest.raises(dynamo_llm.ModelNotFoundError, match="Its models: mine, poet"):
            runtime.complete("x", model="other")
    with pytest.raises(dynamo_llm.EngineFailedError, match="no description"):
        Runtime(engine("describing:Broken"))

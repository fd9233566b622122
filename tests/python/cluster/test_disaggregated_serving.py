# SPDX-License-Identifier: Apache-2.0
"""Disaggregated serving: one worker has the role prefill, another one decode."""

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cluster_rig import Cluster, NewCluster
from cluster_worker import Worker, post
from dynamo_llm import InvalidConfigError, NotSupportedError, Runtime, UnavailableError, paths
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

name = Path(__file__).stem
python_path = {"python": {"path": [str(Path(__file__).resolve().parent)]}}


class RoleEngine:
    """Generates tokens that show the prefill, and in the role decode the parameters of the prefill."""

    kind = "tokens"
    requests: ClassVar[dict[str, list[TokenRequest]]] = {}

    def __init__(self, config: EngineConfig) -> None:
        self.role = config.options.get("role", "aggregated")
        self.capabilities = config.options.get("capabilities", ["disaggregation", "routing"])

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Returns the demo model's tokenizer."""
        path = str(paths.demo_model_dir())
        return {"path": path, "context_length": 64, "capabilities": self.capabilities}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Generates one token; in the role decode also the tokens of the prefill."""
        RoleEngine.requests.setdefault(self.role, []).append(request)
        if self.role == "prefill":
            handed = {"disaggregated_params": {"first": 200, "length": len(request.token_ids)}}
            yield {"token_ids": [200], "finish_reason": "length", "delta": handed}
            return
        told = (request.disaggregated or {}).get("prefill_result", {}).get("disaggregated_params")
        yield {"token_ids": [told["first"], 300 + told["length"]] if told else [400]}
        yield {"token_ids": [401], "finish_reason": "stop"}

    def stop(self) -> None:
        """Does nothing."""


def start_role(cluster: Cluster, role: str, **model: Any) -> Worker:
    """Starts a worker with a role."""
    return Worker(
        cluster,
        {"engine": f"{name}:RoleEngine", "options": {"role": role}, **python_path},
        endpoint=f"dynamo.{role}.generate",
        model={"name": "roles", "role": role, "kv_block_size": 16, **model},
    )


@pytest.mark.parametrize("router", ["round_robin", "kv"])
def test_prefill_and_decode(new_cluster: NewCluster, router: str) -> None:
    """Through this library's client and through Dynamo's frontend; decode gets the prefill's parameters."""
    mine = new_cluster("file-tcp-zmq")
    RoleEngine.requests.clear()
    settings = {**mine.settings, "router": router}
    with (
        start_role(mine, "decode"),
        start_role(mine, "prefill"),
        Runtime(engine="dynamo", cluster=settings, pipeline="off") as runtime,
    ):
        wait_until(lambda: [model["id"] for model in runtime.models()] == ["roles"])

        def answer() -> list[int]:
            try:
                result = runtime.complete([5, 6, 7], max_tokens=9).result()
            except (
                UnavailableError
            ):  # Dynamo activates its routing of prefills a moment after the model is listed
                return []
            assert result.finish_reason == "stop"
            return result.token_ids

        wait_until(lambda: answer() == [200, 303, 401])
        assert RoleEngine.requests["prefill"][-1].max_tokens == 1
        assert RoleEngine.requests["decode"][-1].max_tokens == 9
        wait_until(lambda: "roles" in (mine.models() or []))
        body = {"model": "roles", "prompt": [5, 6, 7, 8], "max_tokens": 9}
        wait_until(lambda: post(f"{mine.url}/completions", body)[0] == 200)
        count = len(RoleEngine.requests["prefill"])
        assert post(f"{mine.url}/completions", body)[0] == 200
        assert len(RoleEngine.requests["prefill"]) == count + 1
        assert RoleEngine.requests["decode"][-1].disaggregated is not None


def test_both_roles_are_required(new_cluster: NewCluster) -> None:
    """Dynamo has no model while only one role is live."""
    mine = new_cluster("file-tcp-zmq")
    options = {"wait_for_model_ms": 1000}
    with (
        start_role(mine, "decode") as decoder,
        Runtime(engine="dynamo", cluster=mine.settings, options=options, pipeline="off") as runtime,
    ):
        assert decoder.info["state"] == "serving"
        with pytest.raises(UnavailableError, match="there was no model"):
            runtime.complete([5, 6, 7], max_tokens=9).result()
        with start_role(mine, "prefill"):
            wait_until(lambda: [model["id"] for model in runtime.models()] == ["roles"])
        wait_until(lambda: runtime.models() == [])


def test_ranks(new_cluster: NewCluster) -> None:
    """A request may select its data parallel rank."""
    mine = new_cluster("file-tcp-zmq")
    RoleEngine.requests.clear()
    with (
        start_role(mine, "aggregated", data_parallel_size=2) as worker,
        Runtime(engine="dynamo", cluster={**mine.settings, "router": "kv"}, pipeline="off") as runtime,
    ):
        wait_until(lambda: [model["id"] for model in runtime.models()] == ["roles"])
        for rank in (1, 0):
            nvext = {"backend_instance_id": worker.info["worker_id"], "dp_rank": rank}
            assert runtime.complete([5], max_tokens=9, nvext=nvext).result().token_ids == [400, 401]
            routing = RoleEngine.requests["aggregated"][-1].routing
            assert routing is not None and routing["dp_rank"] == rank


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"role": "decode"}, '"model.role" .* is \'decode\', .* requires the capability "disaggregation"'),
        ({"data_parallel_size": 2}, '"model.data_parallel_size" .* is 2, .* capability "routing"'),
    ],
)
def test_an_engine_without_the_capability(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    options = {"capabilities": ["seed"]}
    runtime = {"engine": f"{name}:RoleEngine", "options": options, **python_path}
    cluster = {"discovery": "file", "path": str(tmp_path)}
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(
            engine="dynamo_llm.runtime.cluster.worker.engine:WorkerEngine",
            options={"cluster": cluster, "endpoint": "a.b.c", "runtime": runtime, "model": model},
        )


def test_prefill_result_without_a_worker() -> None:
    """Other requests cannot contain the result of a prefill."""
    with Runtime(engine=f"{name}:RoleEngine", options={"capabilities": []}, **python_path) as runtime:
        nvext = {"prefill_result": {"disaggregated_params": {}}}
        with pytest.raises(NotSupportedError, match=r'"nvext.prefill_result" .* "disaggregation"'):
            runtime.complete("a", max_tokens=3, nvext=nvext).result()

# SPDX-License-Identifier: Apache-2.0
"""Workers that do a part of each request: one reads prompts, another one answers."""

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
    pytest.skip("needs the extra: pip install 'dynamo-llm[dynamo]'", allow_module_level=True)

name = Path(__file__).stem
python_path = {"python": {"path": [str(Path(__file__).resolve().parent)]}}


class Parts:
    """Says what it read, and at decoding what it was told of that."""

    kind = "tokens"
    requests: ClassVar[dict[str, list[TokenRequest]]] = {}

    def __init__(self, config: EngineConfig) -> None:
        self.role = config.options.get("role", "aggregated")
        self.capabilities = config.options.get("capabilities", ["disaggregation", "routing"])

    def start(self) -> None:
        """Nothing to do."""

    def describe(self) -> ModelInfo:
        """The demo model's tokenizer."""
        path = str(paths.demo_model_dir())
        return {"path": path, "context_length": 64, "capabilities": self.capabilities}

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """One token; of a decoder those that the prefill gave it, too."""
        Parts.requests.setdefault(self.role, []).append(request)
        if self.role == "prefill":
            handed = {"disaggregated_params": {"first": 200, "length": len(request.token_ids)}}
            yield {"token_ids": [200], "finish_reason": "length", "delta": handed}
            return
        told = (request.disaggregated or {}).get("prefill_result", {}).get("disaggregated_params")
        yield {"token_ids": [told["first"], 300 + told["length"]] if told else [400]}
        yield {"token_ids": [401], "finish_reason": "stop"}

    def stop(self) -> None:
        """Nothing to do."""


def part(cluster: Cluster, role: str, **model: Any) -> Worker:
    """A worker."""
    return Worker(
        cluster,
        {"engine": f"{name}:Parts", "options": {"role": role}, **python_path},
        endpoint=f"dynamo.{role}.generate",
        model={"name": "parts", "role": role, "kv_block_size": 16, **model},
    )


@pytest.mark.parametrize("router", ["round_robin", "kv"])
def test_one_reads_and_one_answers(new_cluster: NewCluster, router: str) -> None:
    """Through our client and through Dynamo's frontend; the decoder gets what the other one had for it."""
    mine = new_cluster("file-tcp-zmq")
    Parts.requests.clear()
    settings = {**mine.settings, "router": router}
    with (
        part(mine, "decode"),
        part(mine, "prefill"),
        Runtime(engine="dynamo", cluster=settings, pipeline="off") as runtime,
    ):
        wait_until(lambda: [model["id"] for model in runtime.models()] == ["parts"])

        def answer() -> list[int]:
            result = runtime.complete([5, 6, 7], max_tokens=9).result()
            assert result.finish_reason == "stop"
            return result.token_ids

        wait_until(lambda: answer() == [200, 303, 401])
        assert Parts.requests["prefill"][-1].max_tokens == 1
        assert Parts.requests["decode"][-1].max_tokens == 9
        wait_until(lambda: "parts" in (mine.models() or []))
        body = {"model": "parts", "prompt": [5, 6, 7, 8], "max_tokens": 9}
        wait_until(lambda: post(f"{mine.url}/completions", body)[0] == 200)
        count = len(Parts.requests["prefill"])
        assert post(f"{mine.url}/completions", body)[0] == 200
        assert len(Parts.requests["prefill"]) == count + 1
        assert Parts.requests["decode"][-1].disaggregated is not None


def test_both_parts_are_needed(new_cluster: NewCluster) -> None:
    """Dynamo has no model while only one of them is there."""
    mine = new_cluster("file-tcp-zmq")
    options = {"wait_for_model_ms": 1000}
    with (
        part(mine, "decode") as decoder,
        Runtime(engine="dynamo", cluster=mine.settings, options=options, pipeline="off") as runtime,
    ):
        assert decoder.info["state"] == "serving"
        with pytest.raises(UnavailableError, match="there was no model"):
            runtime.complete([5, 6, 7], max_tokens=9).result()
        with part(mine, "prefill"):
            wait_until(lambda: [model["id"] for model in runtime.models()] == ["parts"])
        wait_until(lambda: runtime.models() == [])


def test_ranks(new_cluster: NewCluster) -> None:
    """A request may name its rank."""
    mine = new_cluster("file-tcp-zmq")
    Parts.requests.clear()
    with (
        part(mine, "aggregated", data_parallel_size=2) as worker,
        Runtime(engine="dynamo", cluster={**mine.settings, "router": "kv"}, pipeline="off") as runtime,
    ):
        wait_until(lambda: [model["id"] for model in runtime.models()] == ["parts"])
        for rank in (1, 0):
            nvext = {"backend_instance_id": worker.info["instance_id"], "dp_rank": rank}
            assert runtime.complete([5], max_tokens=9, nvext=nvext).result().token_ids == [400, 401]
            routing = Parts.requests["aggregated"][-1].routing
            assert routing is not None and routing["dp_rank"] == rank


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"role": "decode"}, '"model.role" .* is \'decode\', .* needs the capability "disaggregation"'),
        ({"data_parallel_size": 2}, '"model.data_parallel_size" .* is 2, .* capability "routing"'),
    ],
)
def test_an_engine_that_cannot(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    options = {"capabilities": ["seed"]}
    runtime = {"engine": f"{name}:Parts", "options": options, **python_path}
    cluster = {"discovery": "file", "path": str(tmp_path)}
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(
            engine="dynamo_llm.runtime.cluster.worker:WorkerEngine",
            options={"cluster": cluster, "endpoint": "a.b.c", "runtime": runtime, "model": model},
        )


def test_without_a_worker() -> None:
    """Requests of others cannot say what a prefill gave."""
    with Runtime(engine=f"{name}:Parts", options={"capabilities": []}, **python_path) as runtime:
        nvext = {"prefill_result": {"disaggregated_params": {}}}
        with pytest.raises(NotSupportedError, match=r'"nvext.prefill_result" .* "disaggregation"'):
            runtime.complete("a", max_tokens=3, nvext=nvext).result()

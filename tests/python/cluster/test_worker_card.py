# SPDX-License-Identifier: Apache-2.0
"""What a worker registers: LoRA adapters, needs, a router, and the rest of Dynamo's runtime configuration."""

import asyncio
import importlib.util
import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from cluster_rig import Cluster, NewCluster
from cluster_worker import Worker, post
from dynamo_llm import InvalidConfigError, InvalidRequestError, Runtime, UnavailableError, paths
from dynamo_llm.runtime.cluster.client.model_cards import model_cards
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from test_disaggregated_serving import RoleEngine, start_role
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

name = Path(__file__).stem
python_path = {"python": {"path": [str(Path(__file__).parent)]}}


class AdapterEngine:
    """Answers with the position of the request's LoRA adapter in its list."""

    kind: Literal["tokens"] = "tokens"
    last: str | None = None
    """The adapter of the last request."""

    def __init__(self, config: EngineConfig) -> None:
        self.adapters = ["poet", "lawyer"]
        self.token = config.options.get("token", 199)

    def start(self) -> None:
        """Does nothing."""

    def describe(self) -> ModelInfo:
        """Returns the demo model's tokenizer, and the current adapters."""
        path = str(paths.demo_model_dir())
        return {"path": path, "context_length": 64, "adapters": list(self.adapters)}

    @property
    def calls(self) -> dict[str, Any]:
        """Control calls."""
        return {"load_adapter": self.load, "unload_adapter": self.unload}

    def load(self, adapter: str) -> list[str]:
        """Adds an adapter."""
        if adapter in self.adapters:
            raise InvalidRequestError(f'"{adapter}" is loaded already')
        self.adapters.append(adapter)
        return self.adapters

    def unload(self, adapter: str) -> None:
        """Removes an adapter."""
        self.adapters.remove(adapter)

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Generates one token."""
        AdapterEngine.last = request.adapter
        token = 100 + self.adapters.index(request.adapter) if request.adapter else self.token
        yield {"token_ids": [token], "finish_reason": "stop"}

    def stop(self) -> None:
        """Does nothing."""


def start_adapters(cluster: Cluster, **more: Any) -> Worker:
    """Starts a worker with LoRA adapters."""
    runtime = {"engine": f"{name}:AdapterEngine", **python_path}
    return Worker(cluster, runtime, model={"name": "base", "user_data": {"team": "a"}}, **more)


def card(cluster: Cluster, model: str) -> dict[str, Any]:
    """Returns the registered card of a model."""
    cards = asyncio.run(model_cards(Settings.read(cluster.settings)))
    return next(one.content for one in cards if one.name == model)


def listed(cluster: Cluster) -> list[str]:
    """Returns the models that Dynamo's frontend lists."""
    return sorted(cluster.models() or [])


@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-tcp-zmq"])
def test_adapters_are_models(new_cluster: NewCluster, combination: str) -> None:
    """Clients and Dynamo's frontend find each LoRA adapter by its name; the engine gets it."""
    mine = new_cluster(combination)
    with start_adapters(mine), Runtime(engine="dynamo", cluster=mine.settings, pipeline="off") as runtime:
        wait_until(lambda: len(runtime.models()) == 3)
        for model, token in (("poet", 100), ("lawyer", 101), ("base", 199)):
            assert runtime.complete([5, 6], model=model, max_tokens=1).result().token_ids == [token]
        assert card(mine, "poet")["user_data"]["team"] == "a"
        assert mine.frontend.is_alive
        wait_until(lambda: listed(mine) == ["base", "lawyer", "poet"])
        body = {"model": "lawyer", "prompt": [5, 6], "max_tokens": 1}
        wait_until(lambda: post(f"{mine.url}/completions", body)[0] == 200)
        assert AdapterEngine.last == "lawyer"
        with Runtime(engine="dynamo", cluster=mine.settings) as plain:  # through the frontend in the process
            wait_until(lambda: [model.get("frontend") for model in plain.models()] == [True] * 3)
            for model in ("poet", "base"):
                plain.chat("hi", model=model, max_tokens=1).result()
                assert AdapterEngine.last == (None if model == "base" else model)
    assert mine.keys("v1/mdc/") == []


def test_decode_workers_that_need_no_prefill(new_cluster: NewCluster) -> None:
    """With "needs": [], a decode worker answers alone until a prefill worker comes, and after it has left."""
    mine = new_cluster("file-tcp-zmq")
    RoleEngine.requests.clear()
    with (
        start_role(mine, "decode", needs=[["prefill"], ["decode"]]),
        Runtime(engine="dynamo", cluster=mine.settings, pipeline="off") as runtime,
    ):

        def answer() -> list[int]:
            try:
                return runtime.complete([5, 6, 7], max_tokens=9).result().token_ids
            except UnavailableError:  # while Dynamo activates its routing of prefills
                return []

        wait_until(lambda: answer() == [400, 401])
        with start_role(mine, "prefill"):
            wait_until(lambda: answer() == [200, 303, 401])
        wait_until(lambda: answer() == [400, 401])


def test_the_rest_of_the_card(new_cluster: NewCluster) -> None:
    """A router, further attributes of Dynamo's ModelRuntimeConfig, and the needs are on the card."""
    mine = new_cluster("file-tcp-zmq")
    more = {
        "taints": ["spot"],
        "stable_routing_id": "replica-3",
        "topology_domains": {"zone": "a"},
        "bootstrap_host": "10.0.0.7",
        "bootstrap_port": 8998,
        "runtime_data": {"build": {"number": 7}},
        "enable_eagle": True,
    }
    model = {
        "needs": [["prefill", "encode"], ["aggregated"]],
        "router": "kv",
        "router_options": {"router_temperature": 0.5, "session_affinity_ttl_secs": 60},
        "max_gpu_lora_count": 2,
        "runtime_config": more,
    }
    with start_role(mine, "decode", **model):
        found = card(mine, "roles")
        config = found["runtime_config"]
        assert config["taints"] and "spot" in config["taints"]
        assert config["stable_routing_id"] == "replica-3" and config["topology_domains"] == {"zone": "a"}
        assert config["enable_eagle"] is True
        assert config["disaggregated_endpoint"] == {"bootstrap_host": "10.0.0.7", "bootstrap_port": 8998}
        assert config["runtime_data"]["build"] == {"number": 7}
        assert found["needs"] == [["prefill", "encode"], ["aggregated"]], found["needs"]
        assert found["router_config"]["session_affinity_ttl_secs"] == 60
        assert found["router_config"]["kv_router_config"]["router_temperature"] == 0.5


def serve(cluster: Cluster, number: int, worker: dict[str, Any], **variables: str) -> None:
    """Starts ``dynamo-llm serve`` with an engine that answers with a token of its own."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    engine = {"engine": f"{name}:AdapterEngine", "python": {"path": folders}, "options": {"token": number}}
    words = ["serve", f"--config={json.dumps(engine)}", f"--cluster={json.dumps(cluster.settings)}"]
    words.append(f"--worker={json.dumps(worker)}")
    process = cluster.python(f"serve{number}", "dynamo_llm", *words, environment=variables)
    cluster.wait(lambda: "Serving" in process.log)


def test_serve_takes_the_whole_configuration(new_cluster: NewCluster) -> None:
    """``serve --worker`` sets any key; Dynamo's frontend keeps sessions as the workers' card says."""
    mine = new_cluster("file-tcp-zmq")
    model = {
        "name": "own",
        "kv_block_size": 32,
        "user_data": {"team": "b"},
        "router": "round_robin",
        "router_options": {"session_affinity_ttl_secs": 60},
    }
    for number in (7, 8):
        serve(mine, number, {"endpoint": "own.generate", "model": model, "health": {"stall_ms": 5000}})
    assert len(mine.instances("dynamo.own.generate")) == 2
    assert (card(mine, "own")["kv_cache_block_size"], card(mine, "own")["user_data"]["team"]) == (32, "b")
    assert mine.frontend.is_alive
    wait_until(lambda: "own" in listed(mine) and len(mine.frontend.instances()) == 2)

    def ask(session: str) -> str:
        request = urllib.request.Request(
            f"{mine.url}/completions",
            json.dumps({"model": "own", "prompt": [5, 6], "max_tokens": 1}).encode(),
            {"Content-Type": "application/json", "X-Dynamo-Session-Id": session},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(json.loads(response.read())["choices"][0]["text"])

    wait_until(lambda: len({ask(str(number)) for number in range(4)}) == 2)
    for session in ("a", "b", "c"):
        assert len({ask(session) for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"needs": [["chef"]]}, '"model.needs" .* some of aggregated, prefill, decode, encode'),
        ({"needs": ["prefill"]}, '"model.needs" .* array of arrays'),
        ({"router_options": {"x": 1}}, '"model.router_options" .* requires "model.router"'),
        (
            {"router": "random", "router_options": {"router_temperature": 1}},
            '"model.router_options" .*"router_temperature", which requires the "router" "kv"',
        ),
        (
            {"runtime_config": {"taint": ["spot"]}},
            'unknown key "model.runtime_config.taint".*did you mean "model.runtime_config.taints"',
        ),
        ({"runtime_config": {"taints": 7}}, '"model.runtime_config.taints" .* is invalid'),
        ({"runtime_config": {"total_kv_blocks": 7}}, 'must be left out; set "model.total_kv_blocks" instead'),
        ({"role": "encode"}, '"model.role" .* one of aggregated, prefill, decode'),
    ],
)
def test_mistakes(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    """Each error names the key and what would be right."""
    runtime = {"engine": f"{name}:AdapterEngine", **python_path}
    cluster = {"discovery": "file", "path": str(tmp_path)}
    with pytest.raises(InvalidConfigError, match=message):
        Runtime(
            engine="dynamo_llm.runtime.cluster.worker.engine:WorkerEngine",
            options={"cluster": cluster, "endpoint": "a.b.c", "runtime": runtime, "model": model},
        )

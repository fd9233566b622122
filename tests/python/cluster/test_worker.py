# SPDX-License-Identifier: Apache-2.0
"""Workers: engines of this library behind Dynamo's frontend, and behind its own client."""

import asyncio
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from cluster_rig import Cluster, NewCluster
from cluster_worker import Sleeper, Worker, babble, post, register_babble, register_tokens, stream
from conftest import run_python
from dynamo_llm import (
    DeadlineExceededError,
    DynamoError,
    InvalidConfigError,
    InvalidStateError,
    UnavailableError,
    paths,
)
from dynamo_llm.runtime.cluster.worker.registration import Registration
from waiting import patience

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

here = Path(__file__).resolve().parent
python_path = {"python": {"path": [str(here)]}}
question = {"messages": [{"role": "user", "content": "What is a KV cache?"}], "max_tokens": 12}


# Session scope: pytest may return to this module for another cluster.
@pytest.fixture(scope="session", autouse=True)
def engine_in_c(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Registers the engine "babble-tokens"."""
    register_babble(tmp_path_factory.mktemp("babble"))


@pytest.fixture
def alone(new_cluster: NewCluster) -> Cluster:
    """A cluster for one test, with a frontend and no servers."""
    made = new_cluster("file-tcp-zmq")
    assert made.frontend.is_alive
    return made


def known(cluster: Cluster, model: str) -> None:
    """Waits until the frontend can route to a worker of the model."""
    cluster.wait(lambda: model in (cluster.models() or []) and cluster.frontend.instances())


def ask(cluster: Cluster, path: str, request: Any, **metadata: str) -> list[Any]:
    """Returns the answer that Dynamo's own client gets in another process."""
    planes = [
        cluster.combination.discovery,
        cluster.combination.request_plane,
        cluster.combination.event_plane,
    ]
    command = [sys.executable, str(here / "cluster_client.py"), *planes, path, repr(request)]
    process = cluster.run("client", [*command, json.dumps(metadata)])
    assert process.wait() == 0, process.log
    return [json.loads(line) for line in process.log.splitlines() if line.startswith("{")]


def test_an_engine_in_c(cluster: Cluster) -> None:
    """Answers chats and completions, streamed and not, over each combination of planes."""
    url = cluster.url
    before = cluster.keys("v1/")
    with Worker(cluster, **babble()) as worker:
        known(cluster, "babble")
        assert worker.info["state"] == "serving" and worker.info["kind"] == "tokens"
        assert worker.info["worker_id"] in cluster.instances("dynamo.backend.generate")
        chat = {"model": "babble", **question, "ignore_eos": True}
        completion = {"model": "babble", "prompt": [5, 6, 7], "max_tokens": 9, "ignore_eos": True}
        for path, body, count in (("chat/completions", chat, 12), ("completions", completion, 9)):
            status, answer = post(f"{url}/{path}", body)
            assert (status, answer["choices"][0]["finish_reason"]) == (200, "length"), answer
            assert answer["usage"]["completion_tokens"] == count
            message = answer["choices"][0].get("message")
            whole = message["content"] if message else answer["choices"][0]["text"]
            events = list(stream(f"{url}/{path}", body))
            parts = [event["choices"][0] for event in events if event["choices"]]
            assert parts[-1]["finish_reason"] == "length"
            texts = [part.get("text") or part.get("delta", {}).get("content") or "" for part in parts]
            assert whole and "".join(texts) == whole
        status, answer = post(f"{url}/chat/completions", {**chat, "n": 2})
        assert [choice["index"] for choice in answer["choices"]] == [0, 1]
        assert worker.info["served"] == 5 and worker.info["failed"] == 0
    assert cluster.keys("v1/") == before


def test_request_that_an_engine_gets(alone: Cluster, tmp_path: Path) -> None:
    """The body has all defaults resolved; log-probs come back, and clients see the card."""
    library = register_tokens(tmp_path)
    model = {"name": "ct", "kv_block_size": 16, "data_parallel_size": 2, "user_data": {"a": 1}}
    with Worker(alone, {"engine": "worker-ctokens"}, model=model):
        known(alone, "ct")
        body = {
            "model": "ct",
            "prompt": "hello",
            "max_tokens": 20,
            "min_tokens": 1,
            "temperature": 0.5,
            "seed": 3,
            "logprobs": 2,
            "guided_regex": "a+",
            "stop": ["never"],
            "nvext": {"cache_salt": "salt", "agent_hints": {"priority": 4}},
        }
        status, answer = post(f"{alone.url}/completions", body)
        assert status == 200, answer
        choice = answer["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("hello", "stop")
        assert choice["logprobs"]["token_logprobs"] == [-0.25] * 3
        assert choice["logprobs"]["top_logprobs"][0] == {"!": -0.25, '"': -1.5, "he": -0.25}
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
        assert json.loads(library.last_body()) == {
            "prompt": [410, 326, 83],
            "max_tokens": 20,
            "min_tokens": 1,
            "stop_token_ids": [0],
            "ignore_eos": False,
            "logprobs": 2,
            "priority": 4,
            "temperature": 0.5,
            "seed": 3,
            "guided_regex": "a+",
            "nvext": {"cache_salt": "salt"},
        }
        files = [file for file in Path(alone.settings["path"], "v1/mdc").rglob("*") if file.is_file()]
        cards = {
            card["card_json"]["display_name"]: card for card in map(json.loads, map(Path.read_text, files))
        }
        assert '"a": 1' in json.dumps(cards["ct"])


def test_the_library_is_the_client_too(alone: Cluster) -> None:
    """The tokens are the same as without a cluster; deadlines and cancellations reach the worker."""
    keys = babble(step_us=2000)
    with (
        dynamo_llm.Runtime({**keys["runtime"], "pipeline": "off"}) as local,
        Worker(alone, **keys) as worker,
        dynamo_llm.Runtime(engine="dynamo", cluster=alone.settings) as runtime,
    ):
        body = {"model": "babble", "max_tokens": 20, "ignore_eos": True}
        expected = local.complete([5, 6, 7], max_tokens=20, ignore_eos=True).result()
        result = runtime.complete([5, 6, 7], **body).result()
        assert result.token_ids == expected.token_ids
        with pytest.raises(DeadlineExceededError):
            runtime.complete([5], **{**body, "max_tokens": 4000}, timeout=0.3).result()
        request = runtime.complete([5], **{**body, "max_tokens": 4000})
        request.receive()
        request.cancel()
        alone.wait(lambda: worker.info["in_flight"] == 0)


def test_a_text_model(alone: Cluster) -> None:
    """mistral.rs with the demo model."""
    with Worker(alone, {"engine": "mistralrs"}, model={"name": "demo"}) as worker:
        known(alone, "demo")
        assert worker.info["kind"] == "text"
        body = {"model": "demo", **question, "temperature": 0, "nvext": {"agent_hints": {"priority": 1}}}
        status, answer = post(f"{alone.url}/chat/completions", body)
        assert status == 200 and answer["choices"][0]["message"]["content"].startswith("A KV cache")
        assert (answer["model"], answer["usage"]["completion_tokens"]) == ("demo", 12)
        events = list(stream(f"{alone.url}/chat/completions", body))
        texts = [event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]]
        assert "".join(texts) == answer["choices"][0]["message"]["content"]
        status, answer = post(f"{alone.url}/completions", {"model": "demo", "prompt": "Hi", "max_tokens": 4})
        assert (status, answer["usage"]["completion_tokens"]) == (200, 4)


def test_embeddings(alone: Cluster, tmp_path: Path) -> None:
    """An embedding model, with one text and with several."""
    model = {"name": "vectors", "types": ["embeddings"]}
    runtime = {"engine": "mistralrs", "model": str(tiny_models.embedder(tmp_path / "embedder"))}
    with Worker(alone, runtime, model=model), dynamo_llm.Runtime(runtime) as local:
        known(alone, "vectors")
        for texts in ("Hi", ["Hi", "there"]):
            status, answer = post(f"{alone.url}/embeddings", {"model": "vectors", "input": texts})
            assert status == 200, answer
            expected = local.embed(texts).result().json()
            assert [len(one["embedding"]) for one in answer["data"]] == [
                len(one["embedding"]) for one in expected["data"]
            ]
            assert answer["data"][0]["embedding"] == pytest.approx(expected["data"][0]["embedding"], abs=1e-5)
            assert answer["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]


@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-nats-nats"])
def test_a_drain_loses_nothing(new_cluster: NewCluster, combination: str) -> None:
    """Fifty requests in flight complete; then the discovery is empty."""
    alone = new_cluster(combination)
    with Worker(alone, **babble(step_us=2000)) as worker, ThreadPoolExecutor(50) as threads:
        known(alone, "babble")
        body = {"model": "babble", **question, "max_tokens": 400, "ignore_eos": True}
        answers = [threads.submit(post, f"{alone.url}/chat/completions", body) for _ in range(50)]
        alone.wait(lambda: worker.info["in_flight"] == 50)
        ending = worker.send(shutdown=-1)
        alone.wait(lambda: not alone.keys("v1/mdc/") and not alone.instances())
        assert worker.info["state"] in ("draining", "stopped")
        assert ending.result() == [{"drained": True, "cancelled": 0}]
        for future in answers:
            status, answer = future.result()
            assert status == 200 and answer["usage"]["completion_tokens"] == 400, answer
        assert worker.command(wait=0) == {"stopped": True}
        assert worker.info["served"] == 50 and worker.info["failed"] == 0
        alone.wait(lambda: alone.models() == [])


def test_drain_timeout(alone: Cluster) -> None:
    """Remaining requests are cancelled; their callers get an error."""
    with Worker(alone, **babble(step_us=20000)) as worker, ThreadPoolExecutor(1) as threads:
        known(alone, "babble")
        assert worker.command(wait=0) == {"stopped": False}
        body = {"model": "babble", **question, "max_tokens": 4000, "ignore_eos": True}
        answer = threads.submit(post, f"{alone.url}/chat/completions", body)
        alone.wait(lambda: worker.info["in_flight"] == 1)
        waiting = worker.send(wait=-1)
        assert worker.command(shutdown=50) == {"drained": False, "cancelled": 1}
        assert waiting.result() == [{"stopped": True}]
        assert answer.result()[0] == 503
        assert worker.command(shutdown=0) == {"drained": False, "cancelled": 1}
        assert worker.info["state"] == "stopped"


statuses = {
    "INVALID_REQUEST": 400,
    "CONTEXT_LENGTH": 400,
    "NOT_SUPPORTED": 400,
    "MODEL_NOT_FOUND": 404,
    "OVERLOADED": 429,
    "CANCELLED": 499,
    "ENGINE_FAILED": 500,
    "UNAVAILABLE": 503,
    "CLOSED": 503,
    "DEADLINE_EXCEEDED": 504,
}


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the tests of errors."""
    from cluster_rig.fixtures import end, make

    made = make("file-tcp-zmq", tmp_path_factory)
    try:
        yield made
    finally:
        end(made)


@pytest.mark.parametrize("name", statuses)
def test_errors(frontend: Cluster, name: str) -> None:
    """Each status reaches the frontend; the worker answers the next request."""
    script = [{"error": {"status": name, "message": "the words"}}]
    model = f"m-{name.lower()}"
    runtime = {"engine": "scripted", "options": {"script": script}}
    with Worker(frontend, runtime, endpoint=f"dynamo.{model}.generate", model={"name": model}) as worker:
        frontend.wait(lambda: model in (frontend.models() or []))
        frontend.wait(lambda: worker.info["worker_id"] in frontend.frontend.instances())
        for _ in range(1 if name == "CLOSED" else 2):  # clients exclude a worker that is shutting down
            status, answer = post(f"{frontend.url}/chat/completions", {"model": model, **question})
            assert status == statuses[name], answer
            assert status != 400 or answer["message"] == "the words"
    assert worker is not None


def test_etcd_that_stops_and_returns(new_cluster: NewCluster) -> None:
    """Etcd is down for 20 seconds: worker and client report it, requests continue, and both recover."""
    cluster = new_cluster("etcd-tcp-zmq", lease_ttl=3)
    assert cluster.etcd is not None
    body = {"model": "babble", "ignore_eos": True}
    client = {"engine": "dynamo", "cluster": cluster.settings, "options": {"wait_for_model_ms": 100}}
    with (
        Worker(cluster, **babble(step_us=50000)) as worker,
        dynamo_llm.Runtime(client) as runtime,
    ):
        first = worker.info["worker_id"]
        before = runtime.complete([5, 6], **body, max_tokens=4).result().token_ids
        assert len(before) == 4
        running = runtime.complete([5, 6], **body, max_tokens=400)
        running.receive()
        cluster.etcd.kill()
        back = time.monotonic() + 20
        cluster.wait(lambda: worker.info["state"] == "lost" and not runtime.models())
        with pytest.raises(DynamoError, match="is lost"):
            worker.command(load={"kv_used_blocks": 1})
        with pytest.raises(UnavailableError, match="is being restored"):
            runtime.complete([5], **body, max_tokens=1).result()
        assert sum(len(response.token_ids) for response in running) > 300
        cluster.wait(lambda: time.monotonic() >= back)
        assert worker.info["state"] == "lost" and runtime.models() == []
        cluster.etcd.start()
        cluster.wait(lambda: worker.info["state"] == "serving" and runtime.models())
        again = worker.info["worker_id"]
        assert again != first and again in cluster.instances("dynamo.backend.generate")
        assert runtime.complete([5, 6], **body, max_tokens=4).result().token_ids == before
        known(cluster, "babble")  # the frontend starts only now: it exits when etcd dies
        status, answer = post(
            f"{cluster.url}/chat/completions", {"model": "babble", **question, "ignore_eos": True}
        )
        assert status == 200 and answer["choices"][0]["message"]["content"], answer
        assert worker.command(load={"kv_used_blocks": 1}) == {}


def test_raw_requests(alone: Cluster) -> None:
    """A raw endpoint: JSON and bytes, item by item; other values are rejected."""
    runtime = {"engine": "cluster_worker:Reverse", **python_path}
    path = "dynamo.reverse.run"
    with Worker(alone, runtime, endpoint="reverse.run") as worker:
        assert worker.info["kind"] == "data" and worker.info["model"] is None
        assert worker.info["endpoint"] == path
        assert ask(alone, path, [1, "two"]) == [{"element": 1}, {"element": "two"}]
        assert ask(alone, path, b"\x00ab") == [{"bytes": "626100"}]
        (error,) = ask(alone, path, {"inner": [b"x"]})
        assert "the request.inner[0] is bytes" in error["error"]
        first, error = ask(alone, path, [1, "refuse"])
        assert first == {"element": 1} and "that is refused" in error["error"]
        (error,) = ask(alone, path, [1], **{"dynamo-llm-deadline-seconds": "soon"})
        assert "must be a number of seconds" in error["error"]
        for passed in ("0.000", "-3"):
            (error,) = ask(alone, path, [1], **{"dynamo-llm-deadline-seconds": passed})
            assert error["error"].startswith("DeadlineExceeded"), error
    with pytest.raises(InvalidConfigError, match=r'"model" of the configuration must be left out'):
        Worker(alone, runtime, model={"name": "x"})


def test_a_request_during_a_drain(alone: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled with the others at the timeout; later ones are rejected."""
    is_leaving, has_come = threading.Event(), threading.Event()
    leave = Registration.leave

    async def leave_late(self: Registration) -> None:
        is_leaving.set()
        await asyncio.to_thread(has_come.wait, patience)
        await leave(self)

    caller = {"engine": "dynamo-endpoint", "cluster": alone.settings, "options": {"endpoint": "hold.run"}}
    runtime = {"engine": "cluster_worker:Holder", **python_path}
    with Worker(alone, runtime, endpoint="hold.run") as worker, dynamo_llm.Runtime(caller) as client:
        assert client.data(1).result() == [1]
        monkeypatch.setattr(Registration, "leave", leave_late)
        stopping = worker.runtime.data({"shutdown": 100}, timeout=patience)
        assert is_leaving.wait(patience)
        held = client.data("hold")
        assert held.receive() is not None
        alone.wait(lambda: worker.info["in_flight"] == 1)
        has_come.set()
        assert stopping.result() == [{"drained": False, "cancelled": 1}]
        with pytest.raises(UnavailableError):
            held.result()


def test_many_at_once(tmp_path: Path) -> None:
    """More workers than the event loop has threads start and stop together."""
    code = f"""
import os, sys, threading
sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]
import dynamo_llm

def together(calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

workers = []
def start(number):
    workers.append(dynamo_llm.Worker(
        endpoint=f"many.c{{number}}.run",
        runtime={{"engine": "cluster_worker:Holder"}},
        cluster={{"discovery": "file", "path": {str(tmp_path)!r}}},
    ))

count = min(32, os.cpu_count() + 4) + 1
together([lambda number=number: start(number) for number in range(count)])
assert len(workers) == count, workers
together([worker.close for worker in workers])
print("done")
"""
    result = run_python(code)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


def test_an_engine_that_hangs(alone: Cluster) -> None:
    """The worker reports it, and receives no requests until the engine answers again."""
    runtime = {"engine": "cluster_worker:Sleeper", **python_path}
    with (
        Worker(alone, runtime, model={"name": "sleepy"}, health={"stall_ms": 200}) as worker,
        ThreadPoolExecutor(1) as threads,
    ):
        known(alone, "sleepy")
        assert worker.info["healthy"]
        Sleeper.is_asleep = True
        try:
            answer = threads.submit(post, f"{alone.url}/chat/completions", {"model": "sleepy", **question})
            alone.wait(lambda: not worker.info["healthy"])
            assert "silent for 0.2 seconds" in worker.info["problem"]
            alone.wait(lambda: not alone.instances("dynamo.backend.generate"))
        finally:
            Sleeper.is_asleep = False
        assert answer.result()[0] == 200
        alone.wait(lambda: worker.info["healthy"] and alone.instances("dynamo.backend.generate"))


def test_commands(alone: Cluster) -> None:
    """Publishes a load, and rejects a second worker of the endpoint."""
    with Worker(alone, **babble()) as worker:
        assert worker.command(load={"data_parallel_rank": 0, "active_decode_blocks": 3}) == {}
        with pytest.raises(InvalidStateError, match=r"already serves the endpoint dynamo.backend.generate"):
            Worker(alone, **babble())
        worker.command(shutdown=0)
        with pytest.raises(DynamoError, match="has stopped"):
            worker.command(load={})
    for _ in range(2):  # once more in the same process
        with Worker(alone, **babble()) as worker:
            assert worker.info["state"] == "serving"


demo = str(paths.demo_model_dir())
good = {"endpoint": "a.b.c", "runtime": {"engine": "echo"}}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": {}}, '"endpoint" of the configuration is missing'),
        ({"endpoint": "a.b.c"}, '"runtime" of the configuration is missing'),
        ({**good, "endpoint": "a.b.c.d"}, "must be namespace.component.endpoint"),
        ({**good, "endpoints": 1}, 'unknown key "endpoints".*did you mean "endpoint"'),
        (
            {**good, "drain_ms": -5},
            '"drain_ms" of the configuration must be an integer from -1 to 1000000000000, not -5',
        ),
        ({**good, "health": {"stall": 5}}, 'unknown key "health.stall".*did you mean "health.stall_ms"'),
        (
            {**good, "health": {"stall_ms": -1}},
            '"health.stall_ms" of the configuration must be an integer of at least 0, not -1',
        ),
        ({**good, "model": {"nam": "x"}}, 'unknown key "model.nam".*did you mean "model.name"'),
        ({**good, "model": {"name": ""}}, '"model.name" of the configuration must be a non-empty string'),
        (
            {**good, "model": {"kv_block_size": 0}},
            '"model.kv_block_size" .* must be an integer from 1 to 4294967295, not 0',
        ),
        ({**good, "model": {"role": "both"}}, '"model.role" .* one of aggregated, prefill, decode'),
        ({**good, "model": {"types": ["talk"]}}, '"model.types" .* chat, completions, embeddings'),
        ({**good, "model": {"chat_template": "/none"}}, '"model.chat_template" .* is not a file'),
        ({**good, "model": {"input": "tokens"}}, '"model.input" .* takes OpenAI request bodies'),
        ({**good, "model": {"path": "/none"}}, '"model.path" .* is not a folder with a config.json'),
        ({**good, "model": {"tool_call_parser": "x"}}, '"model.tool_call_parser" .* must be one of'),
        ({**good, "runtime": {"pipeline": "off"}}, '"runtime.pipeline" .* must be left out'),
        ({**good, "runtime": {"models": []}}, '"runtime.models" .* must be left out'),
        ({**good, "runtime": {"engine": "babble-tokens"}}, '"model.path" of the configuration is missing'),
        ({**good, "cluster": {"discovery": "x"}}, '"cluster.discovery"'),
    ],
)
def test_wrong_configurations(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Each error names the key and the valid values."""
    options = {"cluster": {"discovery": "file", "path": str(tmp_path)}, **options}
    with pytest.raises(InvalidConfigError, match=words):
        dynamo_llm.Runtime(engine="dynamo_llm.runtime.cluster.worker.engine:WorkerEngine", options=options)

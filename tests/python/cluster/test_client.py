# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo`` against workers of real clusters, including failures of workers and servers."""

import importlib.metadata
import importlib.util
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest
from cluster_rig import Cluster, NewCluster
from conftest import Ask, run, tests_dir
from dynamo_llm import (
    CancelledError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    Response,
    Runtime,
    UnavailableError,
)
from position_client import client, names, position_worker, said, tokens
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)


# ------------------------------------------------------------------------------------- requests


def test_their_worker(cluster: Cluster) -> None:
    """Chat and completion, streamed and not, over each combination; the request names no model."""
    with client(cluster) as runtime:
        wait_until(lambda: cluster.model in names(runtime))
        streamed = runtime.chat("hi", model=cluster.model, max_tokens=8)
        assert "".join(response.text for response in streamed) == '!"#$'
        whole = runtime.chat("hi", model=cluster.model, max_tokens=8, stream=False).result()
        assert (whole.text, whole.finish_reason) == ('!"#$', "length")
        for prompt in ("hi", [5, 6]):
            assert tokens(runtime.complete(prompt, model=cluster.model, max_tokens=4)) == [1, 2, 3, 4]
            answer = runtime.complete(prompt, model=cluster.model, max_tokens=8, stream=False).result().json()
            assert answer["choices"][0]["text"] == '!"#$' and answer["usage"]["completion_tokens"] == 8


def test_keys_of_a_request(new_cluster: NewCluster) -> None:
    """Sampling, hints, trace context, and deadline reach the worker; counts and log-probs come back."""
    mine = new_cluster()
    worker = position_worker(mine)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    with client(mine) as runtime:
        result = runtime.complete(
            [5, 6, 7],
            max_tokens=2,
            temperature=0.5,
            seed=9,
            logprobs=1,
            timeout=60,
            traceparent=trace,
            nvext={"agent_hints": {"priority": 3, "osl": 50}, "cache_salt": "salt"},
        ).result()
    answer = result.json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
    assert answer["choices"][0]["logprobs"]["token_logprobs"] == [-0.5, -0.5]
    (request,), (metadata,) = said(worker, "request"), said(worker, "metadata")
    assert request["token_ids"] == [5, 6, 7] and request["model"] == "position"
    assert request["sampling_options"]["temperature"] == 0.5 and request["sampling_options"]["seed"] == 9
    routing = request["routing"]
    assert (routing["priority"], routing["cache_salt"], routing["expected_output_tokens"]) == (3, "salt", 50)
    assert metadata["traceparent"] == trace
    assert 0 < float(metadata["dynamo-llm-deadline-seconds"]) <= 60


def test_without_the_pipeline(new_cluster: NewCluster) -> None:
    """Token ids in, token ids out."""
    mine = new_cluster()
    position_worker(mine)
    with client(mine, pipeline="off") as runtime:
        assert tokens(runtime.complete([5, 6, 7], max_tokens=3)) == [103, 104, 105]
        with pytest.raises(NotSupportedError, match="array of token ids"):
            runtime.complete("text", max_tokens=3).result()


def test_cancel_and_deadline_reach_the_worker(new_cluster: NewCluster) -> None:
    """The worker stops, and the caller gets the error at once."""
    mine = new_cluster()
    worker = position_worker(mine, "--delay=0.02")
    with client(mine) as runtime:
        request = runtime.complete([5], max_tokens=900)
        next(iter(request))
        request.cancel()
        with pytest.raises(CancelledError):
            request.result()
        mine.wait(lambda: len(said(worker, "stopped")) == 1)
        with pytest.raises(DeadlineExceededError):
            runtime.complete([5], max_tokens=900, timeout=0.3).result()
        mine.wait(lambda: len(said(worker, "stopped")) == 2)
        # A stop string ends the answer here; the worker must be cancelled.
        text = runtime.complete([5], max_tokens=4).result().text
        assert runtime.complete([5], max_tokens=900, stop=text[1:3]).result().finish_reason == "stop"
        mine.wait(lambda: len(said(worker, "stopped")) == 3)


def test_text_models(new_cluster: NewCluster) -> None:
    """Workers that take OpenAI request bodies: chat, completion, and cancel, beside a token-level model."""
    mine = new_cluster()
    worker = position_worker(mine, "--text", "--name=words", "--component=words")
    position_worker(mine)
    with client(mine) as runtime:
        assert names(runtime) == ["position", "words"]
        streamed = list(runtime.chat("hi", model="words", max_tokens=3))
        assert "".join(response.text for response in streamed) == "0 1 2 "
        whole = runtime.complete("hi", model="words", max_tokens=3, stream=False).result()
        assert (whole.text, whole.finish_reason) == ("0 1 2 ", "length")
        request = runtime.chat("hi", model="words", max_tokens=100000)
        next(iter(request))
        request.cancel()
        mine.wait(lambda: said(worker, "stopped"))
        assert tokens(runtime.complete([5], model="position", max_tokens=2)) == [101, 102]


def test_a_worker_that_ends_early(new_cluster: NewCluster) -> None:
    """An answer without a finish_reason is incomplete. (Dynamo's frontend adds "stop".)"""
    mine = new_cluster()
    position_worker(mine)
    with (
        client(mine, {"frontend": False}) as runtime,
        pytest.raises(EngineFailedError, match="finish_reason"),
    ):
        runtime.complete([2, 2, 2], max_tokens=3).result()


# The order of position_worker.failures.
errors: list[tuple[str, type[DynamoError]]] = [
    ("InvalidArgument", InvalidRequestError),
    ("Disconnected", UnavailableError),
    ("ConnectionTimeout", DeadlineExceededError),
    ("Cancelled", CancelledError),
    ("Unknown", EngineFailedError),
    ("ValueError", InvalidRequestError),
    ("KeyError", EngineFailedError),
    ("TimeoutError", DeadlineExceededError),
    ("400", InvalidRequestError),
    ("401", EngineFailedError),
    ("403", EngineFailedError),
    ("404", ModelNotFoundError),
    ("408", DeadlineExceededError),
    ("409", EngineFailedError),
    ("413", InvalidRequestError),
    ("422", InvalidRequestError),
    ("429", OverloadedError),
    ("499", CancelledError),
    ("500", EngineFailedError),
    ("501", NotSupportedError),
    ("502", EngineFailedError),
    ("503", UnavailableError),
    ("504", DeadlineExceededError),
    ("529", OverloadedError),
]


def test_errors_of_workers(new_cluster: NewCluster) -> None:
    """Each has its own status, and keeps its message."""
    mine = new_cluster()
    position_worker(mine)
    with client(mine, settings={"migration_limit": 0}) as runtime:
        for number, (name, kind) in enumerate(errors):
            # Some make Dynamo exclude the worker for a while; then requests wait, since there is no other.
            with pytest.raises(DynamoError) as caught:
                runtime.complete([1, number], max_tokens=3).result()
            assert type(caught.value) is kind, (name, caught.value)
            # Dynamo's frontend replaces the texts of time limits and cancels; 1.7, also of other errors.
            is_replaced = kind in (DeadlineExceededError, CancelledError)
            if importlib.metadata.version("ai-dynamo-runtime") >= "1.7":
                is_replaced |= kind is InvalidRequestError and name != "InvalidArgument"
            assert "no" in str(caught.value) or is_replaced, name
        with pytest.raises(ContextLengthError):
            runtime.complete([5] * 2000, max_tokens=3).result()


# ------------------------------------------------------------------------------------- models


def test_models_come_and_go(new_cluster: NewCluster) -> None:
    """Requests wait for their model; the list contains the live models."""
    mine = new_cluster()
    with client(mine, {"wait_for_model_ms": 60000}) as runtime:
        assert names(runtime) == []
        waiting = runtime.complete([5], max_tokens=2)
        worker = position_worker(mine)
        assert tokens(waiting) == [101, 102]
        (model,) = runtime.models()
        assert (model["id"], model["engine"], model["context_length"]) == ("position", "dynamo", 1024)
        with pytest.raises(ModelNotFoundError, match='did you mean "position"'):
            runtime.complete([5], model="positon", max_tokens=2).result()
        position_worker(mine, "--name=second", "--component=second")
        wait_until(lambda: names(runtime) == ["position", "second"])
        with pytest.raises(ModelNotFoundError, match="position, second"):
            runtime.complete([5], max_tokens=2).result()
        worker.kill()
        wait_until(lambda: names(runtime) == ["second"])
        assert tokens(runtime.complete([5], max_tokens=2)) == [101, 102]
        position_worker(mine)
        assert tokens(runtime.complete([5], model="position", max_tokens=2)) == [101, 102]


def answered(runtime: Runtime, prompt: str) -> list[Response]:
    """Returns the answer, or nothing if no worker is available at the moment."""
    try:
        return list(runtime.complete(prompt, model="position", max_tokens=2))
    except UnavailableError:
        return []


def test_a_model_returns_with_another_kind(new_cluster: NewCluster) -> None:
    """A name refers to its current model: first a token-level one, then a text model."""
    mine = new_cluster()
    with client(mine, {"wait_for_model_ms": 60000}) as runtime:
        for kind in ("tokens", "text", "tokens"):
            arguments = ["--text"] if kind == "text" else []
            worker = position_worker(mine, *arguments)
            # At first the router may still lack a connection to the worker: UNAVAILABLE, so ask again.
            answer = wait_until(lambda: answered(runtime, "hi"), lambda kind=kind: f"no answer: {kind}")  # type: ignore[misc]
            assert ("".join(response.text for response in answer) == "0 1 ") == (kind == "text"), kind
            worker.kill()
            wait_until(lambda: names(runtime) == [])


def test_names(new_cluster: NewCluster) -> None:
    """A name of the runtime's own, and several models in a configuration."""
    mine = new_cluster()
    position_worker(mine)
    with client(mine, name="mine", model="position") as runtime:
        assert tokens(runtime.complete([5], model="mine", max_tokens=1)) == [101]
    models = [
        {"name": "local", "engine": "echo"},
        {"name": "far", "engine": "dynamo", "cluster": mine.settings},
    ]
    with Runtime(models=models) as runtime:
        assert names(runtime) == ["local", "position"]
        for name in ("far", "position"):
            assert tokens(runtime.complete([5], model=name, max_tokens=1)) == [101]


def test_unusable_models(new_cluster: NewCluster) -> None:
    """The error contains the reason."""
    mine = new_cluster()
    position_worker(mine, "--completions", "--name=old")
    settings = {"frontend": False}
    with client(mine, settings) as runtime, pytest.raises(NotSupportedError, match=r'"old".*Completions'):
        runtime.complete([5], model="old", max_tokens=2).result()


def test_no_worker(new_cluster: NewCluster) -> None:
    """A request fails after the configured time, or at its deadline."""
    with client(new_cluster(), {"wait_for_model_ms": 200}) as runtime:
        with pytest.raises(UnavailableError, match=r'no worker for the model "x" in the namespace "dynamo"'):
            runtime.chat("hi", model="x").result()
        with pytest.raises(DeadlineExceededError):
            runtime.chat("hi", model="x", timeout=0.05).result()


def test_no_time_to_wait(new_cluster: NewCluster) -> None:
    """A live model answers; a request to any other fails at once."""
    mine = new_cluster()
    with client(mine, {"wait_for_model_ms": 0}) as runtime:
        with pytest.raises(UnavailableError, match="for 0 ms"):
            runtime.complete([5], max_tokens=2).result()
        position_worker(mine)
        wait_until(lambda: names(runtime) == ["position"])
        assert tokens(runtime.complete([5], max_tokens=2)) == [101, 102]


# ------------------------------------------------------------------------------------- routing


def test_a_direct_worker(new_cluster: NewCluster) -> None:
    """The request selects the worker."""
    mine = new_cluster()
    workers = [position_worker(mine) for _ in range(2)]
    with client(mine, settings={"router": "direct"}) as runtime:
        wait_until(lambda: names(runtime) == ["position"])
        for worker in workers:
            (instance,) = said(worker, "ready")
            for _ in range(3):
                result = runtime.complete([5], max_tokens=1, nvext={"backend_instance_id": instance}).result()
                assert result.finish_reason == "length"
        assert [len(said(worker, "request")) for worker in workers] == [3, 3]


@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-nats-nats"])
def test_routing_by_kv_cache(new_cluster: NewCluster, combination: str) -> None:
    """Each prompt goes to the worker that has it in its cache."""
    mine = new_cluster(combination)
    workers = [position_worker(mine, "--kv") for _ in range(3)]
    # Seven, an odd number: round robin would alternate. All blocks differ.
    prompts = [list(range(64 * number, 64 * (number + 1))) for number in range(1, 8)]
    owned = [{64, 128, 192}, {256, 320}, {384, 448}]

    def ask_all(runtime: Runtime) -> list[set[int]]:
        """Returns which worker received each prompt."""
        before = [len(said(worker, "request")) for worker in workers]
        for prompt in prompts:
            runtime.complete(prompt, max_tokens=1).result()
        got = [said(worker, "request")[count:] for worker, count in zip(workers, before, strict=True)]
        return [{request["token_ids"][0] for request in requests} for requests in got]

    with client(mine, settings={"router": "kv"}) as runtime:
        with client(mine, settings={"router": "direct"}) as direct:
            for worker, own in zip(workers, owned, strict=True):
                (instance,) = said(worker, "ready")
                for prompt in prompts:
                    if prompt[0] in own:  # answers of two tokens are kept in the cache
                        direct.complete(
                            prompt, max_tokens=2, nvext={"backend_instance_id": instance}
                        ).result()
        # Events take a while to arrive; then the result is stable.
        for _ in range(3):
            wait_until(lambda: ask_all(runtime) == owned)


# ------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-nats-nats"])
def test_a_worker_dies(new_cluster: NewCluster, combination: str) -> None:
    """The stream continues on the other worker, without a lost or duplicated token."""
    mine = new_cluster(combination)
    workers = [position_worker(mine, "--delay=0.02") for _ in range(2)]
    with client(mine) as runtime:
        request = runtime.complete([5, 6], max_tokens=100)
        stream = iter(request)
        got = list(next(stream).token_ids)
        (busy,) = [worker for worker in workers if said(worker, "request")]
        busy.kill()
        got += [token for response in stream for token in response.token_ids]
    assert got == list(range(102, 202))


def test_etcd_is_away(new_cluster: NewCluster) -> None:
    """Etcd is down for longer than the lease: running requests continue, later ones succeed."""
    mine = new_cluster("etcd-tcp-zmq", lease_ttl=5)
    assert mine.etcd is not None
    position_worker(mine, "--delay=0.05").may_end = True
    with client(mine, {"wait_for_model_ms": 100}) as runtime:
        running = runtime.complete([5], max_tokens=400)
        next(iter(running))
        mine.etcd.process.kill()
        wait_until(lambda: names(runtime) == [])
        with pytest.raises(UnavailableError, match="is being restored"):
            runtime.complete([5], max_tokens=1).result()
        assert len(tokens(running)) > 100
        mine.etcd.start()
        position_worker(mine)
        wait_until(lambda: names(runtime) == ["position"])
        assert tokens(runtime.complete([5], max_tokens=2)) == [101, 102]


def test_one_of_several_servers(new_cluster: NewCluster) -> None:
    """Unreachable servers do not matter as long as one responds."""
    mine = new_cluster("etcd-nats-nats")
    position_worker(mine)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{closed.getsockname()[1]}"
        settings = mine.settings
        settings["etcd"].append(f"http://{away}")
        settings["nats"].insert(0, f"nats://{away}")
        with client(mine, settings=settings) as runtime:
            assert tokens(runtime.complete([5], max_tokens=2)) == [101, 102]


def test_no_server(new_cluster: NewCluster) -> None:
    """An absent or hanging etcd is an error in time, and blocks no other user of the process."""
    mine = new_cluster("etcd-tcp-zmq")
    assert mine.etcd is not None
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        absent = f"http://127.0.0.1:{closed.getsockname()[1]}"
        mine.etcd.process.pause()
        try:
            for url in (absent, mine.etcd.url):
                failed: list[DynamoError] = []

                def start(url: str = url, failed: list[DynamoError] = failed) -> None:
                    with pytest.raises(UnavailableError) as caught:
                        client(mine, settings={"etcd": [url], "connect_timeout_ms": 1500})
                    failed.append(caught.value)

                thread = threading.Thread(target=start)
                with Runtime(engine="dynamo_llm.runtime.engines.tokenizer:TokenizerEngine") as other:
                    thread.start()
                    answered = 0
                    while thread.is_alive():
                        assert names(other)
                        answered += 1
                        threading.Event().wait(0.01)
                    thread.join()
                assert url in str(failed[0]) and answered > 10
        finally:
            mine.etcd.process.resume()


# ------------------------------------------------------------------------------------- others


def test_in_c(ask: Ask, new_cluster: NewCluster) -> None:
    """The ordinary program in C, with a configuration that names the cluster."""
    mine = new_cluster()
    position_worker(mine)
    config = {"engine": "dynamo", "model": "position", "cluster": mine.settings}
    # Without HOME, as in a service.
    assert ask.text(config, "hi")
    config["model"] = "absent"
    status, message = ask.error(config)
    assert status == "DYNAMO_ERROR_MODEL_NOT_FOUND" and "position" in message


def test_the_page(tmp_path: Path) -> None:
    """The commands of docs/join-a-cluster.md."""
    pytest.importorskip("dynamo.common.backend", reason="needs ai-dynamo")
    root = tests_dir.parent
    shutil.copy(root / "examples" / "cpp" / "chat.cpp", tmp_path)
    script = (root / "docs" / "snippets" / "cluster" / "join.bash").read_text()
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    result = run(["bash", "-e", "-c", script], {"PATH": path, "HOME": str(tmp_path)}, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    expected = (root / "docs" / "snippets" / "cluster" / "join.out").read_text()
    assert result.stdout == expected, result.stdout + result.stderr
    # This line, once for each model, cannot be disabled.
    others = [
        line for line in result.stderr.splitlines() if line and "Selected model parser route" not in line
    ]
    assert others == []


def test_wrong_options(new_cluster: NewCluster) -> None:
    """The error names them."""
    mine = new_cluster()
    with pytest.raises(InvalidConfigError, match="wait_for_model_ms"):
        client(mine, {"wait_for_model": 3})
    with pytest.raises(InvalidConfigError, match=r"router_options.*KvRouterConfig.*temperature"):
        client(mine, settings={"router": "kv", "router_options": {"temperature": 1}})

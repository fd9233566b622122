# SPDX-License-Identifier: Apache-2.0
"""What Dynamo's router does for the engine ``dynamo``: busy workers, sessions, long requests, namespaces,
response planes, and indexers of other processes.
"""

import importlib.util
from typing import Any

import pytest
from cluster_rig import Process
from cluster_rig.fixtures import NewCluster
from dynamo_llm import InvalidRequestError, OverloadedError, Runtime, UnavailableError
from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.cluster.client import token_model
from dynamo_llm.runtime.cluster.client.errors import error_of
from position_client import client, names, position_worker, said, tokens
from waiting import wait_until

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

core = dynamo_import.import_core()


def listed(runtime: Runtime, count: int = 1) -> None:
    """Waits until so many models are listed."""
    wait_until(lambda: len(names(runtime)) == count)


def requests(worker: Process) -> int:
    """Returns how many requests a worker has received."""
    return len(said(worker, "request"))


def ask(runtime: Runtime, count: int = 1, **keys: Any) -> list[int]:
    """Sends a request."""
    return tokens(runtime.complete([5, 6, 7], model="position", max_tokens=count, **keys))


@pytest.mark.parametrize("router", ["round_robin", "kv"])
def test_busy_workers(new_cluster: NewCluster, router: str) -> None:
    """A request is OVERLOADED while all workers are busier than allowed."""
    mine = new_cluster()
    position_worker(mine, "--load=950")
    options = {"active_decode_blocks_threshold": 0.9}
    with client(mine, settings={"router": router, "router_options": options}) as runtime:
        listed(runtime)

        def refused() -> str:
            try:
                ask(runtime)
            except OverloadedError as error:
                return str(error)
            return ""

        wait_until(refused)
        assert "overloaded" in refused() or "busy" in refused(), refused()
        idle = position_worker(mine, "--load=10")
        wait_until(lambda: not refused())
        before = requests(idle)
        for _ in range(4):
            ask(runtime)
        assert requests(idle) == before + 4, "the busy one gets none"


def test_the_session_reaches_the_worker(new_cluster: NewCluster) -> None:
    """Workers may keep what belongs to a session, as those of vLLM and TensorRT-LLM do."""
    mine = new_cluster()
    worker = position_worker(mine)
    with client(mine) as runtime:
        listed(runtime)
        ask(runtime, nvext={"agent_context": {"session_id": "a", "parent_session_id": "root"}})
        (request,) = said(worker, "request")
        assert request["agent_context"].items() >= {"session_id": "a", "parent_session_id": "root"}.items()
        with pytest.raises(InvalidRequestError, match=r'"nvext.agent_context.session_id".*1 to 256 bytes'):
            ask(runtime, nvext={"agent_context": {"session_id": "x" * 257}})


def test_a_request_that_is_too_long_to_move(new_cluster: NewCluster) -> None:
    """A request longer than ``migration_max_seq_len`` ends with its worker; a shorter one continues."""
    for limit, survives in ((5, False), (500, True)):
        mine = new_cluster()
        workers = [position_worker(mine, "--delay=0.05"), position_worker(mine, "--delay=0.05")]
        with client(mine, settings={"migration_max_seq_len": limit}) as runtime:
            listed(runtime)
            request = runtime.complete([5, 6, 7], max_tokens=30)
            got = [
                token for _, response in zip(range(8), request, strict=False) for token in response.token_ids
            ]
            (busy,) = [worker for worker in workers if said(worker, "request")]
            busy.may_end = True
            busy.kill()
            if survives:
                assert got + tokens(request) == list(range(103, 133))
            else:
                with pytest.raises(UnavailableError):
                    request.result()


@pytest.mark.parametrize("text", [False, True])
def test_namespaces_with_a_prefix(new_cluster: NewCluster, text: bool) -> None:
    """A client sees the generations of a rolling update, and no other namespaces."""
    mine = new_cluster()
    flags = ["--text"] if text else []
    for namespace in ("ours-1", "ours-2", "theirs"):
        position_worker(mine, f"--namespace={namespace}", f"--name={namespace}", *flags)
    settings = {key: value for key, value in mine.settings.items() if key != "namespace"}
    with Runtime(engine="dynamo", cluster={**settings, "namespace_prefix": "ours"}) as runtime:
        listed(runtime, 2)
        assert names(runtime) == ["ours-1", "ours-2"]
        answer = runtime.chat("hi", model="ours-2", max_tokens=2).result()
        assert answer.finish_reason == "length"
    with Runtime(engine="dynamo", cluster={**settings, "namespace": "ours-1"}) as runtime:
        listed(runtime)
        assert names(runtime) == ["ours-1"]
    with Runtime(engine="dynamo", cluster={**settings, "namespace": "dynamo"}) as runtime:
        listed(runtime, 3)  # as Dynamo's frontend


def test_a_response_plane(new_cluster: NewCluster) -> None:
    """Responses come over QUIC."""
    mine = new_cluster()
    worker = position_worker(mine, "--response-plane=quic")
    with client(mine, settings={"response_plane": "quic"}) as runtime:
        listed(runtime)
        assert ask(runtime, 3) == [103, 104, 105]
        assert requests(worker) == 1


def test_the_device_aware_router(new_cluster: NewCluster) -> None:
    """Workers without a GPU are selected, too."""
    mine = new_cluster()
    workers = [position_worker(mine), position_worker(mine)]
    with client(mine, settings={"router": "device_aware_weighted"}) as runtime:
        listed(runtime)
        wait_until(lambda: ask(runtime) and all(requests(worker) for worker in workers))


def test_an_indexer_of_another_router(new_cluster: NewCluster) -> None:
    """A router without an index of its own asks the one that another router serves."""
    mine = new_cluster()
    workers = [position_worker(mine, "--kv"), position_worker(mine, "--kv")]
    serves = {"router": "kv", "router_options": {"serve_indexer": True}}
    asks = {"router": "kv", "router_options": {"use_remote_indexer": True}}
    prompt = list(range(20, 20 + 4 * 16))
    with client(mine, settings=serves) as first:
        listed(first)
        tokens(first.complete(prompt, max_tokens=2))
        (holder,) = [worker for worker in workers if said(worker, "request")]
        with client(mine, settings=asks) as second:
            listed(second)
            before = requests(holder)
            for _ in range(6):
                tokens(second.complete(prompt, max_tokens=1))
            assert requests(holder) == before + 6


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (core.WorkerUnavailable("prefill is not ready"), UnavailableError),
        (ValueError("WorkerOverloaded: the queue is full"), OverloadedError),
        (ValueError("ResourceExhausted: all eligible workers are overloaded"), OverloadedError),
    ],
)
def test_errors_of_the_router(error: Exception, kind: type[Exception]) -> None:
    """Overload and missing workers can be told apart."""
    assert type(error_of(error)) is kind


def test_context_length_of_a_card_without_one() -> None:
    """That of the model's architecture counts, if the worker declares no other."""
    card = {"architectural_max_context_length": 4096}
    assert token_model._info(card, "folder")["context_length"] == 4096
    assert token_model._info({**card, "context_length": 1024}, "folder")["context_length"] == 1024

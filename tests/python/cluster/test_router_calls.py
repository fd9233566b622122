# SPDX-License-Identifier: Apache-2.0
"""Calls that many threads make to one router at once, and that its event loop executes in batches."""

import asyncio
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import compile_c, dynamo_config, run, run_python
from dynamo_llm import DynamoError, InvalidArgumentError, InvalidHandleError, Router, UnavailableError
from dynamo_llm.runtime import host
from dynamo_llm.runtime.cluster import dynamo_import

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamo") is None, reason="NVIDIA Dynamo is not installed"
)

prompt = list(range(1, 65))


def described(id: int) -> dict[str, Any]:
    """Returns a worker's description; nothing listens at its addresses."""
    return {
        "worker_id": id,
        "endpoint": f"http://w{id}:1",
        "kv_events_endpoint": "tcp://127.0.0.1:1",
        "total_kv_blocks": 10_000,
        "max_num_batched_tokens": 100_000,
    }


def new_router() -> Router:
    return Router(kv_block_size=16, workers=[described(1), described(2)])


@pytest.fixture
def router() -> Iterator[Router]:
    with new_router() as router:
        yield router


@contextmanager
def busy_event_loop() -> Iterator[None]:
    """Keeps the library's event loop busy, so that calls wait for it, and then are one batch."""
    assert host._host is not None
    is_busy, may_go_on = threading.Event(), threading.Event()

    def keep_busy() -> None:
        is_busy.set()
        may_go_on.wait(30)

    host._host.loop.call_soon_threadsafe(keep_busy)
    assert is_busy.wait(30)
    try:
        yield
    finally:
        may_go_on.set()


class Callers:
    """Threads that call a router. Each has begun to wait for its answer before the next one calls."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Future[Any]:
        has_begun = threading.Event()

        def run() -> Any:
            has_begun.set()
            return function(*arguments, **named)

        result = self._threads.submit(run)
        assert has_begun.wait(30)
        time.sleep(0.02)
        return result


@pytest.fixture
def callers() -> Iterator[Callers]:
    with ThreadPoolExecutor(32) as threads:
        yield Callers(threads)


def active(router: Router) -> int:
    return sum(row["active_requests"] for row in router.loads())


def test_calls_of_a_batch_are_executed_in_order(router: Router, callers: Callers) -> None:
    with busy_event_loop():
        calls = [callers.call(router.select, prompt, request_id="r") for _ in range(5)]
        assert not any(call.done() for call in calls)
    assert calls[0].result(30).worker.worker_id in (1, 2)
    for call in calls[1:]:
        with pytest.raises(InvalidArgumentError, match='the request "r" is already reserved'):
            call.result(30)
    assert active(router) == 1
    with busy_event_loop():
        calls = [callers.call(router.free, "r") for _ in range(5)]
    calls[0].result(30)
    for call in calls[1:]:
        with pytest.raises(InvalidArgumentError, match='no request "r" is reserved'):
            call.result(30)
    assert active(router) == 0


def test_an_error_ends_only_its_own_call(router: Router, callers: Callers) -> None:
    reserved = router.select(prompt)
    with busy_event_loop():
        good = [callers.call(router.select, prompt, request_id=f"good-{i}") for i in range(3)]
        none = callers.call(router.select, prompt, worker_ids=[7])
        unknown = callers.call(router.free, "unknown")
        taints = callers.call(router.select, prompt, constraints={"required_taints": [1]})
        missing = callers.call(router.reserve, "missing", reserved)
        good.append(callers.call(router.select, prompt[:1], worker_ids=[2], cache_salt="s"))
    for call in good:
        assert call.result(30).worker.address.startswith("http://w")
    with pytest.raises(
        UnavailableError, match=r"among the allowed ones \(7\) is available; live workers: 1, 2"
    ):
        none.result(30)
    with pytest.raises(InvalidArgumentError, match='no request "unknown" is reserved') as error:
        unknown.result(30)
    assert error.value.details["engine"] == "router"
    with pytest.raises(DynamoError, match=r'"constraints\.required_taints" must be an array of strings'):
        taints.result(30)
    assert missing.result(30) is None
    assert active(router) == 4


def test_selected_workers_are_those_of_the_caller(router: Router) -> None:
    """No caller gets the answer of another one."""

    def one(number: int) -> None:
        id = f"request-{number}"
        tokens = list(range(number * 1000, number * 1000 + 1 + number % 70))
        selection = router.select(tokens, request_id=id, worker_ids=[1 + number % 2])
        assert selection.worker is not None
        assert selection.worker.worker_id == 1 + number % 2
        assert selection.worker.address == f"http://w{1 + number % 2}:1"
        assert selection.token_ids == tokens
        router.prefill_complete(id)
        router.free(id)
        with pytest.raises(InvalidArgumentError, match=f'no request "{id}" is reserved'):
            router.free(id)

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(one, range(1000)))
    assert active(router) == 0


def test_a_router_that_is_destroyed_answers_first(callers: Callers) -> None:
    router = new_router()
    with busy_event_loop():
        calls = [callers.call(router.select, prompt, request_id=str(i)) for i in range(3)]
        closing = callers.call(router.close)
        with pytest.raises(InvalidHandleError):
            router.free("0")
    for call in calls:
        assert call.result(30).worker is not None
    closing.result(30)


def test_results_of_dynamo_arrive_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynamo_llm.runtime.cluster.router.dynamo_calls import DynamoCalls

    async def main() -> None:
        service = dynamo_import.import_core().SelectionService()
        dynamo = DynamoCalls()
        model = {"model_name": "m", "routing_group": "default"}
        await dynamo(service.upsert_worker, {**described(1), **model, "block_size": 16})
        loop = asyncio.get_running_loop()
        wakes = 0
        wake = loop.call_soon_threadsafe

        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return wake(*arguments, **named)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        calls = [dynamo(service.select, {**model, "token_ids": prompt}) for _ in range(200)]
        assert asyncio.get_running_loop() is loop
        time.sleep(0.2)  # what ends now wakes the event loop once
        assert [answer["worker_id"] for answer in await asyncio.gather(*calls)] == [1] * 200
        assert 1 <= wakes < 100
        with pytest.raises(Exception, match="no schedulable workers for model=other"):
            await dynamo(service.select, {**model, "model_name": "other", "token_ids": prompt})
        cancelled = dynamo(service.select, {**model, "token_ids": prompt})
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert (await dynamo(service.select, {**model, "token_ids": prompt}))["worker_id"] == 1
        service.shutdown()

    asyncio.run(main())


_exits = """
import asyncio, threading, time
from dynamo_llm import ClosedError, Router
from dynamo_llm.runtime.cluster.router.static import StaticRouter

async def never(*_, **__):
    await asyncio.Event().wait()

router = Router(kv_block_size=16)
StaticRouter.select = never
def call():
    try:
        router.select([1])
    except ClosedError as error:
        print("closed:", error)
    try:
        router.free("x")
    except ClosedError as error:
        print("closed:", error)
threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads:
    thread.start()
time.sleep(0.3)
"""


def test_calls_end_with_python() -> None:
    result = run_python(_exits)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 6
    assert all("Python in this process is shutting down" in line for line in lines)
    assert "Task was destroyed" not in result.stderr


def test_threads_of_a_program_in_c(tmp_path: Path) -> None:
    """The router is destroyed, and the process exits, while 32 threads call the router."""
    source = Path(__file__).with_name("router_threads.c")
    flags = dynamo_config("--cflags", "--libs").split()
    program = compile_c(source, tmp_path / "router_threads", "-pthread", "-D_GNU_SOURCE", *flags)
    config = json.dumps({"kv_block_size": 16, "workers": [described(1), described(2)]})
    environment = {"DYNAMO_LLM_PYTHON": sys.executable, "HOME": str(tmp_path)}
    for how, printed in (("exit", ""), ("destroy", "32\n")):
        result = run([program, config, how], environment)
        assert (result.returncode, result.stdout, result.stderr) == (0, printed, "")

# SPDX-License-Identifier: Apache-2.0
"""Measures routers: the library's, called by threads in C, and Dynamo's own, called by as many asyncio tasks
in Python. A route is three calls: select and reserve a worker, report the first token, release the worker.

    python benchmarks/router.py [ROUNDS]              measures all routers in turns, and prints a table
    python benchmarks/router.py workers               serves the workers of a cluster until its stdin ends
    python benchmarks/router.py KIND ROUTES           runs ROUTES routes per round; KIND: kv-router or
                                                      selection-service

The environment variable DYN_FILE_KV names the folder for the cluster's discovery.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

_endpoint = "bench.router.generate"
_callers = 64
_tokens = 64
_block_size = 16
_workers = 2

#: Routes one request.
Route = Callable[[list[int], str], Awaitable[None]]


def _core() -> Any:
    from dynamo_llm.runtime.cluster import dynamo_import

    return dynamo_import.import_core()  # imported directly, it writes a line for each request


def _runtime() -> Any:
    return _core().DistributedRuntime(asyncio.get_running_loop(), "file", "tcp", event_plane="zmq")


def _static_workers() -> list[dict[str, Any]]:
    """Describes workers of a static router. Nothing listens at their addresses."""
    return [
        {
            "worker_id": id,
            "endpoint": f"http://worker{id}:1",
            "kv_events_endpoint": "tcp://127.0.0.1:1",
            "total_kv_blocks": 100_000,
            "max_num_batched_tokens": 100_000,
            "block_size": _block_size,
        }
        for id in range(1, _workers + 1)
    ]


async def _serve() -> None:
    from dynamo_llm.paths import demo_model_dir

    core = _core()

    async def answer(request: Any, context: Any) -> Any:
        yield {"token_ids": [1], "finish_reason": "stop"}

    config = core.ModelRuntimeConfig()
    config.total_kv_blocks, config.max_num_batched_tokens = 100_000, 100_000
    serving = []
    for _ in range(_workers):
        endpoint = _runtime().endpoint(_endpoint)
        await core.register_model(
            core.ModelInput.Tokens,
            core.ModelType.Chat | core.ModelType.Completions,
            endpoint,
            str(demo_model_dir()),
            "bench",
            kv_cache_block_size=_block_size,
            worker_type=core.WorkerType.Aggregated,
            runtime_config=config,
        )
        serving.append(asyncio.ensure_future(endpoint.serve_endpoint(answer)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # Dynamo's threads would keep the process alive


async def _kv_router() -> Route:
    endpoint = _runtime().endpoint(_endpoint)
    client = await endpoint.client()
    while len(client.instances()) < _workers:
        await asyncio.sleep(0.05)
    router = _core().KvRouter(endpoint, _block_size, _core().KvRouterConfig())

    async def route(tokens: list[int], id: str) -> None:
        await router.best_worker(tokens, request_id=id)
        await router.mark_prefill_complete(id)
        await router.free(id)

    return route


async def _selection_service() -> Route:
    service = _core().SelectionService()
    model = {"model_name": "bench", "routing_group": "default"}
    for worker in _static_workers():
        await service.upsert_worker({**worker, **model})

    async def route(tokens: list[int], id: str) -> None:
        await service.select_and_reserve({**model, "token_ids": tokens, "selection_id": id})
        await service.prefill_complete(id)
        await service.free_reservation(id)

    return route


async def _route(kind: str, count: int) -> None:
    route = await (_kv_router() if kind == "kv-router" else _selection_service())
    times: list[float] = []

    async def caller(number: int) -> None:
        tokens = list(range(number * _tokens, (number + 1) * _tokens))
        for i in range(-(-count // _callers)):
            begin = time.perf_counter()
            await route(tokens, f"{number}-{i}")
            times.append((time.perf_counter() - begin) * 1e3)

    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        times.clear()
        begin = time.perf_counter()
        await asyncio.gather(*map(caller, range(_callers)))
        seconds = time.perf_counter() - begin
        times.sort()
        result = {"routes": len(times), "seconds": seconds}
        result |= {"p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100]}
        print(json.dumps(result), flush=True)
    os._exit(0)


def _sides(bench: Any, stack: ExitStack, routes: int, is_pinned: bool = False) -> dict[str, Any]:
    """Starts the workers of a cluster, and returns functions that start a program for each router."""
    from cluster import new_cluster
    from programs import Side, folder

    script = str(folder / "router.py")
    program = bench.programs.compile("router")
    count = bench.of(routes)
    settings, variables = stack.enter_context(new_cluster("bench"))
    stack.enter_context(Side([sys.executable, script, "workers"], is_pinned, variables))
    static = {"kv_block_size": _block_size, "workers": _static_workers()}
    cluster = {"kv_block_size": _block_size, "cluster": settings, "endpoint": _endpoint}

    def c(config: dict[str, Any]) -> list[str]:
        return [program, json.dumps(config), str(_callers), count, str(_tokens)]

    def python(kind: str) -> list[str]:
        return [sys.executable, script, kind, count]

    commands = {
        "static router, C": c(static),
        "cluster router, C": c(cluster),
        "SelectionService, Python": python("selection-service"),
        "KvRouter, Python": python("kv-router"),
    }
    return {
        name: lambda command=command: stack.enter_context(Side(command, is_pinned, variables))
        for name, command in commands.items()
    }


def measure_routes(bench: Any, is_pinned: bool) -> tuple[list[float], list[float]]:
    """Measures the static router in C and Dynamo's KvRouter in Python, in turns."""
    from ratio import measure

    with ExitStack() as stack:
        sides = _sides(bench, stack, 10_000, is_pinned)
        ours, base = sides["static router, C"](), sides["KvRouter, Python"]()

        def rate(side: Any) -> float:
            result = side.round()
            return float(result["routes"] / result["seconds"])

        return measure(lambda: rate(ours), lambda: rate(base), bench.rounds)


def _print_table(rounds: int) -> None:
    from bench import Bench
    from programs import Programs
    from ratio import ratio_of_medians

    bench = Bench(Programs(), rounds, 1.0)
    measured: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        stack.callback(bench.programs.close)
        sides = {name: start() for name, start in _sides(bench, stack, 10_000).items()}
        for number in range(rounds + 1):
            for name, side in sorted(sides.items(), reverse=number % 2 == 1):
                result = side.round()
                if number > 0:  # the first round warms up
                    measured.setdefault(name, []).append(result)
    rates = {name: [one["routes"] / one["seconds"] for one in each] for name, each in measured.items()}
    print("| router | routes/s | p50 | p99 | vs. Dynamo's KvRouter in Python |\n|---|--:|--:|--:|--:|")
    for name in sides:
        ratio = ratio_of_medians(rates[name], rates["KvRouter, Python"])
        p50, p99 = (statistics.median(one[key] for one in measured[name]) for key in ("p50_ms", "p99_ms"))
        print(
            f"| {name} | {statistics.median(rates[name]):,.0f} | {p50:.3g} ms | {p99:.3g} ms | "
            f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g}) |"
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["workers"]:
        asyncio.run(_serve())
    elif len(sys.argv) == 3:
        asyncio.run(_route(sys.argv[1], int(sys.argv[2])))
    else:
        _print_table(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

# SPDX-License-Identifier: Apache-2.0
"""Measures values without a counterpart: latencies, memory, sizes, start times, and the cost of a request as
the number of requests in flight increases.
"""

import ctypes
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bench, config
from programs import Side, folder

one_token = "engines.one_token:OneToken"
in_flight = (1, 10, 100, 1_000, 10_000)

_python_memory = """
import asyncio, os, sys, time
from types import SimpleNamespace
from engines import tokens
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
async def drain(engine):
    request = SimpleNamespace(body={"prompt": "1"})
    async for chunk in engine.generate(request):
        pass
async def main(count):
    engine = tokens.Waiting(None)
    await asyncio.sleep(0.3)
    before = resident()
    tasks = [asyncio.ensure_future(drain(engine)) for _ in range(count)]
    await asyncio.sleep(0.6)
    print((resident() - before) / count, flush=True)
    os._exit(0)
asyncio.run(main(int(sys.argv[1])))
"""

_python_start = """
import json, sys
import dynamo_llm
runtime = dynamo_llm.Runtime(**json.loads(sys.argv[1]))
next(runtime.complete("1"))
print("token", flush=True)
runtime.close()
"""


def _latencies(bench: Bench) -> dict[str, float]:
    program = bench.programs.compile("latency")
    with Side([program, config(one_token), bench.of(5_000)]) as side:
        rounds = [side.round() for _ in range(4)][1:]
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def send_busy_gil(bench: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the ratio of the 99th percentiles over several runs of the program, of a call that takes the
    GIL to a send, and the output of the middle run.
    """
    program = bench.programs.compile("send_busy_gil", "-ldl")
    command = [program, str(folder), bench.of(200)]
    runs = []
    for _ in range(5 if bench.scale >= 1 else 3):
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        runs.append(json.loads(printed))
    runs.sort(key=lambda run: run["ratio_p99"])
    ratios = [run["ratio_p99"] for run in runs]
    middle = runs[len(runs) // 2]
    ratio = {"median": middle["ratio_p99"], "low": ratios[0], "high": ratios[-1], "runs": len(runs)}
    return ratio, middle


def _cancels(bench: Bench) -> dict[str, float]:
    program = bench.programs.compile("cancel")
    limits = {"limits": {"max_concurrent": 1}}
    values = {}
    for where in ("queue", "prefill", "decode"):
        more = limits if where == "queue" else {}
        with Side([program, config("engines.tokens:Talking", **more), bench.of(500), where]) as side:
            result = [side.round() for _ in range(2)][1]
        values |= {f"cancel_{where}_p50_ms": result["p50_ms"], f"cancel_{where}_p99_ms": result["p99_ms"]}
    values["cancel_p99_ms"] = max(
        values[f"cancel_{where}_p99_ms"] for where in ("queue", "prefill", "decode")
    )
    return values


def _memory(bench: Bench) -> dict[str, float]:
    count = "10000"
    program = bench.programs.compile("memory")
    with Side([program, config("engines.tokens:Waiting"), count]) as side:
        ours = side.round()
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    python = subprocess.run(
        [sys.executable, "-c", _python_memory, count],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    base = float(python.stdout)
    return {
        "stream_bytes": ours["bytes"] - base,
        "stream_whole_bytes": ours["bytes"],
        "stream_python_bytes": base,
        "streams_10k_bytes": ours["bytes"] * int(count),
        "runtime_bytes": ours["runtime_bytes"],
    }


def _sizes() -> dict[str, int]:
    found = importlib.util.find_spec("dynamo_llm")
    assert found is not None and found.origin is not None
    place = Path(found.origin).parent
    library = max((place / "lib").glob("libdynamo_llm_capi.so*"), key=lambda path: path.stat().st_size)
    module = next(place.glob("_core*.so"))
    return {"library_file_bytes": library.stat().st_size, "module_file_bytes": module.stat().st_size}


def _forget_files(*roots: Path) -> None:
    """Drops files from the page cache, as after the machine's start."""
    libc = ctypes.CDLL(None)
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    libc.posix_fadvise(file.fileno(), 0, 0, 4)  # POSIX_FADV_DONTNEED


def time_to_token(command: Sequence[str]) -> float:
    """Returns the milliseconds from the start of a process to its first token."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        milliseconds = (time.perf_counter() - begin) * 1e3
        process.stdout.read()
    if line != b"token\n" or process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
    return milliseconds


def _starts(bench: Bench) -> dict[str, float]:
    """Measures the start of a program in C and of one in Python, in turns: cold, and warm."""
    program = bench.programs.compile("first_token")
    given = config(one_token)
    commands = {"c": [program, given], "python": [sys.executable, "-c", _python_start, given]}
    roots = [Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib"]
    times: dict[str, list[float]] = {}
    for state in ("cold", "warm"):
        for number in range(max(3, bench.rounds // 2)):
            for name in sorted(commands, reverse=number % 2 == 1):
                if state == "cold":
                    _forget_files(*roots)
                times.setdefault(f"{name}_{state}", []).append(time_to_token(commands[name]))
    medians = {key: statistics.median(each) for key, each in times.items()}
    return {
        "start_cold_ms": medians["c_cold"],
        "start_warm_ms": medians["c_warm"],
        "start_python_cold_ms": medians["python_cold"],
        "start_python_warm_ms": medians["python_warm"],
    }


def curve(bench: Bench) -> dict[str, Any]:
    """Returns the microseconds per request as the number in flight increases, and the slope of the line
    through them on logarithmic axes: 0 means a constant cost, 1 a cost proportional to the number of
    requests.
    """
    program = bench.programs.compile("latency")
    costs = []
    for count in in_flight:
        requests = str(max(int(bench.of(20_000)), 2 * count))
        with Side([program, config(one_token), requests, str(count)]) as side:
            costs.append(statistics.median([side.round()["us"] for _ in range(4)][1:]))
    slope = float(np.polyfit(np.log10(in_flight[1:]), np.log10(costs[1:]), 1)[0])
    return {"in_flight": list(in_flight), "us_per_request": costs, "slope_from_10": slope}


def measure_values(bench: Bench) -> dict[str, Any]:
    """Measures all values."""
    return {
        **_latencies(bench),
        **_cancels(bench),
        **_memory(bench),
        **_sizes(),
        **_starts(bench),
        "cost": curve(bench),
    }

# SPDX-License-Identifier: Apache-2.0
"""Lists the pairs to compare. Both sides of each pair are measured in turns in one run; a ratio over 1 means
that the library is faster.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench import Bench, Measured, c_drain, free_port, speed
from cluster import measure_streams
from dynamo_llm.paths import demo_model_dir
from frontend import compare_frontend
from programs import Side, folder, python_flags, start_server
from ratio import measure
from router import measure_routes


def drain(kind: str, streams: int, readers: int, tokens: int) -> Callable[[Bench, bool], Measured]:
    """Compares reading in C with reading in Python, from the same engine."""

    def run(bench: Bench, is_pinned: bool) -> Measured:
        prompt = bench.of(tokens)
        python = [sys.executable, str(folder / "python_drain.py"), kind, prompt, str(streams)]
        with (
            c_drain(bench, f"engines.tokens:{kind}", prompt, streams, readers, is_pinned) as ours,
            Side(python, is_pinned) as base,
        ):
            return measure(speed(ours), speed(base), bench.rounds)

    return run


def http(kind: str, streams: int, tokens: int, http_tokens: int) -> Callable[[Bench, bool], Measured]:
    """Compares reading in C with the same engine behind an HTTP server in another process, read
    by libcurl.
    """

    def run(bench: Bench, is_pinned: bool) -> Measured:
        port = free_port()
        url = f"http://127.0.0.1:{port}/v1/completions"
        flags = subprocess.run(["curl-config", "--libs"], check=True, capture_output=True, text=True)
        client = bench.programs.compile("http", *flags.stdout.split(), with_library=False)
        server = [sys.executable, str(folder / "server.py"), kind, str(port), "uvloop"]
        with (
            start_server(server, is_pinned),
            Side([client, url, bench.of(http_tokens), str(streams)], is_pinned) as base,
            c_drain(
                bench, f"engines.tokens:{kind}", bench.of(tokens), streams, 1, is_pinned, "uvloop"
            ) as ours,
        ):
            return measure(speed(ours), speed(base), bench.rounds)

    return run


def embedding(how: str, busy: bool) -> Callable[[Bench, bool], Measured]:
    """Compares reading in C with a handwritten embedding of Python, which takes the GIL for each token."""

    def run(bench: Bench, is_pinned: bool) -> Measured:
        program = bench.programs.compile("embedding", *python_flags(), with_library=False)
        amount = bench.of(200 if busy else 10_000)
        by_hand = [program, str(folder), "engines.tokens", "Suspending", amount, how, str(int(busy))]
        name = "BusySuspending" if busy else "Suspending"
        mine = bench.of(1_000 if busy else 100_000)
        with (
            c_drain(bench, f"engines.tokens:{name}", mine, 1, 1, is_pinned) as ours,
            Side(by_hand, is_pinned) as base,
        ):
            return measure(speed(ours), speed(base), bench.rounds)

    return run


def push_many(bench: Bench, is_pinned: bool) -> Measured:
    """Compares an engine that pushes the tokens of a step in one call with one that has a generator for each
    request; both through the library, with 64 streams.
    """
    with (
        c_drain(bench, "engines.steps:Together", bench.of(20_000), 64, 1, is_pinned) as ours,
        c_drain(bench, "engines.steps:PerRequest", bench.of(1_500), 64, 1, is_pinned) as base,
    ):
        return measure(speed(ours), speed(base), bench.rounds)


def pipeline(kind: str, tokens: int) -> Callable[[Bench, bool], Measured]:
    """Compares reading the text of a token-level engine in C with a loop in Python that decodes its tokens
    and looks for stop strings; 64 streams.
    """

    def run(bench: Bench, is_pinned: bool) -> Measured:
        body = {"prompt": [5], "max_tokens": int(bench.of(tokens)), "stop": ["never said", "nor this"]}
        text = json.dumps({**body, "stream": True})
        python = [sys.executable, str(folder / "python_pipeline.py"), kind, text, "64"]
        with (
            c_drain(bench, f"engines.token_level:{kind}", text, 64, 1, is_pinned) as ours,
            Side(python, is_pinned) as base,
        ):
            return measure(speed(ours), speed(base), bench.rounds)

    return run


def pipeline_c(bench: Bench, is_pinned: bool) -> Measured:
    """Compares the text of a token-level engine in C with its token ids, without a pipeline."""
    program = bench.programs.compile("pipeline")
    with Side([program, str(demo_model_dir()), bench.of(2_000_000)], is_pinned) as both:
        rounds = [both.round() for _ in range(bench.rounds + 1)][1:]
    return (
        [each["tokens"] / each["seconds"] for each in rounds],
        [each["tokens"] / each["base_seconds"] for each in rounds],
    )


def c_to_c(bench: Bench, is_pinned: bool) -> Measured:
    """Compares an engine in C and a reader in C with a ring buffer between two threads."""
    program = bench.programs.compile("c_to_c")
    with Side([program, bench.of(2_000_000)], is_pinned) as both:
        rounds = [both.round() for _ in range(bench.rounds + 1)][1:]
    return (
        [each["tokens"] / each["seconds"] for each in rounds],
        [each["tokens"] / each["base_seconds"] for each in rounds],
    )


def engine_native(bench: Bench, is_pinned: bool) -> Measured:
    """Compares mistral.rs through the library with its own Python API."""
    script = str(folder / "native.py")
    body = subprocess.run([sys.executable, script, "body"], check=True, capture_output=True, text=True).stdout
    library = [bench.programs.compile("answers"), '{"engine": "mistralrs"}', body, bench.of(6)]
    native = [sys.executable, script, bench.of(6)]
    times: dict[str, list[float]] = {"library": [], "native": []}

    def watched(side: Side, how: str) -> Callable[[], float]:
        def once() -> float:
            result = side.round()
            times[how].append(result["ttft_ms"])
            return float(result["tokens"] / result["seconds"])

        return once

    with Side(library, is_pinned) as ours, Side(native, is_pinned) as base:
        measured = measure(watched(ours, "library"), watched(base, "native"), bench.rounds)
    for how, each in times.items():
        bench.notes[f"ttft_{how}_ms"] = sorted(each)[len(each) // 2]
    return measured


@dataclass(frozen=True)
class Pair:
    """A ratio to measure.

    :param floor: lowest acceptable ratio.
    :param aim: the goal.
    :param what: description for the table.
    :param pins: whether to also measure it with both sides on one CPU.
    :param unit: unit of the medians in the results next to the ratio; empty: no medians.
    """

    name: str
    floor: float
    aim: float
    what: str
    run: Callable[[Bench, bool], Measured]
    pins: bool = True
    unit: str = ""


pairs = [
    Pair(
        "drain_1_suspending",
        0.90,
        0.97,
        "1 stream, one event-loop iteration per token; vs. Python's `async for`",
        drain("Suspending", 1, 1, 100_000),
    ),
    Pair(
        "drain_1_flat",
        0.85,
        0.97,
        "1 stream that does not suspend; vs. Python's `async for`",
        drain("Flat", 1, 1, 1_000_000),
    ),
    Pair(
        "drain_64_1reader",
        0.85,
        0.95,
        "64 streams, one reader; vs. Python's `async for`",
        drain("Suspending", 64, 1, 4_000),
    ),
    Pair(
        "drain_64_4readers",
        0.70,
        0.85,
        "64 streams, four readers; vs. Python's `async for`",
        drain("Suspending", 64, 4, 4_000),
    ),
    Pair(
        "drain_10k",
        0.75,
        0.90,
        "10,000 streams; vs. Python's `async for`",
        drain("Suspending", 10_000, 1, 100),
    ),
    Pair(
        "http_64",
        8,
        12,
        "64 streams; vs. HTTP (uvicorn and libcurl; both on uvloop)",
        http("Suspending", 64, 4_000, 500),
    ),
    Pair(
        "http_1_flat",
        30,
        50,
        "1 stream that does not suspend; vs. HTTP (same setup)",
        http("Flat", 1, 1_000_000, 20_000),
    ),
    Pair("embedding", 8, 15, "1 stream; vs. taking the GIL for each token", embedding("thread", False)),
    Pair(
        "push_many",
        5,
        15,
        "64 streams of one step loop, one call per step; vs. one generator per stream",
        push_many,
    ),
    Pair("c_to_c", 0.70, 0.95, "an engine in C; vs. a ring buffer between two threads", c_to_c),
    Pair(
        "pipeline_async",
        4,
        10,
        "64 streams of a token-level engine to text; vs. `DecodeStream` in Python, same stop strings",
        pipeline("Flat", 4_000),
    ),
    Pair(
        "pipeline_async_suspending",
        1.5,
        2.5,
        "the same, one event-loop iteration per token",
        pipeline("Suspending", 2_000),
    ),
    Pair(
        "pipeline_c",
        0.3,
        0.6,
        "a token-level engine in C to text, 1 stream; vs. its token ids without the pipeline",
        pipeline_c,
    ),
    Pair("engine_native", 0.97, 1.0, "mistral.rs; vs. its own Python API", engine_native, False),
    Pair(
        "cluster", 0.9, 1.2, "a stream across a cluster; vs. Dynamo's Python client", measure_streams, False
    ),
    Pair(
        "router",
        1.0,
        1.5,
        "64 threads select, reserve, and release workers; vs. 64 tasks and Dynamo's KvRouter in Python",
        measure_routes,
        False,
    ),
]

_frontend = "of Dynamo's mocker; vs. Dynamo's own frontend, read by libcurl"
pairs += [
    Pair("frontend_256", 1.0, 1.4, f"256 streams {_frontend}", compare_frontend(256, 200), False),
    Pair("frontend_1000", 1.0, 1.4, f"1,000 streams {_frontend}", compare_frontend(1000, 100), False),
    Pair(
        "frontend_cpu",
        1.3,
        1.8,
        f"CPU time of a token, 256 streams {_frontend}",
        compare_frontend(256, 200, "cpu"),
        False,
    ),
    Pair(
        "frontend_ttft_1",
        1.0,
        1.5,
        f"time to first token, 1 stream {_frontend}",
        compare_frontend(1, 20, "first", 50),
        False,
    ),
    Pair(
        "frontend_ttft_16",
        1.0,
        1.5,
        f"time to first token, 16 streams {_frontend}",
        compare_frontend(16, 20, "first", 20),
        False,
    ),
]

#: Measured and shown, without a floor.
more_pairs = [
    Pair(
        "embedding_own_loop",
        0,
        0,
        "1 stream; vs. run_until_complete() for each token",
        embedding("own", False),
    ),
    Pair(
        "embedding_busy",
        0,
        0,
        "1 stream, with a busy Python thread; vs. taking the GIL for each token",
        embedding("thread", True),
    ),
]

# SPDX-License-Identifier: Apache-2.0
"""What is compared with what. Each pair is measured in turns in one run; a ratio over 1 means that the
library is faster than what it is compared with.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from programs import Programs, Side, folder, python_flags, start_server
from ratio import measure

Measured = tuple[list[float], list[float]]


@dataclass
class Bench:
    """How much is measured.

    :param rounds: pairs of a ratio.
    :param scale: multiplies the work of a round.
    """

    programs: Programs
    rounds: int
    scale: float
    notes: dict[str, Any] = field(default_factory=dict)

    def of(self, amount: int) -> str:
        """An amount of work, as a prompt."""
        return str(max(1, int(amount * self.scale)))


def config(engine: str, **more: Any) -> str:
    """A runtime's configuration for an engine of benchmarks/engines."""
    return json.dumps({"engine": engine, "python": {"path": [str(folder)]}, **more})


def speed(side: Side) -> Callable[[], float]:
    """Tokens per second of a round."""

    def once() -> float:
        result = side.round()
        return float(result["tokens"] / result["seconds"])

    return once


def c_drain(
    bench: Bench, kind: str, prompt: str, streams: int, readers: int, is_pinned: bool, loop: str = "asyncio"
) -> Side:
    """A program in C that reads an engine's answers through the library."""
    command = [bench.programs.compile("drain"), config(kind), prompt, str(streams), str(readers)]
    return Side(command, is_pinned, {"DYNAMO_LLM_LOOP": loop})


def drain(kind: str, streams: int, readers: int, tokens: int) -> Callable[[Bench, bool], Measured]:
    """C drain against a drain in Python of the same engine."""

    def run(bench: Bench, is_pinned: bool) -> Measured:
        prompt = bench.of(tokens)
        python = [sys.executable, str(folder / "python_drain.py"), kind, prompt, str(streams)]
        with (
            c_drain(bench, f"engines.tokens:{kind}", prompt, streams, readers, is_pinned) as ours,
            Side(python, is_pinned) as base,
        ):
            return measure(speed(ours), speed(base), bench.rounds)

    return run


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http(kind: str, streams: int, tokens: int, http_tokens: int) -> Callable[[Bench, bool], Measured]:
    """C drain against the same engine behind an HTTP server in another process, read by libcurl."""

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
    """C drain against an embedding by hand that takes the GIL for each token."""

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
    """An engine that hands a step's tokens over in one call against one with a generator for each request;
    both through the library, 64 streams.
    """
    with (
        c_drain(bench, "engines.steps:Together", bench.of(20_000), 64, 1, is_pinned) as ours,
        c_drain(bench, "engines.steps:PerRequest", bench.of(1_500), 64, 1, is_pinned) as base,
    ):
        return measure(speed(ours), speed(base), bench.rounds)


def c_to_c(bench: Bench, is_pinned: bool) -> Measured:
    """An engine in C to a reader in C against a ring between two threads."""
    program = bench.programs.compile("c_to_c")
    with Side([program, bench.of(2_000_000)], is_pinned) as both:
        rounds = [both.round() for _ in range(bench.rounds + 1)][1:]
    return (
        [each["tokens"] / each["seconds"] for each in rounds],
        [each["tokens"] / each["base_seconds"] for each in rounds],
    )


def engine_native(bench: Bench, is_pinned: bool) -> Measured:
    """mistral.rs through the library against its own Python API."""
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
    """A ratio.

    :param floor: it should not be under that.
    :param aim: what it would be at best.
    :param what: for the table.
    :param pins: whether it is measured with both sides on one CPU, too.
    """

    name: str
    floor: float
    aim: float
    what: str
    run: Callable[[Bench, bool], Measured]
    pins: bool = True


def _cluster(bench: Bench, is_pinned: bool) -> Measured:
    import cluster

    return cluster.measure_streams(bench, is_pinned)


def _frontend(bench: Bench, is_pinned: bool) -> Measured:
    import frontend

    return frontend.measure_frontend(bench, is_pinned)


pairs = [
    Pair(
        "drain_1_suspending",
        0.90,
        0.97,
        "1 stream, a turn of the loop for each token; against Python's own drain",
        drain("Suspending", 1, 1, 100_000),
    ),
    Pair(
        "drain_1_flat",
        0.85,
        0.97,
        "1 stream that does not suspend; against Python's own drain",
        drain("Flat", 1, 1, 1_000_000),
    ),
    Pair(
        "drain_64_1reader",
        0.85,
        0.95,
        "64 streams, one reader; against Python's own drain",
        drain("Suspending", 64, 1, 4_000),
    ),
    Pair(
        "drain_64_4readers",
        0.70,
        0.85,
        "64 streams, four readers; against Python's own drain",
        drain("Suspending", 64, 4, 4_000),
    ),
    Pair(
        "drain_10k",
        0.75,
        0.90,
        "10,000 streams; against Python's own drain",
        drain("Suspending", 10_000, 1, 100),
    ),
    Pair(
        "http_64",
        8,
        12,
        "64 streams; against HTTP (uvicorn and libcurl; both on uvloop)",
        http("Suspending", 64, 4_000, 500),
    ),
    Pair(
        "http_1_flat",
        30,
        50,
        "1 stream that does not suspend; against HTTP (likewise)",
        http("Flat", 1, 1_000_000, 20_000),
    ),
    Pair(
        "embedding", 8, 15, "1 stream; against a call with the GIL for each token", embedding("thread", False)
    ),
    Pair(
        "push_many",
        5,
        15,
        "64 streams of one step loop, one call a step; against a generator each",
        push_many,
    ),
    Pair("c_to_c", 0.70, 0.95, "an engine in C; against a ring between two threads", c_to_c),
    Pair("engine_native", 0.97, 1.0, "mistral.rs; against its own Python API", engine_native, False),
    Pair("cluster", 0.9, 1.2, "a stream across a cluster; against Dynamo's Python client", _cluster, False),
]

#: Measured and shown, without a floor.
more_pairs = [
    Pair(
        "frontend",
        0,
        0,
        "16 streams of Dynamo's sample worker; against Dynamo's own frontend, read by libcurl",
        _frontend,
        False,
    ),
    Pair(
        "embedding_own_loop",
        0,
        0,
        "1 stream; against run_until_complete() for each token",
        embedding("own", False),
    ),
    Pair(
        "embedding_busy",
        0,
        0,
        "1 stream, beside a Python thread that computes; against a call with the GIL for each token",
        embedding("thread", True),
    ),
]

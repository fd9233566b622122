# SPDX-License-Identifier: Apache-2.0
"""Measures the cost of ``"isolation": "process"``: the same engine and the same reader in C, with the engine
in a child process and in the reader's own process. A ratio over 1 means that the isolated engine is faster.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

from bench import Bench, Measured, config, speed
from pairs import Pair
from programs import Side
from ratio import measure
from values import one_token, time_to_token


def configs(engine: str, **more: Any) -> tuple[str, str]:
    """Returns two configurations of an engine: isolated, and in process."""
    return config(engine, isolation="process", **more), config(engine, **more)


def drain(kind: str, streams: int, tokens: int) -> Callable[[Bench, bool], Measured]:
    """Measures tokens per second."""

    def run(bench: Bench, is_pinned: bool) -> Measured:
        isolated, in_process = configs(f"engines.tokens:{kind}")
        program = bench.programs.compile("drain")
        more = [bench.of(tokens), str(streams), "1"]
        with (
            Side([program, isolated, *more], is_pinned) as ours,
            Side([program, in_process, *more], is_pinned) as base,
        ):
            return measure(speed(ours), speed(base), bench.rounds)

    return run


def rate(side: Side, key: str) -> Callable[[], float]:
    """Returns a function that runs a round and returns the reciprocal, per second, of the time printed as
    ``key``.
    """
    per_second = {"ms": 1e3, "us": 1e6}[key.rpartition("_")[2]]
    return lambda: per_second / float(side.round()[key])


def delay(streams: int, tokens: int, pace_ms: int) -> Callable[[Bench, bool], Measured]:
    """Measures the median time of a token from the engine to the reader. Each stream receives a token every
    ``pace_ms`` milliseconds.
    """

    def run(bench: Bench, is_pinned: bool) -> Measured:
        isolated, in_process = configs("engines.tokens:Paced", options={"pace_ms": pace_ms})
        program = bench.programs.compile("delay")
        more = [bench.of(tokens), str(streams)]
        with (
            Side([program, isolated, *more], is_pinned) as ours,
            Side([program, in_process, *more], is_pinned) as base,
        ):
            return measure(rate(ours, "p50_us"), rate(base, "p50_us"), bench.rounds)

    return run


def first_token(bench: Bench, is_pinned: bool) -> Measured:
    """Measures the median time to the first token of requests that are sent one after the other."""
    isolated, in_process = configs("engines.tokens:Suspending")
    program = bench.programs.compile("answers")
    more = ['{"prompt": "8", "stream": true}', bench.of(250)]
    with (
        Side([program, isolated, *more], is_pinned) as ours,
        Side([program, in_process, *more], is_pinned) as base,
    ):
        return measure(rate(ours, "ttft_ms"), rate(base, "ttft_ms"), bench.rounds)


def start(bench: Bench, is_pinned: bool) -> Measured:
    """Measures the time from the start of a C program to its first token, with all files in the
    page cache.
    """
    isolated, in_process = configs(one_token)
    program = bench.programs.compile("first_token")
    return measure(
        lambda: 1e3 / time_to_token([program, isolated]),
        lambda: 1e3 / time_to_token([program, in_process]),
        bench.rounds // 2 + 1,
    )


#: Measured, and shown in a separate table, without a floor.
isolation_pairs = [
    Pair(
        "isolation_1_flat",
        0,
        0,
        "1 stream of an engine that does not suspend",
        drain("Flat", 1, 200_000),
        pins=False,
        unit="tokens/s",
    ),
    Pair(
        "isolation_1_suspending",
        0,
        0,
        "1 stream, a turn of the event loop for each token",
        drain("Suspending", 1, 10_000),
        unit="tokens/s",
    ),
    Pair(
        "isolation_64",
        0,
        0,
        "64 streams, a turn of the event loop for each token, one reader",
        drain("Suspending", 64, 500),
        unit="tokens/s",
    ),
    Pair(
        "isolation_ttft",
        0,
        0,
        "time to first token of a request of 8 tokens",
        first_token,
        pins=False,
        unit="ms",
    ),
    Pair(
        "isolation_paced_1",
        0,
        0,
        "delay of a token from the engine to the reader: 1 stream, a token every millisecond",
        delay(1, 200, 1),
        pins=False,
        unit="µs",
    ),
    Pair(
        "isolation_paced_64",
        0,
        0,
        "the same delay: 64 streams, each a token every 10 milliseconds",
        delay(64, 20, 10),
        pins=False,
        unit="µs",
    ),
    Pair(
        "isolation_start",
        0,
        0,
        "C program from its start to its first token, warm",
        start,
        pins=False,
        unit="ms",
    ),
]


def in_unit(speeds: list[float], unit: str) -> float:
    """Returns the median of the speeds; for a unit of time, the time per event."""
    middle = median(speeds)
    return {"tokens/s": middle, "ms": 1e3 / middle, "µs": 1e6 / middle}[unit]


def absolute(pair: Pair, measured: Measured) -> dict[str, Any]:
    """Returns the medians that the table shows next to the ratio."""
    isolated, in_process = measured
    return {
        "unit": pair.unit,
        "isolated": in_unit(isolated, pair.unit),
        "in_process": in_unit(in_process, pair.unit),
    }

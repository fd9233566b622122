# SPDX-License-Identifier: Apache-2.0
"""Code shared by the benchmarks: the amount of work, and a program in C that reads an engine's answers."""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from programs import Programs, Side, folder

Measured = tuple[list[float], list[float]]


@dataclass
class Bench:
    """The amount of work to measure.

    :param rounds: number of pairs for a ratio.
    :param scale: factor for the work in a round.
    """

    programs: Programs
    rounds: int
    scale: float
    notes: dict[str, Any] = field(default_factory=dict)

    def of(self, amount: int) -> str:
        """Returns an amount of work, scaled, as a prompt."""
        return str(max(1, int(amount * self.scale)))


def config(engine: str, **more: Any) -> str:
    """Returns a runtime's configuration for an engine in benchmarks/engines."""
    return json.dumps({"engine": engine, "python": {"path": [str(folder)]}, **more})


def speed(side: Side) -> Callable[[], float]:
    """Returns a function that runs a round and returns its tokens per second."""

    def once() -> float:
        result = side.round()
        return float(result["tokens"] / result["seconds"])

    return once


def c_drain(
    bench: Bench, kind: str, prompt: str, streams: int, readers: int, is_pinned: bool, loop: str = "asyncio"
) -> Side:
    """Starts a program in C that reads an engine's answers through the library."""
    command = [bench.programs.compile("drain"), config(kind), prompt, str(streams), str(readers)]
    return Side(command, is_pinned, {"DYNAMO_LLM_LOOP": loop})


def free_port() -> int:
    """Returns a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

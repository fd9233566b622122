# SPDX-License-Identifier: Apache-2.0
"""Simulates many gateways that route requests to many workers, each on its own: how much of the prompts the
workers have in their KV caches, and how evenly they are loaded, by the way of routing and by the age of what
the gateways know. Without sockets, models, and clocks; the same seed gives the same result.

    python benchmarks/scale.py [--gateways 1000] [--workers 100] [--requests 20000] [--seed 1] [--seeds 3]

Prints a table in Markdown, with the least and the greatest result of several seeds.

The model: requests arrive at random times, at 70 percent of what the workers can compute without any cached
prompt. Each continues one of many conversations, some of which are much more active than others, and comes
to a random gateway. A worker computes the blocks of the prompt that it does not have, and then the answer;
it keeps the blocks of the conversations that it answered last. Requests do not wait for each other, however
busy a worker is. All caches are empty at the beginning. The gateways learn of kept and dropped blocks, and
of the requests of other gateways where they hear of these, when they are `staleness` seconds old. A request
in progress weighs as much as eight blocks; Dynamo's own weights can be set.
"""

import argparse
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

#: Seconds that a worker takes for a block of the prompt, and on average for an answer. A worker computes all
#: of its requests together, so they do not wait for each other.
_block_seconds = 0.01
_answer_seconds = 2.0
#: Requests that a worker computes together before it counts as fully used.
_slots = 16
#: Blocks of a conversation at its first turn, and that each turn adds.
_first_blocks, _turn_blocks = 16, 8
#: Blocks that a request in progress weighs as much as.
_request_blocks = 8
#: Blocks that a worker keeps.
_cache_blocks = 4000
#: As the key "router" of a cluster; `kv` where each gateway knows the load that it causes itself, which is
#: the default, and where the gateways tell each other; for comparison the worker with the least heard load.
_modes = ("random", "round_robin", "least_loaded", "kv", "kv, load shared", "heard load")
#: Those that use events, so that the age of these matters.
_hearing = ("kv", "kv, load shared", "heard load")
_ages = (0.0, 0.1, 1.0, 5.0)


@dataclass
class Outcome:
    """What happened in one simulation."""

    requests: int
    """Number of requests that were answered."""
    hits: int
    """Blocks of prompts that the chosen worker had."""
    blocks: int
    """Blocks of all prompts."""
    imbalance: float
    """Average, over all arrivals, of the load of the busiest worker, divided by the average load."""
    per_worker: list[int]
    """Number of requests that each worker answered."""

    @property
    def hit_rate(self) -> float:
        """Part of the blocks that did not have to be computed."""
        return self.hits / self.blocks


@dataclass
class View:
    """What is known about the workers: the truth, or what the gateways have heard of it."""

    loads: list[int]
    holders: dict[int, dict[int, int]] = field(default_factory=dict)
    """By conversation: how many of its blocks each worker has."""


@dataclass(frozen=True)
class Settings:
    """The size of a simulation."""

    gateways: int = 1000
    workers: int = 100
    requests: int = 20_000
    conversations: int = 2000
    seed: int = 1


class Simulation:
    """One way of routing, with knowledge of one age.

    :param staleness: seconds until the gateways hear of an event.
    """

    def __init__(self, settings: Settings, mode: str, staleness: float) -> None:
        self._settings = settings
        self._staleness = staleness
        self._chance = random.Random(settings.seed)
        self._ties = random.Random(settings.seed + 1)
        self._truth = View([0] * settings.workers)
        self._known = View([0] * settings.workers)
        self._caches: list[OrderedDict[int, int]] = [OrderedDict() for _ in range(settings.workers)]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._unheard: dict[int, list[int]] = {}  # by gateway: the workers of requests not heard of yet
        self._own: dict[int, list[int]] = {}  # by gateway: the workers of its requests in progress
        self._turns = [self._ties.randrange(settings.workers) for _ in range(settings.gateways)]
        self._number = 0
        self._answered = 0
        self._choose = {
            "random": lambda gateway, conversation, blocks: self._ties.randrange(settings.workers),
            "round_robin": lambda gateway, conversation, blocks: self._next(gateway),
            "least_loaded": lambda gateway, conversation, blocks: self._best(self._own_loads(gateway), {}),
            "heard load": lambda gateway, conversation, blocks: self._best(self._heard_loads(gateway), {}),
            "kv": lambda gateway, conversation, blocks: self._best(
                self._own_loads(gateway), self._known.holders.get(conversation, {})
            ),
            "kv, load shared": lambda gateway, conversation, blocks: self._best(
                self._heard_loads(gateway), self._known.holders.get(conversation, {})
            ),
        }[mode]

    def run(self) -> Outcome:
        """Routes all requests, and waits for their answers."""
        settings, chance = self._settings, self._chance
        longest = _answer_seconds + _block_seconds * (_first_blocks + 4 * _turn_blocks)
        rate = 0.7 * settings.workers * _slots / longest
        weights = [1 / (rank + 10) for rank in range(settings.conversations)]
        turns = [0] * settings.conversations
        outcome = Outcome(0, 0, 0, 0.0, [0] * settings.workers)
        now, imbalance = 0.0, 0.0
        for _ in range(settings.requests):
            now += chance.expovariate(rate)
            self._advance(now)
            conversation = chance.choices(range(settings.conversations), weights)[0]
            blocks = _first_blocks + _turn_blocks * (turns[conversation] % 10)
            turns[conversation] += 1
            gateway = chance.randrange(settings.gateways)
            answer = chance.expovariate(1 / _answer_seconds)
            worker = self._choose(gateway, conversation, blocks)
            has = min(self._caches[worker].get(conversation, 0), blocks)
            outcome.hits += has
            outcome.blocks += blocks
            outcome.per_worker[worker] += 1
            self._send(now, gateway, worker, conversation, blocks)
            end = now + _block_seconds * (blocks - has) + answer
            self._at(end, partial(self._on_answered, gateway, worker, end))
            loads = self._truth.loads
            imbalance += max(loads) * settings.workers / sum(loads)
        self._advance(float("inf"))
        outcome.requests = self._answered
        outcome.imbalance = imbalance / settings.requests
        assert not any(self._truth.loads)
        return outcome

    def _at(self, time: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, event))

    def _advance(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            heapq.heappop(self._events)[2]()

    def _send(self, now: float, gateway: int, worker: int, conversation: int, blocks: int) -> None:
        self._truth.loads[worker] += 1
        cache = self._caches[worker]
        cache[conversation] = max(blocks, cache.pop(conversation, 0))
        dropped = []
        while sum(cache.values()) > _cache_blocks:
            dropped.append(cache.popitem(last=False)[0])
        self._own.setdefault(gateway, []).append(worker)
        unheard = self._unheard.setdefault(gateway, [])
        unheard.append(worker)

        def hear() -> None:
            unheard.remove(worker)
            self._known.loads[worker] += 1
            self._known.holders.setdefault(conversation, {})[worker] = blocks
            for other in dropped:
                self._known.holders.get(other, {}).pop(worker, None)

        if self._staleness:
            self._at(now + self._staleness, hear)
        else:
            hear()

    def _on_answered(self, gateway: int, worker: int, now: float) -> None:
        self._answered += 1
        self._truth.loads[worker] -= 1
        self._own[gateway].remove(worker)

        def hear() -> None:
            self._known.loads[worker] -= 1

        if self._staleness:
            self._at(now + self._staleness, hear)
        else:
            hear()

    def _next(self, gateway: int) -> int:
        self._turns[gateway] = (self._turns[gateway] + 1) % self._settings.workers
        return self._turns[gateway]

    def _own_loads(self, gateway: int) -> list[int]:
        """Returns how many requests of this gateway each worker answers now."""
        counts = [0] * self._settings.workers
        for worker in self._own.get(gateway, ()):
            counts[worker] += 1
        return counts

    def _heard_loads(self, gateway: int) -> list[int]:
        """Returns how many requests of all gateways each worker answers, as far as this gateway knows."""
        counts = list(self._known.loads)
        for worker in self._unheard.get(gateway, ()):
            counts[worker] += 1
        return counts

    def _best(self, loads: list[int], holders: dict[int, int]) -> int:
        """Returns the worker with the least cost: its load less the blocks that it has."""
        costs = [_request_blocks * load for load in loads]
        for worker, blocks in holders.items():
            costs[worker] -= blocks
        least = min(costs)
        return self._ties.choice([worker for worker, cost in enumerate(costs) if cost == least])


def between(values: list[float], form: str) -> str:
    """Returns the least and the greatest of some numbers; one of them if they read the same."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def table(settings: Settings, seeds: int) -> str:
    """Returns the results of all ways and ages, in Markdown."""
    heads = [f"{age:g} s" for age in _ages]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for mode in _modes:
        cells: list[str] = []
        for age in _ages:
            if cells and mode not in _hearing:
                cells.append(cells[0])
                continue
            all_seeds = [replace(settings, seed=settings.seed + number) for number in range(seeds)]
            outcomes = [Simulation(each, mode, age).run() for each in all_seeds]
            hits = between([100 * outcome.hit_rate for outcome in outcomes], ".0f")
            cells.append(f"{hits} %, {between([outcome.imbalance for outcome in outcomes], '.1f')}")
        lines.append(f"| {mode} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Simulates gateways that route requests to workers.")
    for name in ("gateways", "workers", "requests", "conversations", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name))
    parser.add_argument("--seeds", type=int, default=3)
    given = vars(parser.parse_args())
    seeds = given.pop("seeds")
    print(table(Settings(**given), seeds))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Requests reserved on workers, and their load there."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

Worker = tuple[int, int]
"""Id and data parallel rank."""


@dataclass
class Reservation:
    """A request on a worker."""

    worker: Worker
    prefill_tokens: int
    """Tokens that its prefill has yet to compute; 0 once that is complete."""
    hashes: Sequence[int]
    """Of the blocks of its prompt; equal hashes are the same block of the worker."""
    output_blocks: int = 0
    """Blocks of its answer."""
    decay: float = 1.0
    """Weight of those."""


@dataclass
class Load:
    """The load of a worker by reserved requests."""

    requests: int = 0
    prefill_tokens: int = 0
    """Tokens to compute before those of new requests."""
    output_blocks: float = 0.0
    blocks: Counter[int] = field(default_factory=Counter)
    """Number of requests that use a block."""

    def other_blocks(self, hashes: Sequence[int]) -> int:
        """Returns the number of used blocks that a request with these hashes would not share."""
        shared = sum(1 for value in set(hashes) if value in self.blocks)
        return len(self.blocks) - shared + round(self.output_blocks)


class Reservations:
    """What Dynamo's router does not track: requests reserved on a worker that it did not select."""

    def __init__(self) -> None:
        self._reservations: dict[str, Reservation] = {}
        self._loads: defaultdict[Worker, Load] = defaultdict(Load)

    def __len__(self) -> int:
        return len(self._reservations)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._reservations

    def add(self, request_id: str, reservation: Reservation) -> None:
        """Adds a request with a new id."""
        self._reservations[request_id] = reservation
        load = self._loads[reservation.worker]
        load.requests += 1
        load.prefill_tokens += reservation.prefill_tokens
        load.blocks.update(reservation.hashes)

    def prefill_complete(self, request_id: str) -> None:
        """Drops the load of the request's prefill."""
        reservation = self._reservations[request_id]
        self._loads[reservation.worker].prefill_tokens -= reservation.prefill_tokens
        reservation.prefill_tokens = 0

    def output_block(self, request_id: str, decay: float) -> None:
        """Adds a block of the request's answer."""
        reservation = self._reservations[request_id]
        load = self._loads[reservation.worker]
        load.output_blocks -= reservation.output_blocks * reservation.decay
        reservation.output_blocks += 1
        reservation.decay = decay
        load.output_blocks += reservation.output_blocks * decay

    def remove(self, request_id: str) -> None:
        """Removes a finished request."""
        reservation = self._reservations.pop(request_id)
        load = self._loads[reservation.worker]
        load.requests -= 1
        load.prefill_tokens -= reservation.prefill_tokens
        load.output_blocks -= reservation.output_blocks * reservation.decay
        for value in reservation.hashes:
            load.blocks[value] -= 1
            if load.blocks[value] == 0:
                del load.blocks[value]
        if load.requests == 0:
            del self._loads[reservation.worker]

    def load(self, worker: Worker) -> Load:
        """Returns the load of a worker."""
        return self._loads.get(worker) or Load()

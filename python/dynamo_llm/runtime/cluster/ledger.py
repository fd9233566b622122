# SPDX-License-Identifier: Apache-2.0
"""Requests that are booked on workers, and what they weigh there."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

Worker = tuple[int, int]
"""Id and data parallel rank."""


@dataclass
class Booking:
    """A request on a worker."""

    worker: Worker
    prefill_tokens: int
    """Tokens that its prefill has still to compute; 0 when that is done."""
    hashes: Sequence[int]
    """Of the blocks of its prompt; equal ones are one block of the worker."""
    output_blocks: int = 0
    """Blocks of its answer."""
    decay: float = 1.0
    """How much of those still counts."""


@dataclass
class Load:
    """What a worker has to do for the requests that are booked."""

    requests: int = 0
    prefill_tokens: int = 0
    """Those that it computes before new ones."""
    output_blocks: float = 0.0
    blocks: Counter[int] = field(default_factory=Counter)
    """How many requests use a block."""

    def other_blocks(self, hashes: Sequence[int]) -> int:
        """Blocks that are held, and which a request with these would not share."""
        shared = sum(1 for value in set(hashes) if value in self.blocks)
        return len(self.blocks) - shared + round(self.output_blocks)


class Ledger:
    """What Dynamo's router does not keep: requests that were put on a worker which it did not choose."""

    def __init__(self) -> None:
        self._bookings: dict[str, Booking] = {}
        self._loads: defaultdict[Worker, Load] = defaultdict(Load)

    def __len__(self) -> int:
        return len(self._bookings)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._bookings

    def add(self, request_id: str, booking: Booking) -> None:
        """Book a request whose id is not there yet."""
        self._bookings[request_id] = booking
        load = self._loads[booking.worker]
        load.requests += 1
        load.prefill_tokens += booking.prefill_tokens
        load.blocks.update(booking.hashes)

    def prefill_complete(self, request_id: str) -> None:
        """The request's prefill is done."""
        booking = self._bookings[request_id]
        self._loads[booking.worker].prefill_tokens -= booking.prefill_tokens
        booking.prefill_tokens = 0

    def output_block(self, request_id: str, decay: float) -> None:
        """The answer has filled one more block."""
        booking = self._bookings[request_id]
        load = self._loads[booking.worker]
        load.output_blocks -= booking.output_blocks * booking.decay
        booking.output_blocks += 1
        booking.decay = decay
        load.output_blocks += booking.output_blocks * decay

    def remove(self, request_id: str) -> None:
        """The request has ended."""
        booking = self._bookings.pop(request_id)
        load = self._loads[booking.worker]
        load.requests -= 1
        load.prefill_tokens -= booking.prefill_tokens
        load.output_blocks -= booking.output_blocks * booking.decay
        for value in booking.hashes:
            load.blocks[value] -= 1
            if load.blocks[value] == 0:
                del load.blocks[value]
        if load.requests == 0:
            del self._loads[booking.worker]

    def load(self, worker: Worker) -> Load:
        """What a worker has."""
        return self._loads.get(worker) or Load()

# SPDX-License-Identifier: Apache-2.0
"""What routers are asked, and what they answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster.ledger import Worker

#: Dynamo's settings for the decode of a request that is prefilled elsewhere: its blocks come with it, so
#: that those which are there already are no reason.
decode_override = {"overlap_score_credit": 0.0, "assume_kv_reuse": False, "track_prefill_tokens": False}


@dataclass(frozen=True)
class Ask:
    """A request that looks for a worker."""

    token_ids: list[int]
    workers: frozenset[int] | None = None
    """Ids of those that may be chosen; None for all."""
    lora_name: str | None = None
    cache_salt: str | None = None
    priority_jump: float = 0.0
    """Seconds that it goes ahead of others, where Dynamo's router lets requests wait."""
    strict_priority: int = 0
    """Those with more go first, whatever else."""
    expected_output_tokens: int | None = None
    required_taints: tuple[str, ...] = ()
    """What a worker must be marked with."""
    preferred_taints: dict[str, float] = field(default_factory=dict)
    """Marks that speak for a worker, or with a negative weight against it."""

    @property
    def has_constraints(self) -> bool:
        """Whether workers differ by more than blocks and load."""
        return bool(self.required_taints or self.preferred_taints)


@dataclass(frozen=True)
class Chosen:
    """A worker for a request."""

    worker: Worker
    overlap_blocks: int
    """Blocks of the prompt that it has."""
    address: str | None
    """Where it serves."""


@dataclass(frozen=True)
class Selection:
    """The workers for a request."""

    decode: Chosen | None
    """Who answers; None if only a worker for the prefill was asked for."""
    prefill: Chosen | None = None
    """Who computes the prompt, if that is another one."""

    def described(self) -> dict[str, Any]:
        """As the C interface reads it."""
        result: dict[str, Any] = {}
        for prefix, chosen in (("", self.decode), ("prefill_", self.prefill)):
            if chosen is not None:
                result[prefix + "worker_id"], result[prefix + "dp_rank"] = chosen.worker
                result[prefix + "overlap_blocks"] = chosen.overlap_blocks
                result[prefix + "address"] = chosen.address
        return result


def no_worker(ask: Ask, known: Iterable[int]) -> UnavailableError:
    """The error where nobody can be chosen.

    :param known: ids of the workers that there are.
    """
    wanted = "" if ask.workers is None else f" of those that may be chosen ({listed(ask.workers)})"
    taints = f" marked with {', '.join(ask.required_taints)}" if ask.required_taints else ""
    return UnavailableError(f"no worker{wanted}{taints} is there; there are: {listed(known)}")


def listed(ids: Iterable[int]) -> str:
    """Ids for a message."""
    return ", ".join(str(id) for id in sorted(ids)) or "none"

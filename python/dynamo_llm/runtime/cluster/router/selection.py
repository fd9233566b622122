# SPDX-License-Identifier: Apache-2.0
"""The workers that a router selected for a request."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster.router.reservations import Worker
from dynamo_llm.runtime.cluster.router.routing_request import RoutingRequest

#: Dynamo's settings for the decode of a request that another worker prefills: the KV blocks come with it, so
#: blocks that a worker has already do not matter.
decode_override = {"overlap_score_credit": 0.0, "assume_kv_reuse": False, "track_prefill_tokens": False}

#: The key for the rank of a worker in a command or its result; the C++ side uses it, too.
RANK = "data_parallel_rank"


class SelectedWorker(NamedTuple):
    """A worker for a request, in the order of ``_core.router_answer()``."""

    id: int
    data_parallel_rank: int
    overlap_blocks: int
    """Number of the prompt's blocks that it has."""
    address: str | None
    """The address that it serves at."""


class Selection(NamedTuple):
    """The workers for a request, in the order of ``_core.router_answer()``."""

    decode: SelectedWorker | None
    """The worker that answers; None if only one for the prefill was requested."""
    prefill: SelectedWorker | None = None
    """The worker that computes the prompt, if that is a separate one."""

    def result(self) -> dict[str, Any]:
        """Returns the result of the command ``select``."""
        result: dict[str, Any] = {}
        for prefix, selected in (("", self.decode), ("prefill_", self.prefill)):
            if selected is not None:
                result[f"{prefix}worker_id"] = selected.id
                result[prefix + RANK] = selected.data_parallel_rank
                result[f"{prefix}overlap_blocks"] = selected.overlap_blocks
                result[f"{prefix}address"] = selected.address
        return result


def no_worker(request: RoutingRequest, known: Iterable[int]) -> UnavailableError:
    """Returns the error for a request that no worker can be selected for; ``known`` are the live workers."""
    allowed = "" if request.workers is None else f" among the allowed ones ({listed(request.workers)})"
    taints = f" with the taints {', '.join(request.required_taints)}" if request.required_taints else ""
    return UnavailableError(f"no worker{allowed}{taints} is available; live workers: {listed(known)}")


def overlap_of(rows: list[dict[str, Any]], worker: Worker) -> int:
    """Returns how many blocks of a prompt a worker has, by the rows that Dynamo returns for all workers."""
    rows = [row for row in rows if (row["worker_id"], row["dp_rank"]) == worker]
    return int(rows[0]["device_blocks"]) if rows else 0


def listed(ids: Iterable[int]) -> str:
    """Formats ids for a message."""
    return ", ".join(str(id) for id in sorted(ids)) or "none"

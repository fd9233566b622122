# SPDX-License-Identifier: Apache-2.0
"""A router without a cluster, whose caller registers the workers."""

from functools import partial
from typing import Any

from dynamo_llm.errors import DynamoError, InvalidArgumentError, NotSupportedError, OverloadedError
from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.cluster.router.dynamo_calls import DynamoCalls
from dynamo_llm.runtime.cluster.router.dynamo_options import construct
from dynamo_llm.runtime.cluster.router.reservations import Worker
from dynamo_llm.runtime.cluster.router.routing_request import RoutingRequest
from dynamo_llm.runtime.cluster.router.selection import (
    SelectedWorker,
    Selection,
    decode_override,
    listed,
    no_worker,
)
from dynamo_llm.runtime.options import unknown_key

#: A router routes the requests of one model.
_model = "model"
_worker_keys = (
    "worker_id", "phase", "endpoint", "kv_events_endpoint", "kv_events_endpoints", "replay_endpoint",
    "block_size", "data_parallel_start_rank", "data_parallel_size", "max_num_batched_tokens",
    "total_kv_blocks", "stable_routing_id", "is_eagle", "taints", "topology_domains", "kv_transfer_domain",
    "kv_transfer_enforcement", "kv_transfer_preferred_weight",
)  # fmt: skip
#: Roles of workers, and Dynamo's name for the group of each.
_groups = {"aggregated": "default", "decode": "default", "prefill": "prefill"}


class StaticRouter:
    """Selects by Dynamo's SelectionService, which subscribes to the KV events that the workers' engines
    publish on ZMQ sockets.

    :param options: keyword arguments of SelectionService.
    :raises InvalidConfigError: an option is unknown or invalid.
    """

    def __init__(self, is_disaggregated: bool, block_size: int, options: dict[str, Any]) -> None:
        core = dynamo_import.import_core()
        self._failures = core.DynamoException
        self._is_disaggregated = is_disaggregated
        self._block_size = block_size
        self._service = construct(core.SelectionService, options)
        self._dynamo = DynamoCalls()
        #: The ranks of each worker, and its group.
        self._ranks: dict[int, tuple[range, str]] = {}
        #: The phases that each request is reserved for.
        self._reserved: dict[str, set[str]] = {}

    async def close(self) -> None:
        """Stops the service."""
        self._service.shutdown()

    def _query(self, request: RoutingRequest, phase: str) -> dict[str, Any]:
        query: dict[str, Any] = {
            "model_name": _model,
            "routing_group": _groups["prefill" if phase == "prefill" else "decode"],
            "token_ids": request.token_ids,
            **request.routing(),
        }
        if phase == "decode" and self._is_disaggregated:
            query["router_config_override"] = decode_override
        return query

    def _check_phase(self, phase: str) -> None:
        if phase == "prefill" and not self._is_disaggregated:
            raise NotSupportedError(
                'the router\'s "mode" is "aggregated", so its workers prefill themselves; set it to '
                '"disaggregated" for separate prefill workers'
            )

    # ----------------------------------------------------------------------------------- selection

    async def select(self, request: RoutingRequest, phase: str, request_id: str | None) -> Selection:
        """Selects the workers for a request; see :class:`RouterEngine`."""
        self._check_phase(phase)
        self._begin(request_id)
        try:
            prefill = None
            if phase == "prefill" or (phase == "all" and self._is_disaggregated):
                prefill = await self._select(request, "prefill", request_id)
            decode = None if phase == "prefill" else await self._select(request, "decode", request_id)
        except BaseException:
            await self._undo(request_id)
            raise
        return Selection(decode, prefill)

    async def _select(self, request: RoutingRequest, phase: str, request_id: str | None) -> SelectedWorker:
        query = self._query(request, phase)
        if request_id is None:
            answer = await self._call(self._service.select, query, request=request)
        else:
            query["selection_id"] = _selection_id(request_id, phase)
            answer = await self._call(self._service.select_and_reserve, query, request=request)
            self._reserved[request_id].add(phase)
        rank = answer["dp_rank"]
        cached_tokens = answer["overlap"]["dp"].get(str(rank), 0)
        return SelectedWorker(
            answer["worker_id"], rank, cached_tokens // answer["block_size"], answer["endpoint"]
        )

    async def _call(self, function: Any, *arguments: Any, request: RoutingRequest | None = None) -> Any:
        """Calls the service, and translates its errors.

        :param request: names the required workers if there are none.
        """
        try:
            result = self._dynamo(function, *arguments)
            return None if result is None else await result
        except (ValueError, TypeError) as error:
            raise InvalidArgumentError(f"NVIDIA Dynamo's selection: {error}") from error
        except self._failures as error:
            code = getattr(error, "status_code", 500)
            if getattr(error, "kind", "") in ("not_found", "conflict"):
                raise InvalidArgumentError(str(error)) from error
            if code == 429:
                raise OverloadedError(str(error)) from error
            if code == 503:
                raise no_worker(request or RoutingRequest([]), self._ids()) from error
            raise DynamoError(f"NVIDIA Dynamo's selection: {error}") from error

    def _ids(self) -> list[int]:
        return [one["worker_id"] for one in self._service.list_workers()]

    # -------------------------------------------------------------------------------- reservations

    async def reserve(
        self, request_id: str, request: RoutingRequest, decode: Worker | None, prefill: Worker | None
    ) -> None:
        """Reserves a request on workers that were selected before."""
        if prefill is not None:
            self._check_phase("prefill")
        self._begin(request_id)
        try:
            for phase, worker in (("prefill", prefill), ("decode", decode)):
                if worker is None:
                    continue
                query = self._query(request, phase)
                query["selection_id"] = _selection_id(request_id, phase)
                # create_reservation() would not count the prefill.
                query["pinned_worker"] = {"worker_id": worker[0], "dp_rank": worker[1]}
                self._require_worker(worker, _groups[phase])
                await self._call(self._service.select_and_reserve, query, request=request)
                self._reserved[request_id].add(phase)
        except BaseException:
            await self._undo(request_id)
            raise

    def _require_worker(self, worker: Worker, group: str) -> None:
        ranks, own_group = self._ranks.get(worker[0], (range(0), ""))
        if worker[1] not in ranks or own_group != group:
            raise InvalidArgumentError(
                f"worker {worker[0]} rank {worker[1]} is not available; live workers: {listed(self._ids())}"
            )

    def _begin(self, request_id: str | None) -> None:
        """Begins to reserve a request, if it has an id."""
        if request_id is None:
            return
        if request_id in self._reserved:
            raise InvalidArgumentError(f'the request "{request_id}" is already reserved')
        self._reserved[request_id] = set()

    async def _undo(self, request_id: str | None) -> None:
        """Releases the reservations of a request since :meth:`_begin`."""
        if request_id is not None:
            for phase in self._reserved.pop(request_id):
                await self._service.free_reservation(_selection_id(request_id, phase))

    def _phases(self, request_id: str) -> set[str]:
        if not self._reserved.get(request_id):
            raise InvalidArgumentError(f'no request "{request_id}" is reserved')
        return self._reserved[request_id]

    async def prefill_complete(self, request_id: str) -> None:
        """Marks the prompt as computed; a worker that only prefills has finished with the request."""
        phases = self._phases(request_id)
        if "prefill" in phases:
            phases.remove("prefill")
            await self._call(self._service.free_reservation, _selection_id(request_id, "prefill"))
        if "decode" in phases:
            await self._call(self._service.prefill_complete, _selection_id(request_id, "decode"))
        if not phases:
            del self._reserved[request_id]

    async def output_block(self, request_id: str, decay: float) -> None:
        """Adds a block of the answer."""
        if "decode" in self._phases(request_id):
            add = partial(self._service.add_output_block, decay_fraction=None if decay == 1 else decay)
            await self._call(add, _selection_id(request_id, "decode"))

    async def free(self, request_id: str) -> None:
        """Releases the reservation of a request."""
        phases = self._phases(request_id)
        del self._reserved[request_id]
        for phase in sorted(phases):
            await self._call(self._service.free_reservation, _selection_id(request_id, phase))

    # --------------------------------------------------------------------------------------- state

    async def loads(self, request: RoutingRequest, phase: str) -> list[dict[str, Any]]:
        """Returns the load that each worker would have with the request."""
        self._check_phase(phase)
        query = self._query(request, phase)
        return list(await self._call(self._service.potential_loads, query, request=request))

    async def overlaps(self, request: RoutingRequest, phase: str) -> list[dict[str, Any]]:
        """Returns how many blocks of a prompt each worker has."""
        self._check_phase(phase)
        query = self._query(request, phase)
        return list((await self._call(self._service.overlap_scores, query, request=request))["workers"])

    async def workers(self) -> list[dict[str, Any]]:
        """Describes the registered workers."""
        return [self._described(one) for one in self._service.list_workers()]

    def _described(self, record: dict[str, Any]) -> dict[str, Any]:
        default = "decode" if self._is_disaggregated else "aggregated"
        phase = "prefill" if record["routing_group"] == "prefill" else default
        rest = {key: record[key] for key in _worker_keys if record.get(key) is not None}
        return {"worker_id": record["worker_id"], "phase": phase, "address": record["endpoint"], **rest}

    async def upsert_worker(self, worker: dict[str, Any]) -> dict[str, Any]:
        """Registers a worker, or updates it.

        :raises InvalidArgumentError: a key is unknown or missing, or a value is invalid.
        """
        for key in worker:
            if key not in _worker_keys:
                raise InvalidArgumentError(unknown_key(key, _worker_keys, place="of a worker"))
        phase = worker.get("phase", "decode" if self._is_disaggregated else "aggregated")
        if phase not in _groups:
            raise InvalidArgumentError(
                f'"phase" of a worker must be one of {", ".join(_groups)}, not {phase!r}'
            )
        self._check_phase(phase)
        record = {
            "block_size": self._block_size,
            **{key: value for key, value in worker.items() if key != "phase"},
            "model_name": _model,
            "routing_group": _groups[phase],
        }
        if isinstance(by_rank := record.get("kv_events_endpoints"), dict):
            try:
                record["kv_events_endpoints"] = {int(rank): where for rank, where in by_rank.items()}
            except ValueError as error:
                raise InvalidArgumentError(
                    f'the keys of "kv_events_endpoints" of a worker must be ranks: {error}'
                ) from error
        answer = await self._call(self._service.upsert_worker, record)
        if reasons := answer.get("not_schedulable_reasons"):
            await self._call(self._service.delete_worker, answer["worker_id"])
            self._ranks.pop(answer["worker_id"], None)
            raise InvalidArgumentError(
                f"the worker {answer['worker_id']} cannot be selected: {'; '.join(reasons)}"
            )
        first = answer["data_parallel_start_rank"] or 0
        ranks = range(first, first + (answer["data_parallel_size"] or 1))
        self._ranks[answer["worker_id"]] = ranks, answer["routing_group"]
        return self._described(answer)

    async def delete_worker(self, worker_id: int) -> dict[str, Any]:
        """Removes a worker."""
        record = await self._call(self._service.delete_worker, worker_id)
        self._ranks.pop(worker_id, None)
        return self._described(record)


def _selection_id(request_id: str, phase: str) -> str:
    return f"{phase}/{request_id}"

# SPDX-License-Identifier: Apache-2.0
"""A router without a cluster, which is told of its workers."""

import difflib
import inspect
from typing import Any

from dynamo_llm.errors import (
    DynamoError,
    InvalidArgumentError,
    InvalidConfigError,
    NotSupportedError,
    OverloadedError,
)
from dynamo_llm.runtime.cluster import noise
from dynamo_llm.runtime.cluster.ledger import Worker
from dynamo_llm.runtime.cluster.selection import Ask, Chosen, Selection, decode_override, listed, no_worker

#: One router is one model's.
_model = "model"
_worker_keys = (
    "worker_id",
    "phase",
    "endpoint",
    "kv_events_endpoint",
    "kv_events_endpoints",
    "replay_endpoint",
    "block_size",
    "data_parallel_start_rank",
    "data_parallel_size",
    "max_num_batched_tokens",
    "total_kv_blocks",
    "stable_routing_id",
    "is_eagle",
    "taints",
    "topology_domains",
    "kv_transfer_domain",
    "kv_transfer_enforcement",
    "kv_transfer_preferred_weight",
)
#: What a worker does, and Dynamo's name for the group of those.
_groups = {"aggregated": "default", "decode": "default", "prefill": "prefill"}


class LocalRouter:
    """Chooses by Dynamo's SelectionService. The workers' engines say what blocks they have on ZMQ sockets of
    their own, to which it connects.

    :param options: keywords of SelectionService.
    :raises InvalidConfigError: an unknown one, or a wrong value.
    """

    def __init__(self, is_disaggregated: bool, block_size: int, options: dict[str, Any]) -> None:
        core = noise.prepare()
        self._failures = core.DynamoException
        self._is_disaggregated = is_disaggregated
        self._block_size = block_size
        known = inspect.signature(core.SelectionService).parameters
        for key in options:
            if key not in known:
                raise InvalidConfigError(
                    f'"options.{key}" of the configuration is no setting of NVIDIA Dynamo\'s selection; '
                    f"known: {', '.join(known)}"
                )
        try:
            self._service = core.SelectionService(**options)
        except Exception as error:
            raise InvalidConfigError(f'"options" of the configuration: {error}') from error
        #: Of which workers requests are booked.
        self._booked: dict[str, set[str]] = {}

    async def close(self) -> None:
        """Stop."""
        self._service.shutdown()

    def _request(self, ask: Ask, phase: str) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model_name": _model,
            "routing_group": _groups["prefill" if phase == "prefill" else "decode"],
            "token_ids": ask.token_ids,
            "lora_name": ask.lora_name,
            "cache_salt": ask.cache_salt,
            "priority_jump": ask.priority_jump,
            "strict_priority": ask.strict_priority,
            "expected_output_tokens": ask.expected_output_tokens,
            "allowed_worker_ids": None if ask.workers is None else sorted(ask.workers),
        }
        if ask.has_constraints:
            request["routing_constraints"] = {
                "required_taints": sorted(ask.required_taints),
                "preferred_taints": ask.preferred_taints,
            }
        if phase == "decode" and self._is_disaggregated:
            request["router_config_override"] = decode_override
        return {key: value for key, value in request.items() if value is not None}

    def _check_phase(self, phase: str) -> None:
        if phase == "prefill" and not self._is_disaggregated:
            raise NotSupportedError(
                'the router\'s "mode" is "aggregated": its workers prefill themselves; the other one is '
                '"disaggregated"'
            )

    # ------------------------------------------------------------------------------------ choosing

    async def select(self, ask: Ask, phase: str, request_id: str | None) -> Selection:
        """The workers for a request; see :class:`RouterEngine`."""
        self._check_phase(phase)
        if request_id is not None:
            self._take(request_id)
        try:
            prefill = None
            if phase == "prefill" or (phase == "all" and self._is_disaggregated):
                prefill = await self._choose(ask, "prefill", request_id)
            decode = None if phase == "prefill" else await self._choose(ask, "decode", request_id)
        except BaseException:
            if request_id is not None:
                await self._give_back(request_id)
            raise
        return Selection(decode, prefill)

    async def _choose(self, ask: Ask, phase: str, request_id: str | None) -> Chosen:
        request = self._request(ask, phase)
        if request_id is None:
            answer = await self._asked(lambda: self._service.select(request), ask)
        else:
            request["selection_id"] = _selection_id(request_id, phase)
            answer = await self._asked(lambda: self._service.select_and_reserve(request), ask)
            self._booked[request_id].add(phase)
        worker = (answer["worker_id"], answer["dp_rank"])
        blocks = [
            row["device_blocks"]
            for row in await self.overlaps(ask, phase)
            if (row["worker_id"], row["dp_rank"]) == worker
        ]
        return Chosen(worker, blocks[0] if blocks else 0, answer["endpoint"])

    async def _asked(self, call: Any, ask: Ask | None = None) -> Any:
        try:
            return await call()
        except (ValueError, TypeError) as error:
            raise InvalidArgumentError(f"NVIDIA Dynamo's selection: {error}") from error
        except self._failures as error:
            raise self._failure(error, ask) from error

    def _failure(self, error: Any, ask: Ask | None) -> DynamoError:
        kind, code = getattr(error, "kind", ""), getattr(error, "status_code", 500)
        if kind in ("not_found", "conflict"):
            return InvalidArgumentError(str(error))
        if code == 429:
            return OverloadedError(str(error))
        if code == 503:
            return no_worker(ask or Ask([]), self._ids())
        return DynamoError(f"NVIDIA Dynamo's selection: {error}")

    def _ids(self) -> list[int]:
        return [one["worker_id"] for one in self._service.list_workers()]

    # ------------------------------------------------------------------------------------- booking

    async def reserve(self, request_id: str, ask: Ask, decode: Worker | None, prefill: Worker | None) -> None:
        """Book a request on workers that were chosen before."""
        if prefill is not None:
            self._check_phase("prefill")
        self._take(request_id)
        try:
            for phase, worker in (("prefill", prefill), ("decode", decode)):
                if worker is None:
                    continue
                request = self._request(ask, phase)
                request["selection_id"] = _selection_id(request_id, phase)
                # create_reservation() would not count the prefill.
                request["pinned_worker"] = {"worker_id": worker[0], "dp_rank": worker[1]}
                self._require_worker(worker, _groups[phase])
                await self._asked(lambda request=request: self._service.select_and_reserve(request), ask)
                self._booked[request_id].add(phase)
        except BaseException:
            await self._give_back(request_id)
            raise

    def _require_worker(self, worker: Worker, group: str) -> None:
        for one in self._service.list_workers(routing_group=group):
            first = one["data_parallel_start_rank"] or 0
            if one["worker_id"] == worker[0] and 0 <= worker[1] - first < (one["data_parallel_size"] or 1):
                return
        raise InvalidArgumentError(
            f"there is no worker {worker[0]} rank {worker[1]}; there are: {listed(self._ids())}"
        )

    def _take(self, request_id: str) -> None:
        if request_id in self._booked:
            raise InvalidArgumentError(f'the request "{request_id}" is booked already')
        self._booked[request_id] = set()

    async def _give_back(self, request_id: str) -> None:
        for phase in self._booked.pop(request_id):
            await self._service.free_reservation(_selection_id(request_id, phase))

    def _phases(self, request_id: str) -> set[str]:
        if not self._booked.get(request_id):
            raise InvalidArgumentError(f'no request "{request_id}" is booked')
        return self._booked[request_id]

    async def prefill_complete(self, request_id: str) -> None:
        """The first token has come: who only prefilled is done with the request."""
        phases = self._phases(request_id)
        if "prefill" in phases:
            phases.remove("prefill")
            await self._asked(lambda: self._service.free_reservation(_selection_id(request_id, "prefill")))
        if "decode" in phases:
            await self._asked(lambda: self._service.prefill_complete(_selection_id(request_id, "decode")))
        if not phases:
            del self._booked[request_id]

    async def output_block(self, request_id: str, decay: float) -> None:
        """The answer has filled a block."""
        if "decode" not in self._phases(request_id):
            return

        async def add() -> None:
            self._service.add_output_block(
                _selection_id(request_id, "decode"), decay_fraction=None if decay == 1 else decay
            )

        await self._asked(add)

    async def free(self, request_id: str) -> None:
        """The request has ended."""
        phases = self._phases(request_id)
        del self._booked[request_id]
        for phase in sorted(phases):
            await self._asked(
                lambda phase=phase: self._service.free_reservation(_selection_id(request_id, phase))
            )

    # --------------------------------------------------------------------------------------- state

    async def loads(self, ask: Ask, phase: str) -> list[dict[str, Any]]:
        """What each worker would have to do if the request came to it."""
        self._check_phase(phase)
        loads: list[dict[str, Any]] = await self._asked(
            lambda: self._service.potential_loads(self._request(ask, phase)), ask
        )
        return loads

    async def overlaps(self, ask: Ask, phase: str) -> list[dict[str, Any]]:
        """How many blocks of a prompt each worker has."""
        self._check_phase(phase)
        scores = await self._asked(lambda: self._service.overlap_scores(self._request(ask, phase)), ask)
        rows: list[dict[str, Any]] = scores["workers"]
        return rows

    async def workers(self) -> list[dict[str, Any]]:
        """Those that it was told of."""
        return [self._described(one) for one in self._service.list_workers()]

    def _described(self, record: dict[str, Any]) -> dict[str, Any]:
        answers = "decode" if self._is_disaggregated else "aggregated"
        phase = "prefill" if record["routing_group"] == "prefill" else answers
        rest = {key: record[key] for key in _worker_keys if record.get(key) is not None}
        return {"worker_id": record["worker_id"], "phase": phase, "address": record["endpoint"], **rest}

    async def upsert_worker(self, worker: dict[str, Any]) -> dict[str, Any]:
        """Add a worker, or change it.

        :raises InvalidArgumentError: an unknown key, or one that is missing.
        """
        for key in worker:
            if key not in _worker_keys:
                close = difflib.get_close_matches(key, _worker_keys, n=1)
                hint = f'did you mean "{close[0]}"?' if close else "known: " + ", ".join(_worker_keys)
                raise InvalidArgumentError(f'unknown key "{key}" of a worker; {hint}')
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
        answer = await self._asked(lambda: self._service.upsert_worker(record))
        if reasons := answer.get("not_schedulable_reasons"):
            await self._asked(lambda: self._service.delete_worker(answer["worker_id"]))
            raise InvalidArgumentError(
                f"the worker {answer['worker_id']} cannot be chosen: {'; '.join(reasons)}"
            )
        return self._described(answer)

    async def delete_worker(self, worker_id: int) -> dict[str, Any]:
        """Choose a worker no more."""
        return self._described(await self._asked(lambda: self._service.delete_worker(worker_id)))


def _selection_id(request_id: str, phase: str) -> str:
    return f"{phase}/{request_id}"

# SPDX-License-Identifier: Apache-2.0
"""The workers of one endpoint of a cluster, as Dynamo's KvRouter sees them."""

import inspect
from typing import Any

from dynamo_llm.errors import DynamoError, InvalidArgumentError, InvalidConfigError, UnavailableError
from dynamo_llm.runtime.cluster import noise
from dynamo_llm.runtime.cluster.kv_hashes import block_hashes
from dynamo_llm.runtime.cluster.ledger import Booking, Ledger, Worker
from dynamo_llm.runtime.cluster.selection import Ask, Chosen, decode_override, no_worker

#: With it Dynamo's router says whom it would send a request to, and does not send it.
_ask_only = "query_instance_id:"


def router_config(options: dict[str, Any]) -> Any:
    """Dynamo's settings of a router.

    :raises InvalidConfigError: an unknown key, or a wrong value.
    """
    config = noise.prepare().KvRouterConfig
    known = inspect.signature(config).parameters
    for key in options:
        if key not in known:
            raise InvalidConfigError(
                f'"options.{key}" of the configuration is no setting of NVIDIA Dynamo\'s router; known: '
                + ", ".join(known)
            )
    try:
        return config(**options)
    except Exception as error:
        raise InvalidConfigError(f'"options" of the configuration: {error}') from error


class Pool:
    """Chooses among the workers of an endpoint, and keeps what is booked on them.

    Dynamo's router chooses, and books what it chose from all workers. It cannot book a request on a worker
    that is given, and not choose among some and book in one step; such bookings are in a ledger here. Once
    there are some, its formula is computed here, over its own scores and loads, and theirs.

    :param endpoint: Dynamo's, of the workers.
    :param options: settings of Dynamo's router.
    :param decodes_only: the prefill is another pool's.
    """

    def __init__(self, endpoint: Any, block_size: int, options: dict[str, Any], decodes_only: bool) -> None:
        self._config = router_config(options)
        self._block_size = block_size
        self._decodes_only = decodes_only
        self._ledger = Ledger()
        #: What Dynamo's router has booked, and had booked when the connection was lost.
        self._dynamos: dict[str, Worker] = {}
        self._lost: set[str] = set()
        #: Of the answers to those requests.
        self._answers = Ledger()
        self._scale = float(self._config.prefill_load_scale)
        self._request_weight = float(self._config.decode_active_request_weight)
        self._client: Any = None
        self.connect(endpoint)

    def connect(self, endpoint: Any) -> None:
        """Use another connection, after the first one was lost. What Dynamo's router had booked is gone."""
        self._endpoint = endpoint
        self._client = None
        self._router = noise.prepare().KvRouter(endpoint, self._block_size, self._config)
        self._lost.update(self._dynamos)
        self._dynamos.clear()
        self._answers = Ledger()

    async def instances(self) -> list[Any]:
        """Workers that are there now."""
        if self._client is None:
            self._client = await self._endpoint.client()
        return list(self._client.instances())

    # ------------------------------------------------------------------------------------ choosing

    async def choose(self, ask: Ask, request_id: str | None = None) -> Chosen:
        """The best worker.

        :param request_id: if given, the request is booked there, too.
        """
        if request_id is not None:
            self._require_new(request_id)
        if request_id is not None and ask.workers is None and not len(self._ledger):
            worker, overlap = await self._choose_and_book(ask, request_id)
            return Chosen(worker, overlap, await self._address(worker))
        if len(self._ledger) and not ask.has_constraints:
            worker = await self._cheapest(ask)
        else:
            worker = await self._dynamos_choice(ask)
        overlap = await self._overlap(ask, worker)
        if request_id is not None:
            self._require_new(request_id)  # others may have come meanwhile
            self._add(request_id, ask, worker, overlap)
        return Chosen(worker, overlap, await self._address(worker))

    async def _choose_and_book(self, ask: Ask, request_id: str) -> tuple[Worker, int]:
        self._dynamos[request_id] = (0, 0)  # nobody else may take the id meanwhile
        try:
            worker, rank, overlap = await self._router.best_worker(
                ask.token_ids,
                router_config_override=decode_override if self._decodes_only else None,
                request_id=request_id,
                lora_name=ask.lora_name,
                routing_constraints=noise.prepare().RoutingConstraints(
                    set(ask.required_taints), ask.preferred_taints
                )
                if ask.has_constraints
                else None,
                strict_priority=ask.strict_priority,
                cache_namespace=ask.cache_salt,
            )
        except BaseException as error:
            self._dynamos.pop(request_id, None)
            self._lost.discard(request_id)  # if it was lost meanwhile
            if isinstance(error, Exception):
                raise await self._failure(error, ask) from error
            raise
        if request_id in self._dynamos:  # else it was chosen by a router that is lost, with the booking
            self._dynamos[request_id] = (worker, rank)
        return (worker, rank), overlap

    async def _dynamos_choice(self, ask: Ask) -> Worker:
        routing: dict[str, Any] = {
            "priority_jump": ask.priority_jump,
            "strict_priority": ask.strict_priority,
            "lora_name": ask.lora_name,
            "cache_salt": ask.cache_salt,
            "expected_output_tokens": ask.expected_output_tokens,
            "allowed_worker_ids": None if ask.workers is None else sorted(ask.workers),
        }
        if ask.has_constraints:
            routing["routing_constraints"] = {
                "required_taints": sorted(ask.required_taints),
                "preferred_taints": ask.preferred_taints,
            }
        request: dict[str, Any] = {
            "token_ids": ask.token_ids,
            "model": "",
            "stop_conditions": {},
            "sampling_options": {},
            "output_options": {},
            "annotations": [_ask_only],
            "routing": {key: value for key, value in routing.items() if value is not None},
        }
        if self._decodes_only:
            request["router_config_override"] = decode_override
        try:
            async for item in await self._router.generate_from_request(request):
                chosen = item["routing_data"]["worker_id"]
                return chosen["decode_worker_id"], chosen["decode_dp_rank"] or 0
        except Exception as error:
            raise await self._failure(error, ask) from error
        raise UnavailableError("NVIDIA Dynamo's router gave no answer")

    async def _cheapest(self, ask: Ask) -> Worker:
        """Dynamo's formula: blocks to compute, and blocks that are held while others decode."""
        loads = [
            load for load in await self.loads(ask) if ask.workers is None or load["worker_id"] in ask.workers
        ]
        if not loads:
            raise await self._failure(Exception("no endpoints available"), ask)

        def cost(load: dict[str, Any]) -> tuple[float, int, int]:
            prefill = 0 if self._decodes_only else load["potential_prefill_tokens"]
            blocks = self._scale * prefill / self._block_size + load["potential_decode_blocks"]
            blocks += self._request_weight * load["active_requests"]
            return blocks, load["active_requests"], load["worker_id"]

        best = min(loads, key=cost)
        return best["worker_id"], best["dp_rank"]

    async def _overlap(self, ask: Ask, worker: Worker) -> int:
        for row in (await self.overlaps(ask))["workers"]:
            if (row["worker_id"], row["dp_rank"]) == worker:
                return int(row["device_blocks"])
        return 0

    async def _address(self, worker: Worker) -> str | None:
        for instance in await self.instances():
            if instance.instance_id == worker[0]:
                return str(instance.transport.address)
        return None

    async def _failure(self, error: Exception, ask: Ask) -> DynamoError:
        if "no endpoints available" not in str(error):
            return DynamoError(f"NVIDIA Dynamo's router: {error}")
        return no_worker(ask, [one.instance_id for one in await self.instances()])

    # ------------------------------------------------------------------------------------- booking

    async def book(self, request_id: str, ask: Ask, worker: Worker) -> None:
        """Book a request on a worker that was chosen before."""
        self._require_new(request_id)
        known = sorted({(load["worker_id"], load["dp_rank"]) for load in await self.loads(ask)})
        if worker not in known:
            listed = ", ".join(f"{id} rank {rank}" for id, rank in known) or "none"
            raise InvalidArgumentError(
                f"there is no worker {worker[0]} rank {worker[1]}; there are: {listed}"
            )
        overlap = await self._overlap(ask, worker)
        self._require_new(request_id)
        self._add(request_id, ask, worker, overlap)

    def _add(self, request_id: str, ask: Ask, worker: Worker, overlap: int) -> None:
        hashes = block_hashes(ask.token_ids, self._block_size, ask.lora_name, ask.cache_salt)
        if len(ask.token_ids) % self._block_size:
            hashes.append(hash((request_id, len(hashes))))  # the last block is not whole: nobody shares it
        to_compute = max(0, len(ask.token_ids) - overlap * self._block_size)
        self._ledger.add(request_id, Booking(worker, 0 if self._decodes_only else to_compute, hashes))

    def _require_new(self, request_id: str) -> None:
        if request_id in self:
            raise InvalidArgumentError(f'the request "{request_id}" is booked already')

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._ledger or request_id in self._dynamos or request_id in self._lost

    async def prefill_complete(self, request_id: str) -> None:
        """The first token has come."""
        if request_id in self._ledger:
            self._ledger.prefill_complete(request_id)
        elif request_id in self._dynamos:
            await self._router.mark_prefill_complete(request_id)

    def output_block(self, request_id: str, decay: float) -> None:
        """The answer has filled a block."""
        if request_id in self._ledger:
            self._ledger.output_block(request_id, decay)
            return
        if request_id in self._lost:
            return
        if request_id not in self._answers:  # Dynamo's router counts only answers that go through it
            self._answers.add(request_id, Booking(self._dynamos[request_id], 0, ()))
        self._answers.output_block(request_id, decay)

    async def free(self, request_id: str) -> None:
        """The request has ended."""
        if request_id in self._ledger:
            self._ledger.remove(request_id)
            return
        if request_id in self._lost:
            self._lost.remove(request_id)
            return
        del self._dynamos[request_id]
        if request_id in self._answers:
            self._answers.remove(request_id)
        await self._router.free(request_id)

    # --------------------------------------------------------------------------------------- state

    async def loads(self, ask: Ask) -> list[dict[str, Any]]:
        """What each worker would have to do if the request came to it."""
        loads: list[dict[str, Any]] = await self._router.get_potential_loads(
            ask.token_ids, lora_name=ask.lora_name, cache_namespace=ask.cache_salt
        )
        hashes = (
            block_hashes(ask.token_ids, self._block_size, ask.lora_name, ask.cache_salt)
            if len(self._ledger)
            else []
        )
        for load in loads:
            worker = (load["worker_id"], load["dp_rank"])
            own, answers = self._ledger.load(worker), self._answers.load(worker)
            load["potential_prefill_tokens"] += own.prefill_tokens
            load["potential_decode_blocks"] += own.other_blocks(hashes) + answers.other_blocks(())
            load["active_requests"] += own.requests
        return loads

    async def overlaps(self, ask: Ask) -> dict[str, Any]:
        """How many blocks of a prompt each worker has."""
        scores: dict[str, Any] = await self._router.get_overlap_scores(
            ask.token_ids, lora_name=ask.lora_name, cache_namespace=ask.cache_salt
        )
        return scores

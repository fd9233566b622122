# SPDX-License-Identifier: Apache-2.0
"""The workers of one endpoint of a cluster, selected by Dynamo's KvRouter."""

from typing import Any

from dynamo_llm.errors import DynamoError, InvalidArgumentError, UnavailableError
from dynamo_llm.runtime.cluster import dynamo_import
from dynamo_llm.runtime.cluster.kv_hashes import block_hashes
from dynamo_llm.runtime.cluster.router.dynamo_calls import DynamoCalls
from dynamo_llm.runtime.cluster.router.reservations import Reservation, Reservations, Worker
from dynamo_llm.runtime.cluster.router.routing_request import RoutingRequest
from dynamo_llm.runtime.cluster.router.selection import SelectedWorker, decode_override, no_worker, overlap_of

#: With this annotation Dynamo's router returns the worker that it selects, and does not send the request.
_select_only = "query_instance_id:"


class WorkerPool:
    """Selects among the workers of an endpoint, and tracks the requests reserved on them.

    Dynamo's router reserves a request only on a worker that it selects among all of them. It can neither
    reserve a request on a given worker, nor select among some workers and reserve in one step; such
    reservations are tracked here. As long as there are some, Dynamo's cost function is computed here, over
    Dynamo's scores and loads plus those of the reservations.

    :param endpoint: Dynamo's, of the workers.
    :param config: Dynamo's KvRouterConfig.
    :param decodes_only: whether another pool prefills.
    """

    def __init__(self, endpoint: Any, block_size: int, config: Any, decodes_only: bool) -> None:
        self._config = config
        self._block_size = block_size
        self._decodes_only = decodes_only
        self._own = Reservations()
        #: Requests that Dynamo's router reserved, and those that were lost with the connection.
        self._dynamos: dict[str, Worker] = {}
        self._lost: set[str] = set()
        #: Blocks of the answers to the former.
        self._answers = Reservations()
        self._scale = float(self._config.prefill_load_scale)
        self._request_weight = float(self._config.decode_active_request_weight)
        self._dynamo = DynamoCalls()
        self.connect(endpoint)

    def connect(self, endpoint: Any) -> None:
        """Switches to a new connection after a loss, which includes the reservations of Dynamo's router."""
        self._endpoint = endpoint
        self._client: Any = None
        #: Addresses of workers by their ids, as of the last time that one was not known.
        self._addresses: dict[int, str] = {}
        self._router = dynamo_import.import_core().KvRouter(endpoint, self._block_size, self._config)
        self._lost.update(self._dynamos)
        self._dynamos.clear()
        self._answers = Reservations()

    async def instances(self) -> list[Any]:
        """Returns the live workers."""
        if self._client is None:
            self._client = await self._endpoint.client()
        return list(self._client.instances())

    # ----------------------------------------------------------------------------------- selection

    async def select(self, request: RoutingRequest, request_id: str | None = None) -> SelectedWorker:
        """Selects the best worker.

        :param request_id: if given, the request is also reserved there.
        """
        if request_id is not None:
            self._require_new(request_id)
        if request.workers is None and not len(self._own):
            worker, overlap = await self._best_worker(request, request_id)
            return SelectedWorker(*worker, overlap, await self._address(worker))
        if len(self._own) and not request.has_constraints:
            worker = await self._cheapest(request)
        else:
            worker = await self._dynamos_selection(request)
        overlap = overlap_of(await self.overlaps(request), worker)
        if request_id is not None:
            self._require_new(request_id)  # another call may have reserved it meanwhile
            self._add(request_id, request, worker, overlap)
        return SelectedWorker(*worker, overlap, await self._address(worker))

    async def _best_worker(self, request: RoutingRequest, request_id: str | None) -> tuple[Worker, int]:
        """Lets Dynamo's router select among all workers, and reserve the request if it has an id.

        :returns: the worker, and how many of the prompt's blocks it has.
        """
        if request_id is not None:
            self._dynamos[request_id] = (0, 0)  # no other call may use the id meanwhile
        try:
            worker, rank, overlap = await self._dynamo(
                self._router.best_worker,
                request.token_ids,
                router_config_override=decode_override if self._decodes_only else None,
                request_id=request_id,
                lora_name=request.lora_name,
                routing_constraints=dynamo_import.import_core().RoutingConstraints(
                    set(request.required_taints), request.preferred_taints
                )
                if request.has_constraints
                else None,
                strict_priority=request.strict_priority,
                cache_namespace=request.cache_salt,
            )
        except BaseException as error:
            if request_id is not None:
                self._dynamos.pop(request_id, None)
                self._lost.discard(request_id)  # if it was lost meanwhile
            if isinstance(error, Exception):
                raise await self._failure(error, request) from error
            raise
        if request_id in self._dynamos:  # otherwise its router was lost, and the reservation with it
            self._dynamos[request_id] = (worker, rank)
        return (worker, rank), overlap

    async def _dynamos_selection(self, request: RoutingRequest) -> Worker:
        query: dict[str, Any] = {
            "token_ids": request.token_ids,
            "model": "",
            "stop_conditions": {},
            "sampling_options": {},
            "output_options": {},
            "annotations": [_select_only],
            "routing": request.routing(),
        }
        if self._decodes_only:
            query["router_config_override"] = decode_override
        try:
            async for item in await self._router.generate_from_request(query):
                selected = item["routing_data"]["worker_id"]
                return selected["decode_worker_id"], selected["decode_dp_rank"] or 0
        except Exception as error:
            raise await self._failure(error, request) from error
        raise UnavailableError("NVIDIA Dynamo's router did not answer")

    async def _cheapest(self, request: RoutingRequest) -> Worker:
        """Selects by Dynamo's cost function: blocks to compute, plus blocks in use by other requests."""
        loads = await self.loads(request)
        if request.workers is not None:
            loads = [load for load in loads if load["worker_id"] in request.workers]
        if not loads:
            raise await self._failure(Exception("no endpoints available"), request)

        def cost(load: dict[str, Any]) -> tuple[float, int, int]:
            prefill = 0 if self._decodes_only else load["potential_prefill_tokens"]
            blocks = self._scale * prefill / self._block_size + load["potential_decode_blocks"]
            blocks += self._request_weight * load["active_requests"]
            return blocks, load["active_requests"], load["worker_id"]

        best = min(loads, key=cost)
        return best["worker_id"], best["dp_rank"]

    async def _address(self, worker: Worker) -> str | None:
        if worker[0] not in self._addresses:  # a worker keeps its address as long as it has its id
            self._addresses = {
                instance.instance_id: str(instance.transport.address) for instance in await self.instances()
            }
        return self._addresses.get(worker[0])

    async def _failure(self, error: Exception, request: RoutingRequest) -> DynamoError:
        if "no endpoints available" not in str(error):
            return DynamoError(f"NVIDIA Dynamo's router: {error}")
        return no_worker(request, [one.instance_id for one in await self.instances()])

    # -------------------------------------------------------------------------------- reservations

    async def reserve(self, request_id: str, request: RoutingRequest, worker: Worker) -> None:
        """Reserves a request on a worker that was selected before."""
        self._require_new(request_id)
        known = sorted({(load["worker_id"], load["dp_rank"]) for load in await self.loads(request)})
        if worker not in known:
            listed = ", ".join(f"{id} rank {rank}" for id, rank in known) or "none"
            raise InvalidArgumentError(
                f"worker {worker[0]} rank {worker[1]} is not available; live workers: {listed}"
            )
        overlap = overlap_of(await self.overlaps(request), worker)
        self._require_new(request_id)
        self._add(request_id, request, worker, overlap)

    def _add(self, request_id: str, request: RoutingRequest, worker: Worker, overlap: int) -> None:
        hashes = self._hashes(request)
        if len(request.token_ids) % self._block_size:
            hashes.append(hash((request_id, len(hashes))))  # the last block is incomplete and not shared
        to_compute = max(0, len(request.token_ids) - overlap * self._block_size)
        self._own.add(request_id, Reservation(worker, 0 if self._decodes_only else to_compute, hashes))

    def _hashes(self, request: RoutingRequest) -> list[int]:
        return block_hashes(request.token_ids, self._block_size, request.lora_name, request.cache_salt)

    def _require_new(self, request_id: str) -> None:
        if request_id in self:
            raise InvalidArgumentError(f'the request "{request_id}" is already reserved')

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._own or request_id in self._dynamos or request_id in self._lost

    async def prefill_complete(self, request_id: str) -> None:
        """Marks the request's prompt as computed."""
        if request_id in self._own:
            self._own.prefill_complete(request_id)
        elif request_id in self._dynamos:
            await self._dynamo(self._router.mark_prefill_complete, request_id)

    def output_block(self, request_id: str, decay: float) -> None:
        """Adds a block of the answer."""
        if request_id in self._own:
            self._own.output_block(request_id, decay)
        elif request_id not in self._lost:
            if request_id not in self._answers:  # Dynamo's router counts only answers that pass through it
                self._answers.add(request_id, Reservation(self._dynamos[request_id], 0, ()))
            self._answers.output_block(request_id, decay)

    async def free(self, request_id: str) -> None:
        """Releases the reservation of a request."""
        if request_id in self._own:
            self._own.remove(request_id)
        elif request_id in self._lost:
            self._lost.remove(request_id)
        else:
            del self._dynamos[request_id]
            if request_id in self._answers:
                self._answers.remove(request_id)
            await self._dynamo(self._router.free, request_id)

    # --------------------------------------------------------------------------------------- state

    async def loads(self, request: RoutingRequest) -> list[dict[str, Any]]:
        """Returns the load that each worker would have with the request."""
        loads: list[dict[str, Any]] = await self._router.get_potential_loads(
            request.token_ids, lora_name=request.lora_name, cache_namespace=request.cache_salt
        )
        hashes = self._hashes(request) if len(self._own) else []
        for load in loads:
            worker = (load["worker_id"], load["dp_rank"])
            own, answers = self._own.load(worker), self._answers.load(worker)
            load["potential_prefill_tokens"] += own.prefill_tokens
            load["potential_decode_blocks"] += own.other_blocks(hashes) + answers.other_blocks(())
            load["active_requests"] += own.requests
        return loads

    async def overlaps(self, request: RoutingRequest) -> list[dict[str, Any]]:
        """Returns how many blocks of a prompt each worker has."""
        scores = await self._router.get_overlap_scores(
            request.token_ids, lora_name=request.lora_name, cache_namespace=request.cache_salt
        )
        return list(scores["workers"])

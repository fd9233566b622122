# SPDX-License-Identifier: Apache-2.0
"""A router over the workers that register in a cluster's discovery."""

from typing import Any

from dynamo_llm.errors import InvalidArgumentError, NotSupportedError
from dynamo_llm.runtime.cluster.connection import Connection, Event
from dynamo_llm.runtime.cluster.router.reservations import Worker
from dynamo_llm.runtime.cluster.router.routing_request import RoutingRequest
from dynamo_llm.runtime.cluster.router.selection import Selection
from dynamo_llm.runtime.cluster.router.worker_pool import WorkerPool


class ClusterRouter:
    """Selects by Dynamo's KvRouter: one for the workers that answer, and one for those that only prefill.

    :param endpoints: paths of the workers by role: ``decode`` for those that answer, and perhaps ``prefill``.
    :param config: Dynamo's KvRouterConfig.
    """

    def __init__(self, joined: Connection, endpoints: dict[str, str], block_size: int, config: Any) -> None:
        self._connection = joined
        self._paths = endpoints
        self._pools = {
            role: WorkerPool(
                joined.runtime.endpoint(path), block_size, config, role == "decode" and len(endpoints) > 1
            )
            for role, path in endpoints.items()
        }
        self._decode, self._prefill = self._pools["decode"], self._pools.get("prefill")
        self._unsubscribe = joined.subscribe(self._on_connection)

    def _on_connection(self, event: Event) -> None:
        if event == "restored":
            for role, pool in self._pools.items():
                pool.connect(self._connection.runtime.endpoint(self._paths[role]))

    def _pool(self, phase: str) -> WorkerPool:
        if phase != "prefill":
            return self._decode
        if self._prefill is None:
            raise NotSupportedError('the router has no "prefill_endpoint"; its workers prefill themselves')
        return self._prefill

    async def close(self) -> None:
        """Leaves the cluster."""
        self._unsubscribe()
        await self._connection.release()

    async def select(self, request: RoutingRequest, phase: str, request_id: str | None) -> Selection:
        """Selects the workers for a request; see :class:`RouterEngine`."""
        if phase == "prefill":
            return Selection(None, await self._pool(phase).select(request, request_id))
        if phase == "decode" or self._prefill is None:
            return Selection(await self._decode.select(request, request_id))
        prefill = await self._prefill.select(request, request_id)
        try:
            return Selection(await self._decode.select(request, request_id), prefill)
        except BaseException:
            if request_id is not None:
                await self._prefill.free(request_id)
            raise

    async def reserve(
        self, request_id: str, request: RoutingRequest, decode: Worker | None, prefill: Worker | None
    ) -> None:
        """Reserves a request on workers that were selected before."""
        if prefill is not None:
            await self._pool("prefill").reserve(request_id, request, prefill)
        try:
            if decode is not None:
                await self._decode.reserve(request_id, request, decode)
        except BaseException:
            if prefill is not None:
                await self._pool("prefill").free(request_id)
            raise

    async def prefill_complete(self, request_id: str) -> None:
        """Marks the prompt as computed; a worker that only prefills has finished with the request."""
        for pool in self._reserving(request_id):
            if pool is self._prefill:
                await pool.free(request_id)
            else:
                await pool.prefill_complete(request_id)

    async def output_block(self, request_id: str, decay: float) -> None:
        """Adds a block of the answer."""
        self._reserving(request_id)
        if request_id in self._decode:
            self._decode.output_block(request_id, decay)

    async def free(self, request_id: str) -> None:
        """Releases the reservation of a request."""
        for pool in self._reserving(request_id):
            await pool.free(request_id)

    def _reserving(self, request_id: str) -> list[WorkerPool]:
        """Returns the pools with a reservation of the request."""
        found = [pool for pool in self._pools.values() if request_id in pool]
        if not found:
            raise InvalidArgumentError(f'no request "{request_id}" is reserved')
        return found

    async def loads(self, request: RoutingRequest, phase: str) -> list[dict[str, Any]]:
        """Returns the load that each worker would have with the request."""
        return await self._pool(phase).loads(request)

    async def overlaps(self, request: RoutingRequest, phase: str) -> list[dict[str, Any]]:
        """Returns how many blocks of a prompt each worker has."""
        return await self._pool(phase).overlaps(request)

    async def workers(self) -> list[dict[str, Any]]:
        """Describes the live workers."""
        return [
            {
                "worker_id": one.instance_id,
                "phase": "aggregated" if self._prefill is None else role,
                "address": str(one.transport.address),
            }
            for role, pool in self._pools.items()
            for one in await pool.instances()
        ]

    async def upsert_worker(self, worker: Any) -> dict[str, Any]:
        """:raises NotSupportedError: always; workers register in the discovery."""
        raise NotSupportedError(
            "workers cannot be changed: they register in the cluster's discovery; only a static router, with "
            '"workers" and without "cluster", lets its caller register them'
        )

    delete_worker = upsert_worker

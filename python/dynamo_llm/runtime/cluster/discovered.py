# SPDX-License-Identifier: Apache-2.0
"""A router over the workers that a cluster's discovery shows."""

from typing import Any

from dynamo_llm.errors import InvalidArgumentError, NotSupportedError
from dynamo_llm.runtime.cluster import connection
from dynamo_llm.runtime.cluster.connection import Connection
from dynamo_llm.runtime.cluster.ledger import Worker
from dynamo_llm.runtime.cluster.pool import Pool, router_config
from dynamo_llm.runtime.cluster.selection import Ask, Selection


class DiscoveredRouter:
    """Chooses by Dynamo's KvRouter: one for the workers that answer, and one for those that only prefill.

    :param endpoints: paths of the workers that answer, and of those that prefill or None.
    """

    def __init__(
        self, joined: Connection, endpoints: tuple[str, str | None], block_size: int, options: dict[str, Any]
    ) -> None:
        self._connection = joined
        self._paths = endpoints
        runtime = joined.runtime
        self._decode = Pool(runtime.endpoint(endpoints[0]), block_size, options, endpoints[1] is not None)
        self._prefill = (
            None if endpoints[1] is None else Pool(runtime.endpoint(endpoints[1]), block_size, options, False)
        )
        self._forget = joined.subscribe(self._on_connection)

    @staticmethod
    def check(options: dict[str, Any]) -> None:
        """Raises InvalidConfigError."""
        router_config(options)

    def _on_connection(self, event: connection.Event) -> None:
        if event == "restored":
            for pool, path in zip(self._pools, self._paths, strict=False):
                pool.connect(self._connection.runtime.endpoint(path))

    @property
    def _pools(self) -> list[Pool]:
        return [self._decode, *([] if self._prefill is None else [self._prefill])]

    def _pool(self, phase: str) -> Pool:
        if phase != "prefill":
            return self._decode
        if self._prefill is None:
            raise NotSupportedError('the router has no "prefill_endpoint"; its workers prefill themselves')
        return self._prefill

    async def close(self) -> None:
        """Leave the cluster."""
        self._forget()
        await self._connection.release()

    async def select(self, ask: Ask, phase: str, request_id: str | None) -> Selection:
        """The workers for a request; see :class:`RouterEngine`."""
        if phase == "prefill":
            return Selection(None, await self._pool(phase).choose(ask, request_id))
        if phase == "decode" or self._prefill is None:
            return Selection(await self._decode.choose(ask, request_id))
        prefill = await self._prefill.choose(ask, request_id)
        try:
            return Selection(await self._decode.choose(ask, request_id), prefill)
        except BaseException:
            if request_id is not None:
                await self._prefill.free(request_id)
            raise

    async def reserve(self, request_id: str, ask: Ask, decode: Worker | None, prefill: Worker | None) -> None:
        """Book a request on workers that were chosen before."""
        if prefill is not None:
            await self._pool("prefill").book(request_id, ask, prefill)
        try:
            if decode is not None:
                await self._decode.book(request_id, ask, decode)
        except BaseException:
            if prefill is not None:
                await self._pool("prefill").free(request_id)
            raise

    async def prefill_complete(self, request_id: str) -> None:
        """The first token has come: who only prefilled is done with the request."""
        found = self._booked(request_id)
        for pool in found:
            if pool is self._prefill:
                await pool.free(request_id)
            else:
                await pool.prefill_complete(request_id)

    async def output_block(self, request_id: str, decay: float) -> None:
        """The answer has filled a block."""
        self._booked(request_id)
        if request_id in self._decode:
            self._decode.output_block(request_id, decay)

    async def free(self, request_id: str) -> None:
        """The request has ended."""
        for pool in self._booked(request_id):
            await pool.free(request_id)

    def _booked(self, request_id: str) -> list[Pool]:
        found = [pool for pool in self._pools if request_id in pool]
        if not found:
            raise InvalidArgumentError(f'no request "{request_id}" is booked')
        return found

    async def loads(self, ask: Ask, phase: str) -> list[dict[str, Any]]:
        """What each worker would have to do if the request came to it."""
        return await self._pool(phase).loads(ask)

    async def overlaps(self, ask: Ask, phase: str) -> list[dict[str, Any]]:
        """How many blocks of a prompt each worker has."""
        rows: list[dict[str, Any]] = (await self._pool(phase).overlaps(ask))["workers"]
        return rows

    async def workers(self) -> list[dict[str, Any]]:
        """Those that are there."""
        phases = ["aggregated"] if self._prefill is None else ["decode", "prefill"]
        return [
            {"worker_id": one.instance_id, "phase": phase, "address": str(one.transport.address)}
            for phase, pool in zip(phases, self._pools, strict=True)
            for one in await pool.instances()
        ]

    async def upsert_worker(self, worker: dict[str, Any]) -> dict[str, Any]:
        """Refused: the discovery knows the workers."""
        raise NotSupportedError(
            'the workers are those of the cluster\'s discovery; a router with "workers" and without '
            '"cluster" is told of its workers'
        )

    async def delete_worker(self, worker_id: int) -> dict[str, Any]:
        """Refused, too."""
        return await self.upsert_worker({"worker_id": worker_id})

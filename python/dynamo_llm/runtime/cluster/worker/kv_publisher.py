# SPDX-License-Identifier: Apache-2.0
"""The engine behind the C interface's KV publishers: tells routers which KV blocks a worker has."""

import asyncio
import logging
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from dynamo_llm.errors import InvalidConfigError, InvalidStateError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import connection
from dynamo_llm.runtime.cluster.backoff import Backoff
from dynamo_llm.runtime.cluster.kv_hashes import block_hashes, signed
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.engine import DataRequest, EngineConfig
from dynamo_llm.runtime.options import at_least, between

_log = logging.getLogger("dynamo_llm.kv_publisher")

#: Bounds of a message: blocks in one "removed" event when all are cleared, and events in one batch when all
#: are published again.
_blocks_at_once = 4096
_events_at_once = 4096


@dataclass(frozen=True)
class Block:
    """A stored block."""

    token_ids: "array[int]"
    parent: int | None
    lora_name: str | None
    cache_salt: str | None


@dataclass(frozen=True)
class Options:
    """The keys of a publisher's configuration."""

    endpoint: str = ""
    """Endpoint of the worker: ``namespace.component.endpoint``, or without the namespace."""
    kv_block_size: Annotated[int, between(1, 1 << 20)] = 0
    """Tokens per block. Required."""
    data_parallel_rank: Annotated[int, between(0, 1 << 20)] = 0
    """The rank that has these blocks."""
    worker_id: Annotated[int, at_least(0)] | None = None
    """None: this process's own instance id."""
    cluster: dict[str, Any] | None = field(default=None, repr=False)
    """The cluster, as for the worker; None: the default one."""
    enable_local_indexer: bool = True
    """Keep an index of the blocks beside the worker; routers that start later query it."""
    zmq_endpoint: str | None = None
    """The address where an engine publishes its events itself; they are relayed."""
    zmq_topic: str | None = None
    """The topic of those events; None for all."""
    image_token_id: Annotated[int, between(0, (1 << 32) - 1)] | None = None
    """Token that stands for an image in those events, so that blocks differ by their images, too."""
    video_token_id: Annotated[int, between(0, (1 << 32) - 1)] | None = None
    """The same for videos."""
    queue_blocks: Annotated[int, between(1, 10**9)] = 65536
    """Capacity of the queue in front of this engine, which the C++ side reads from :meth:`describe`."""
    batching_timeout_ms: Annotated[int, between(0, 10**6)] | None = None
    """How long Dynamo may wait to batch events; None: not at all."""
    python: dict[str, Any] = field(default_factory=dict)
    """Read by the library."""


class KvPublisherEngine:
    """Publishes KV events. Its requests are commands, each answered by one item:

    - ``{"publish": [events]}``: ``{"published": events, "stored": blocks}``. The events, in order, are
      ``{"stored": {"token_ids": [...], "block_hashes": [...], "parent_hash": n, "lora_name": text,
      "cache_salt": text}}``, ``{"removed": [hashes]}``, or ``{"cleared": true}``;
    - ``{"hashes": {"token_ids": [...], "lora_name": text, "cache_salt": text}}``: ``{"hashes": [...]}``;
    - ``{"info": null}``: what ``dynamo_kv_publisher_info()`` describes.

    Hashes are unsigned 64-bit integers.
    """

    kind: Literal["data"] = "data"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options, "")
        self._settings = Settings.read(self._options.cluster or {})
        if not self._options.endpoint:
            raise InvalidConfigError(
                '"endpoint" of the configuration is missing; set it to one like "dynamo.backend.generate"'
            )
        self._path = self._settings.full_path(self._options.endpoint)
        if self._options.zmq_endpoint is None:
            for key in ("image_token_id", "video_token_id"):
                if getattr(self._options, key) is not None:
                    raise InvalidConfigError(
                        f'"{key}" of the configuration requires "zmq_endpoint": it is for events that an '
                        f"engine publishes itself"
                    )
        if not self._options.kv_block_size:
            raise InvalidConfigError(
                '"kv_block_size" of the configuration is missing; set it to the tokens per block'
            )
        #: All stored blocks: for "cleared", which Dynamo has no event for, and to publish them again after
        #: the connection was lost.
        self._stored: dict[int, Block] = {}
        #: Dynamo's publisher; None while there is no connection.
        self._publisher: Any = None
        self._reopening: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def start(self) -> None:
        """Joins the cluster."""
        self._connection = await connection.acquire(self._settings)
        try:
            self._open()
        except BaseException:
            await self._connection.release()
            raise
        self._unsubscribe = self._connection.subscribe(self._on_connection)

    def _open(self) -> None:
        endpoint = self._connection.runtime.endpoint(self._path)
        given = self._options.worker_id
        worker_id: int = endpoint.connection_id() if given is None else given
        self._publisher = self._connection.core.KvEventPublisher(
            endpoint,
            worker_id=worker_id,
            kv_block_size=self._options.kv_block_size,
            dp_rank=self._options.data_parallel_rank,
            enable_local_indexer=self._options.enable_local_indexer,
            zmq_endpoint=self._options.zmq_endpoint,
            zmq_topic=self._options.zmq_topic,
            batching_timeout_ms=self._options.batching_timeout_ms,
            image_token_id=self._options.image_token_id,
            video_token_id=self._options.video_token_id,
        )
        self._worker_id = worker_id

    def _on_connection(self, event: connection.Event) -> None:
        self._close()
        if event == "restored":
            self._reopening = asyncio.create_task(self._reopen())
        else:
            self._problem = f"the connection to {self._settings.address} is lost; it is being restored"

    def _close(self) -> None:
        """Stops publishing; further events are only tracked."""
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._publisher is not None:
            self._publisher.shutdown()
            self._publisher = None

    async def _reopen(self) -> None:
        """Resumes on the new connection, and publishes all stored blocks first; retries until it succeeds."""
        backoff = Backoff(0.2, 10.0)
        while True:
            try:
                self._open()
                self._publish_all()
            except Exception as error:
                self._problem = f"KV events cannot be published again: {error}"
                _log.warning("%s", self._problem)
                if self._publisher is not None:
                    self._publisher.shutdown()
                    self._publisher = None
                await backoff.pause()
            else:
                self._problem = None
                return

    def _publish_all(self) -> None:
        ordered = [(value, self._stored[value]) for value in _parents_first(self._stored)]
        events = [_stored_event(list(block.token_ids), [value], block) for value, block in ordered]
        for at in range(0, len(events), _events_at_once):
            self._publisher.publish_batch(events[at : at + _events_at_once])

    def describe(self) -> dict[str, Any]:
        """Returns what the library needs at the start: what :meth:`info` returns, and ``queue_blocks``."""
        return {**self.info(), "queue_blocks": self._options.queue_blocks}

    def info(self) -> dict[str, Any]:
        """Returns what ``dynamo_kv_publisher_info()`` describes."""
        return {
            "state": "lost" if self._publisher is None else "publishing",
            "worker_id": self._worker_id,
            "endpoint": self._path,
            "kv_block_size": self._options.kv_block_size,
            "data_parallel_rank": self._options.data_parallel_rank,
            "relays": self._options.zmq_endpoint is not None,
            "problem": self._problem,
        }

    def generate(self, request: DataRequest) -> AsyncIterator[Any] | Iterator[Any]:
        """Executes a command. Hashes are computed in a thread, to keep the asyncio event loop free."""
        if "hashes" in request.data:
            return self._hashes(request.data["hashes"])
        if "info" in request.data:
            return self._info()
        return self._publish(request.data["publish"])

    async def stop(self) -> None:
        """Leaves the cluster."""
        self._unsubscribe()
        self._close()
        await self._connection.release()

    async def _info(self) -> AsyncIterator[dict[str, Any]]:
        yield self.info()

    def _hashes(self, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"hashes": block_hashes(block_size=self._options.kv_block_size, **asked)}

    async def _publish(self, events: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        if self._options.zmq_endpoint is not None:
            raise InvalidStateError(
                f'the publisher relays the events of "{self._options.zmq_endpoint}" and accepts no others'
            )
        batch: list[Any] = []
        for event in events:
            if "stored" in event:
                batch.append(self._store(event["stored"]))
            elif "removed" in event:
                batch.append(self._remove(event["removed"]))
            else:
                hashes = list(self._stored)
                batch += [
                    self._remove(hashes[at : at + _blocks_at_once])
                    for at in range(0, len(hashes), _blocks_at_once)
                ]
        if batch and self._publisher is not None:
            self._publisher.publish_batch(batch)
        yield {"published": len(events), "stored": len(self._stored)}

    def _store(self, stored: dict[str, Any]) -> dict[str, Any]:
        hashes, tokens = stored["block_hashes"], stored["token_ids"]
        size = self._options.kv_block_size
        parent = stored.get("parent_hash")
        blocks = []
        for number, value in enumerate(hashes):
            own = array("I", tokens[number * size : (number + 1) * size])
            blocks.append(Block(own, parent, stored.get("lora_name"), stored.get("cache_salt")))
            parent = value
        self._stored.update(zip(hashes, blocks, strict=True))
        return _stored_event(tokens, hashes, blocks[0])

    def _remove(self, hashes: list[int]) -> dict[str, Any]:
        for value in hashes:
            self._stored.pop(value, None)
        return {"type": "removed", "block_hashes": [signed(value) for value in hashes]}


def _stored_event(token_ids: list[int], hashes: list[int], first: Block) -> dict[str, Any]:
    """Returns the event of one block or several in Dynamo's format."""
    return {
        "type": "stored",
        "token_ids": token_ids,
        "num_block_tokens": [len(first.token_ids)] * len(hashes),
        "block_hashes": [signed(value) for value in hashes],
        "parent_hash": None if first.parent is None else signed(first.parent),
        "lora_name": first.lora_name,
        "cache_salt": first.cache_salt,
    }


def _parents_first(blocks: Mapping[int, Block]) -> list[int]:
    """Orders the hashes so that parents come before their children."""
    ordered: dict[int, None] = {}
    for value in blocks:
        chain: dict[int, None] = {}
        at: int | None = value
        while at is not None and at in blocks and at not in ordered and at not in chain:
            chain[at] = None
            at = blocks[at].parent
        ordered.update(dict.fromkeys(reversed(chain)))
    return list(ordered)

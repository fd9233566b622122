# SPDX-License-Identifier: Apache-2.0
"""KV events: what routers know of the KV blocks of a worker."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from dynamo_llm import _core
from dynamo_llm.api import numbers
from dynamo_llm.api.duration import FOREVER, milliseconds
from dynamo_llm.api.interrupt import interruptible
from dynamo_llm.api.numbers import words
from dynamo_llm.api.other_thread import require_other_thread
from dynamo_llm.api.runtime import config_text, given

Self = TypeVar("Self", bound="KvPublisher")

#: Milliseconds after which a wait looks for Ctrl-C.
_interval = 100


@dataclass(frozen=True)
class KvStored:
    """Blocks were computed, one after the other."""

    token_ids: Sequence[int]
    """Their tokens, together; full blocks only."""
    block_hashes: Sequence[int]
    """A hash of 64 bits, unsigned, for each: the same function of everything up to its end on all workers."""
    parent_hash: int | None = None
    """Hash of the block before the first one; None if that begins a prompt."""
    lora_name: str | None = None
    """LoRA adapter that they are computed with."""
    cache_salt: str | None = None
    """Requests share blocks only if they have the same one."""


@dataclass(frozen=True)
class KvRemoved:
    """Blocks were dropped."""

    block_hashes: Sequence[int]
    """As they were stored."""


@dataclass(frozen=True)
class KvCleared:
    """All blocks were dropped."""


class KvPublisher:
    """Tells the routers of a cluster which KV blocks a worker has.

    :meth:`stored`, :meth:`removed`, :meth:`cleared` and :meth:`publish_many` do not block: they append to a
    queue, and give False if that is full; then nothing was taken, and the same call may be made later. Any
    thread may use a publisher; an engine in Python may do so on the library's own loop.

    :param config: a dictionary, or its JSON, with the keys that ``dynamo_kv_publisher_create()`` describes.
    :param endpoint: path of the worker, ``namespace.component.endpoint``. This and the following are keys of
        the configuration, and override those of ``config``.
    :param kv_block_size: tokens per block.
    :param cluster: the same object as the worker's.
    :param keys: more keys: ``data_parallel_rank``, ``queue_blocks``, ``zmq_endpoint``, ...
    :raises DynamoError: those of ``dynamo_kv_publisher_create()``.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        endpoint: str | None = None,
        kv_block_size: int | None = None,
        cluster: Mapping[str, Any] | None = None,
        **keys: Any,
    ) -> None:
        require_other_thread("a KV publisher")
        named = {"endpoint": endpoint, "kv_block_size": kv_block_size, "cluster": cluster, **keys}
        self._core = interruptible(partial(_core.KvPublisher, config_text(config, given(named))))

    @classmethod
    async def open(cls: type[Self], config: Mapping[str, Any] | str | None = None, **keys: Any) -> Self:
        """``KvPublisher(config, ...)`` for coroutines."""
        return await asyncio.to_thread(partial(cls, config, **keys))

    @property
    def info(self) -> dict[str, Any]:
        """What there is to know at present: ``state``, ``worker_id``, ``endpoint``, ``kv_block_size``,
        ``data_parallel_rank``, ``relays``, ``problem``; see ``dynamo_kv_publisher_info()``. Blocks for about
        a millisecond.
        """
        require_other_thread("a KV publisher")
        info: dict[str, Any] = json.loads(self._core.info())
        return info

    def stored(
        self,
        token_ids: Sequence[int],
        block_hashes: Sequence[int],
        parent_hash: int | None = None,
        *,
        lora_name: str | None = None,
        cache_salt: str | None = None,
    ) -> bool:
        """Say that blocks were computed: the members of a :class:`KvStored`.

        :raises DynamoError: those of ``dynamo_kv_publisher_stored()``.
        """
        return self._core.stored(
            _stored(KvStored(token_ids, block_hashes, parent_hash, lora_name, cache_salt))
        )

    def removed(self, block_hashes: Sequence[int]) -> bool:
        """Say that blocks were dropped.

        :raises DynamoError: those of ``dynamo_kv_publisher_removed()``.
        """
        return self._core.removed(words(block_hashes, "block hashes"))

    def cleared(self) -> bool:
        """Say that all blocks were dropped.

        :raises DynamoError: those of ``dynamo_kv_publisher_cleared()``.
        """
        return self._core.cleared()

    def publish_many(self, events: Iterable[KvStored | KvRemoved | KvCleared]) -> bool:
        """Say what happened in a step of an engine, in order: all of it is taken, or nothing.

        :raises DynamoError: those of ``dynamo_kv_publisher_publish_many()``.
        """
        return self._core.publish_many([_event(event) for event in events])

    def flush(self, timeout: float | None = None) -> bool:
        """Block, without the GIL, until everything was handed over to NVIDIA Dynamo.

        :param timeout: seconds; None for ever.
        :returns: whether it was.
        :raises DynamoError: those of ``dynamo_kv_publisher_flush()``: what could not be handed over.
        """
        require_other_thread("a KV publisher")
        limit = milliseconds(timeout, "timeout")
        start = time.monotonic()
        while True:
            left = limit - round((time.monotonic() - start) * 1000)
            if self._core.flush(_interval if limit == FOREVER else max(0, min(left, _interval))):
                return True
            if limit != FOREVER and left <= _interval:
                return False

    @property
    def statistics(self) -> _core.KvStatistics:
        """Counters."""
        return self._core.statistics()

    def hashes(
        self, token_ids: Sequence[int], *, lora_name: str | None = None, cache_salt: str | None = None
    ) -> list[int]:
        """Hashes of the full blocks of a prompt, as NVIDIA Dynamo computes them. Blocks, without the GIL.

        :param token_ids: the prompt from its beginning.
        :raises DynamoError: those of ``dynamo_kv_publisher_hashes()``.
        """
        require_other_thread("a KV publisher")
        return self._core.hashes(numbers.token_ids(token_ids), lora_name or "", cache_salt or "")

    def close(self) -> None:
        """Leave the cluster; blocks, without the GIL, until that is done. Flush first: what waits is dropped.

        Using it later raises :class:`~dynamo_llm.InvalidHandleError`. A publisher that is dropped is closed.
        """
        self._core.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stored(event: KvStored) -> _core.KvStored:
    if event.parent_hash is not None:
        words([event.parent_hash], "block hashes")
    return _core.KvStored(
        numbers.token_ids(event.token_ids),
        words(event.block_hashes, "block hashes"),
        event.parent_hash,
        event.lora_name or "",
        event.cache_salt or "",
    )


def _event(event: KvStored | KvRemoved | KvCleared) -> _core.KvStored | bytes | None:
    if isinstance(event, KvStored):
        return _stored(event)
    return words(event.block_hashes, "block hashes") if isinstance(event, KvRemoved) else None

# SPDX-License-Identifier: Apache-2.0
"""Publishes KV events, which tell routers which KV blocks a worker holds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamo_llm import _core
from dynamo_llm.api import numbers
from dynamo_llm.api.handle import Handle, create
from dynamo_llm.api.interruptible import wait_in_steps
from dynamo_llm.api.numbers import words


@dataclass(frozen=True)
class KvStored:
    """Consecutive blocks were computed."""

    token_ids: Sequence[int]
    """Tokens of all the blocks, concatenated; full blocks only."""
    block_hashes: Sequence[int]
    """An unsigned 64-bit hash per block. On all workers it must be the same function of all tokens up to the
    end of the block."""
    parent_hash: int | None = None
    """Hash of the block before the first one; None if the first block begins a prompt."""
    lora_name: str | None = None
    """LoRA adapter that the blocks were computed with."""
    cache_salt: str | None = None
    """Only requests with the same cache salt share the blocks."""


@dataclass(frozen=True)
class KvRemoved:
    """Blocks were evicted."""

    block_hashes: Sequence[int]
    """Hashes of the blocks, as they were stored."""


@dataclass(frozen=True)
class KvCleared:
    """All blocks were evicted."""


class KvPublisher(Handle):
    """Tells the routers of a cluster which KV blocks a worker holds.

    :meth:`stored`, :meth:`removed`, :meth:`cleared` and :meth:`publish_many` do not block: they append to a
    queue. If the queue is full they return False, nothing was taken, and the same call may be made again
    later. Thread-safe; engines in Python may call them on the library's event loop. All methods raise the
    errors of the C functions of the same names, such as ``dynamo_kv_publisher_stored()``.

    :param config: a dictionary, or its JSON, with the keys that ``dynamo_kv_publisher_create()`` describes.
    :param endpoint: path of the worker, ``namespace.component.endpoint``. This and the following parameters
        are keys of the configuration, and override those of ``config``.
    :param kv_block_size: tokens per block.
    :param cluster: the same object as the worker's.
    :param keys: more keys: ``data_parallel_rank``, ``queue_blocks``, ``zmq_endpoint``, ...
    :raises DynamoError: the errors of ``dynamo_kv_publisher_create()``.
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
        named = {"endpoint": endpoint, "kv_block_size": kv_block_size, "cluster": cluster, **keys}
        self._core = create(_core.KvPublisher, config, named)

    @property
    def info(self) -> dict[str, Any]:
        """Current state: ``state``, ``worker_id``, ``endpoint``, ``kv_block_size``, ``data_parallel_rank``,
        ``relays``, ``problem``; see ``dynamo_kv_publisher_info()``. Blocks for about a millisecond.
        """
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
        """Publishes that blocks were computed. The parameters are the members of :class:`KvStored`."""
        return self._core.stored(
            _stored(KvStored(token_ids, block_hashes, parent_hash, lora_name, cache_salt))
        )

    def removed(self, block_hashes: Sequence[int]) -> bool:
        """Publishes that blocks were evicted."""
        return self._core.removed(words(block_hashes, "block hashes"))

    def cleared(self) -> bool:
        """Publishes that all blocks were evicted."""
        return self._core.cleared()

    def publish_many(self, events: Iterable[KvStored | KvRemoved | KvCleared]) -> bool:
        """Publishes the events of one engine step, in order. Either all of them are taken or none."""
        return self._core.publish_many([_event(event) for event in events])

    def flush(self, timeout: float | None = None) -> bool:
        """Blocks, without holding the GIL, until all queued events were passed to NVIDIA Dynamo.

        :param timeout: seconds; None for no limit.
        :returns: False if the timeout passed first.
        :raises DynamoError: events could not be passed on.
        """
        return wait_in_steps(self._core.flush, timeout)

    def statistics(self) -> dict[str, Any]:
        """Counters, as ``dynamo_kv_publisher_statistics()`` describes them."""
        counters: dict[str, Any] = json.loads(self._core.statistics())
        return counters

    def hashes(
        self, token_ids: Sequence[int], *, lora_name: str | None = None, cache_salt: str | None = None
    ) -> list[int]:
        """Computes the hashes of the full blocks of a prompt, as NVIDIA Dynamo does. Blocks without holding
        the GIL.

        :param token_ids: the prompt from its beginning.
        :returns: one hash per full block.
        """
        return self._core.hashes(numbers.token_ids(token_ids), lora_name or "", cache_salt or "")

    def close(self) -> None:
        """Leaves the cluster. Blocks, without holding the GIL, until that is done. Queued events are dropped:
        call :meth:`flush` first.

        Later use raises :class:`~dynamo_llm.InvalidHandleError`. A publisher that is garbage-collected is
        closed in the background.
        """
        self._core.close()


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

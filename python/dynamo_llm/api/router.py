# SPDX-License-Identifier: Apache-2.0
"""Routers: which worker of a cluster a request should go to."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

from dynamo_llm import _core
from dynamo_llm.api.interrupt import interruptible
from dynamo_llm.api.numbers import token_ids as ids_of
from dynamo_llm.api.numbers import words
from dynamo_llm.api.other_thread import require_other_thread
from dynamo_llm.api.runtime import config_text, given

Self = TypeVar("Self", bound="Router")
Phase = Literal["all", "prefill", "decode"]

_phases: dict[str, int] = {"all": 0, "prefill": 1, "decode": 2}


class Router:
    """Chooses workers for requests that the caller sends itself; for gateways.

    A request is chosen for, booked, and freed when its answer has ended, so that the next choice knows what
    the workers have to do. Any thread may use a router, many at once; its methods block, without the GIL,
    as a rule for less than a millisecond. A coroutine calls them in a thread:
    ``await asyncio.to_thread(router.select, ids)``.

    :param config: a dictionary, or its JSON, with the keys that ``dynamo_router_create()`` describes.
    :param endpoint: path of the workers, ``namespace.component.endpoint``. This and the following are keys
        of the configuration, and override those of ``config``.
    :param cluster: the cluster, as for :class:`Runtime`; without it the router is told of its workers.
    :param workers: those, without a cluster; as for :meth:`upsert_worker`.
    :param kv_block_size: tokens per KV block.
    :param keys: more keys: ``mode``, ``prefill_endpoint``, ``options``, ``model``, ...
    :raises DynamoError: those of ``dynamo_router_create()``.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        endpoint: str | None = None,
        cluster: Mapping[str, Any] | None = None,
        workers: Sequence[Mapping[str, Any]] | None = None,
        kv_block_size: int | None = None,
        **keys: Any,
    ) -> None:
        require_other_thread("a router")
        named = {"endpoint": endpoint, "cluster": cluster, "workers": workers, "kv_block_size": kv_block_size}
        self._core = interruptible(partial(_core.Router, config_text(config, given({**named, **keys}))))

    @classmethod
    async def open(cls: type[Self], config: Mapping[str, Any] | str | None = None, **keys: Any) -> Self:
        """``Router(config, ...)`` for coroutines."""
        return await asyncio.to_thread(partial(cls, config, **keys))

    @property
    def info(self) -> dict[str, Any]:
        """``mode``, ``kv_block_size``, ``endpoint``."""
        info: dict[str, Any] = json.loads(self._core.info())
        return info

    def select(
        self,
        request: Sequence[int] | Mapping[str, Any] | str,
        *,
        request_id: str | None = None,
        workers: Sequence[int] | None = None,
        phase: Phase = "all",
        lora_name: str | None = None,
        cache_salt: str | None = None,
        strict_priority: int = 0,
        priority_jump: float = 0.0,
        expected_output_tokens: int = 0,
        constraints: Mapping[str, Any] | None = None,
    ) -> _core.Selection:
        """Choose workers.

        :param request: token ids of a prompt; or an OpenAI body, or its JSON: a chat or a completion.
        :param request_id: book the request on what is chosen, under this id.
        :param workers: ids of those that may be chosen; None for all.
        :param phase: with the mode ``disaggregated``, whether the worker for the prompt, the one that
            answers, or both.
        :param lora_name: LoRA adapter of the request.
        :param cache_salt: its cache salt.
        :param strict_priority: more goes ahead of less, of those that wait.
        :param priority_jump: seconds that it goes ahead of others.
        :param expected_output_tokens: of its answer; 0 if not known.
        :param constraints: ``{"required_taints": [...], "preferred_taints": {...}}``.
        :raises UnavailableError: no worker that may be chosen is there.
        :raises DynamoError: those of ``dynamo_router_select()`` and ``dynamo_router_select_body()``.
        """
        require_other_thread("a router")
        if workers is not None and not workers:
            raise ValueError("workers is empty: then nobody may be chosen; None is for all")
        options = _core.RouteOptions(
            _phase(phase),
            request_id or "",
            words(workers or (), "ids of workers"),
            lora_name or "",
            cache_salt or "",
            strict_priority,
            priority_jump,
            expected_output_tokens,
            json.dumps(constraints) if constraints else "",
        )
        if isinstance(request, str):
            return self._core.select_body(request, options)
        if isinstance(request, Mapping):
            return self._core.select_body(json.dumps(request), options)
        return self._core.select(ids_of(request), options)

    def reserve(
        self,
        request_id: str,
        selection: _core.Selection,
        *,
        lora_name: str | None = None,
        cache_salt: str | None = None,
    ) -> None:
        """Book a request on the workers of a selection.

        :raises DynamoError: those of ``dynamo_router_reserve()``.
        """
        require_other_thread("a router")
        self._core.reserve(request_id, selection, _options(lora_name=lora_name, cache_salt=cache_salt))

    def prefill_complete(self, request_id: str) -> None:
        """Say that the first token of a booked request has come.

        :raises InvalidArgumentError: no such request is booked.
        """
        require_other_thread("a router")
        self._core.prefill_complete(request_id)

    def output_block(self, request_id: str, decay: float = 1.0) -> None:
        """Say that the answer of a booked request has filled one more KV block.

        :param decay: 1, or less, down to 0: how much of the blocks that only this request has counts from
            now on, for it comes to its end.
        :raises InvalidArgumentError: no such request is booked.
        """
        require_other_thread("a router")
        self._core.output_block(request_id, decay)

    def free(self, request_id: str) -> None:
        """Say that a booked request has ended.

        :raises InvalidArgumentError: no such request is booked.
        """
        require_other_thread("a router")
        self._core.free(request_id)

    def loads(
        self,
        token_ids: Sequence[int] = (),
        *,
        phase: Phase = "all",
        lora_name: str | None = None,
        cache_salt: str | None = None,
    ) -> list[dict[str, Any]]:
        """What each worker would have to do if a prompt came to it; without one, what it has to do now.

        :raises DynamoError: those of ``dynamo_router_loads()``.
        """
        require_other_thread("a router")
        options = _options(phase, lora_name, cache_salt)
        loads: list[dict[str, Any]] = json.loads(self._core.loads(ids_of(token_ids), options))
        return loads

    def overlaps(
        self,
        token_ids: Sequence[int],
        *,
        phase: Phase = "all",
        lora_name: str | None = None,
        cache_salt: str | None = None,
    ) -> list[dict[str, Any]]:
        """How many KV blocks of a prompt each worker has.

        :raises DynamoError: those of ``dynamo_router_overlaps()``.
        """
        require_other_thread("a router")
        options = _options(phase, lora_name, cache_salt)
        overlaps: list[dict[str, Any]] = json.loads(self._core.overlaps(ids_of(token_ids), options))
        return overlaps

    def workers(self) -> list[dict[str, Any]]:
        """The workers that are there: ``worker_id``, ``phase``, ``address``, ..."""
        require_other_thread("a router")
        workers: list[dict[str, Any]] = json.loads(self._core.workers())
        return workers

    def upsert_worker(self, worker: Mapping[str, Any]) -> None:
        """Add a worker to a router without a cluster, or change it.

        :param worker: ``worker_id``, ``endpoint``, ``kv_events_endpoint``, and the other keys that
            ``dynamo_router_upsert_worker()`` describes.
        :raises DynamoError: those of ``dynamo_router_upsert_worker()``.
        """
        require_other_thread("a router")
        self._core.upsert_worker(json.dumps(worker))

    def delete_worker(self, worker_id: int) -> None:
        """Take a worker out of a router without a cluster.

        :raises InvalidArgumentError: there is no such worker.
        """
        require_other_thread("a router")
        self._core.delete_worker(worker_id)

    def close(self) -> None:
        """Leave the cluster; blocks, without the GIL, until that is done.

        Using it later raises :class:`~dynamo_llm.InvalidHandleError`. A router that is dropped is closed.
        """
        self._core.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _phase(phase: str) -> int:
    if phase not in _phases:
        raise ValueError(f"phase must be one of {', '.join(_phases)}, not {phase!r}")
    return _phases[phase]


def _options(
    phase: str = "all", lora_name: str | None = None, cache_salt: str | None = None
) -> _core.RouteOptions:
    return _core.RouteOptions(_phase(phase), "", b"", lora_name or "", cache_salt or "", 0, 0.0, 0, "")

# SPDX-License-Identifier: Apache-2.0
"""Selects the worker of a cluster that a request should go to."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from dynamo_llm import _core
from dynamo_llm.api.handle import Handle, create
from dynamo_llm.api.json_text import json_text
from dynamo_llm.api.numbers import integer, number, words
from dynamo_llm.api.numbers import token_ids as ids_of
from dynamo_llm.errors import InvalidArgumentError

Phase = Literal["all", "prefill", "decode"]


class Router(Handle):
    """Selects workers for requests that the caller sends itself, as a gateway does.

    For each request: :meth:`select` a worker and reserve it, and :meth:`free` the reservation when the answer
    has ended, so that the next selection knows the load of the workers. Thread-safe, also for many calls at
    once. The methods block, without holding the GIL, usually for less than a millisecond; a coroutine calls
    them in a thread: ``await asyncio.to_thread(router.select, ids)``. They raise the errors of the C
    functions of the same names, such as ``dynamo_router_select()``.

    :param config: a dictionary, or its JSON, with the keys that ``dynamo_router_create()`` describes.
    :param endpoint: path of the workers, ``namespace.component.endpoint``. This and the following parameters
        are keys of the configuration, and override those of ``config``.
    :param cluster: the cluster, as for :class:`Runtime`: a cluster router finds its workers there. Without
        it, the router is static: the caller registers the workers.
    :param workers: workers of a static router, each as for :meth:`upsert_worker`.
    :param kv_block_size: tokens per KV block.
    :param keys: more keys: ``mode``, ``prefill_endpoint``, ``options``, ``model``, ...
    :raises DynamoError: the errors of ``dynamo_router_create()``.
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
        named = {"endpoint": endpoint, "cluster": cluster, "workers": workers, "kv_block_size": kv_block_size}
        self._core = create(_core.Router, config, {**named, **keys})

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
        worker_ids: Sequence[int] | None = None,
        phase: Phase = "all",
        lora_name: str | None = None,
        cache_salt: str | None = None,
        strict_priority: int = 0,
        priority_jump: float = 0.0,
        expected_output_tokens: int = 0,
        constraints: Mapping[str, Any] | None = None,
    ) -> _core.Selection:
        """Selects the workers for a request.

        :param request: token ids of the prompt; or an OpenAI body (a chat or a completion) or its JSON.
        :param request_id: reserves the selected workers for the request, under this id.
        :param worker_ids: ids of the workers that may be selected; None for all.
        :param phase: in ``disaggregated`` mode: selects the ``prefill`` worker, the ``decode`` worker, or
            both (``all``).
        :param lora_name: LoRA adapter of the request.
        :param cache_salt: cache salt of the request.
        :param strict_priority: priority among queued requests: higher values are always scheduled first.
        :param priority_jump: seconds by which the request moves ahead in the queue.
        :param expected_output_tokens: expected length of the answer, in tokens; 0 if unknown.
        :param constraints: ``{"required_taints": [...], "preferred_taints": {...}}``.
        :raises UnavailableError: no eligible worker is live.
        """
        if worker_ids is not None and not worker_ids:
            raise ValueError("worker_ids is empty, so no worker may be chosen; use None for all workers")
        options = _core.RouteOptions(
            _phase(phase),
            request_id or "",
            words(worker_ids or (), "worker_ids"),
            lora_name or "",
            cache_salt or "",
            integer(strict_priority, "strict_priority", 0, (1 << 32) - 1),
            number(priority_jump, "priority_jump", 0, 1e9),
            integer(expected_output_tokens, "expected_output_tokens", 0, (1 << 32) - 1),
            json_text(constraints, "constraints", InvalidArgumentError) if constraints else "",
        )
        if isinstance(request, str):
            return self._core.select_body(request, options)
        if isinstance(request, Mapping):
            return self._core.select_body(json_text(request), options)
        return self._core.select(ids_of(request), options)

    def reserve(
        self,
        request_id: str,
        selection: _core.Selection,
        *,
        lora_name: str | None = None,
        cache_salt: str | None = None,
    ) -> None:
        """Reserves the workers of a selection for a request."""
        self._core.reserve(request_id, selection, _options(lora_name=lora_name, cache_salt=cache_salt))

    def prefill_complete(self, request_id: str) -> None:
        """Reports that the first token of a request has come.

        :raises InvalidArgumentError: there is no reservation with that id.
        """
        self._core.prefill_complete(request_id)

    def output_block(self, request_id: str, decay: float = 1.0) -> None:
        """Reports that the answer of a request has filled one more KV block.

        :param decay: weight in [0, 1], from now on, of the blocks used by this request only; lower it as the
            request nears its end.
        :raises InvalidArgumentError: there is no reservation with that id.
        """
        self._core.output_block(request_id, number(decay, "decay", 0, 1))

    def free(self, request_id: str) -> None:
        """Releases the reservation of a request that has ended.

        :raises InvalidArgumentError: there is no reservation with that id.
        """
        self._core.free(request_id)

    def loads(
        self,
        token_ids: Sequence[int] = (),
        *,
        phase: Phase = "all",
        lora_name: str | None = None,
        cache_salt: str | None = None,
    ) -> list[dict[str, Any]]:
        """Returns the load that each worker would have with a prompt added; without one, its current load."""
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
        """Returns how many KV blocks of a prompt each worker has cached."""
        options = _options(phase, lora_name, cache_salt)
        overlaps: list[dict[str, Any]] = json.loads(self._core.overlaps(ids_of(token_ids), options))
        return overlaps

    def workers(self) -> list[dict[str, Any]]:
        """Returns the live workers: ``worker_id``, ``phase``, ``address``, ..."""
        workers: list[dict[str, Any]] = json.loads(self._core.workers())
        return workers

    def upsert_worker(self, worker: Mapping[str, Any]) -> None:
        """Adds a worker to a static router, or updates it.

        :param worker: ``worker_id``, ``endpoint``, ``kv_events_endpoint``, and the other keys that
            ``dynamo_router_upsert_worker()`` describes.
        """
        self._core.upsert_worker(json_text(worker, "worker", InvalidArgumentError))

    def delete_worker(self, worker_id: int) -> None:
        """Removes a worker from a static router.

        :raises InvalidArgumentError: the router has no worker with that id.
        """
        self._core.delete_worker(integer(worker_id, "worker_id", 0, (1 << 64) - 1))

    def close(self) -> None:
        """Leaves the cluster. Blocks, without holding the GIL, until that is done.

        Later use raises :class:`~dynamo_llm.InvalidHandleError`. A router that is garbage-collected is closed
        in the background.
        """
        self._core.close()


def _phase(phase: str) -> int:
    known = get_args(Phase)  # in the order of dynamo_route_phase_t
    if phase not in known:
        raise ValueError(f"phase must be one of {', '.join(known)}, not {phase!r}")
    return known.index(phase)


def _options(
    phase: str = "all", lora_name: str | None = None, cache_salt: str | None = None
) -> _core.RouteOptions:
    return _core.RouteOptions(_phase(phase), "", b"", lora_name or "", cache_salt or "", 0, 0.0, 0, "")

# SPDX-License-Identifier: Apache-2.0
"""Serves an engine to a cluster."""

import contextlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from dynamo_llm import _core
from dynamo_llm.api.handle import Handle, create
from dynamo_llm.api.interruptible import interruptible, wait_in_steps
from dynamo_llm.api.numbers import integer, milliseconds
from dynamo_llm.errors import DeadlineExceededError, InvalidHandleError


class Worker(Handle):
    """Serves an engine of this library to a cluster of NVIDIA Dynamo, as a model or as a raw endpoint.

    The constructor blocks, without holding the GIL, until the model is loaded and the worker is registered;
    in a coroutine use :meth:`open`. Thread-safe, except that it must not be used on the library's own event
    loop, on which engines in Python run.

    :param config: a dictionary, or its JSON, with the keys that ``dynamo_worker_create()`` describes.
    :param endpoint: path to serve, ``namespace.component.endpoint``. This and the following parameters are
        keys of the configuration, and override those of ``config``.
    :param runtime: the engine and its model: a configuration as for :class:`~dynamo_llm.Runtime`.
    :param cluster: the cluster to join.
    :param model: what the cluster advertises about the model.
    :param keys: more keys: ``drain_ms``, ``health``, ``engine_routes``, ``python``.
    :raises DynamoError: the errors of ``dynamo_worker_create()``.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        endpoint: str | None = None,
        runtime: Mapping[str, Any] | None = None,
        cluster: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        **keys: Any,
    ) -> None:
        named = {"endpoint": endpoint, "runtime": runtime, "cluster": cluster, "model": model, **keys}
        self._core = create(_core.Worker, config, named)

    @property
    def info(self) -> dict[str, Any]:
        """Current state: ``state``, ``kind``, ``endpoint``, ``worker_id``, ``model``,
        ``in_flight``, ``served``, ``failed``; see ``dynamo_worker_info()``. Blocks for about a millisecond.
        """
        info: dict[str, Any] = json.loads(self._core.info())
        return info

    def shutdown(self, timeout: float | None = None) -> None:
        """Leaves the cluster: the worker gets no new requests, and those in flight run to their end. Blocks
        without holding the GIL. Further calls do nothing.

        :param timeout: seconds until requests in flight are cancelled; None for no limit.
        :raises DeadlineExceededError: requests were cancelled.
        """
        interruptible(partial(self._core.shutdown, milliseconds(timeout, "timeout")))

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks, without holding the GIL, until the worker has stopped.

        :param timeout: seconds; None for no limit.
        :returns: False if the timeout passed first.
        """
        return wait_in_steps(self._core.wait, timeout)

    def publish_load(
        self,
        *,
        data_parallel_rank: int = 0,
        active_decode_blocks: int | None = None,
        kv_used_blocks: int | None = None,
    ) -> None:
        """Publishes the worker's load to the routers. Does not block; engines may call it on the library's
        event loop.

        :param data_parallel_rank: rank that the load is of.
        :param active_decode_blocks: KV blocks of the requests in decode.
        :param kv_used_blocks: all KV blocks in use.
        :raises DynamoError: the errors of ``dynamo_worker_publish_load()``.
        """
        most = (1 << 63) - 1
        self._core.publish_load(
            integer(data_parallel_rank, "data_parallel_rank", 0, (1 << 32) - 1),
            None
            if active_decode_blocks is None
            else integer(active_decode_blocks, "active_decode_blocks", 0, most),
            None if kv_used_blocks is None else integer(kv_used_blocks, "kv_used_blocks", 0, most),
        )

    def close(self) -> None:
        """Leaves the cluster, cancels the requests in flight, and frees the engine. Blocks without holding
        the GIL. Further calls do nothing.

        Other later use raises :class:`~dynamo_llm.InvalidHandleError`. A worker that is garbage-collected is
        closed in the background.
        """
        # Cancelled requests are intended here; an invalid handle means that the worker was closed before.
        with contextlib.suppress(DeadlineExceededError, InvalidHandleError):
            self.shutdown(0)
        self._core.close()

# SPDX-License-Identifier: Apache-2.0
"""Engines that are served to a cluster."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from dynamo_llm import _core
from dynamo_llm.api.duration import FOREVER, milliseconds
from dynamo_llm.api.interrupt import interruptible
from dynamo_llm.api.other_thread import require_other_thread
from dynamo_llm.api.runtime import config_text, given
from dynamo_llm.errors import DeadlineExceededError, InvalidHandleError

Self = TypeVar("Self", bound="Worker")

#: Milliseconds after which a wait looks for Ctrl-C.
_interval = 100


class Worker:
    """Serves an engine of this library to a cluster of NVIDIA Dynamo, as a model or as an endpoint of data.

    Creating one blocks, without the GIL, until the model is loaded and the worker is registered; in a
    coroutine use :meth:`open`. Any thread may use it, but for the library's own loop, on which engines in
    Python run.

    :param config: a dictionary, or its JSON, with the keys that ``dynamo_worker_create()`` describes.
    :param endpoint: path to serve, ``namespace.component.endpoint``. This and the following are keys of the
        configuration, and override those of ``config``.
    :param runtime: the engine and its model: a configuration as for :class:`~dynamo_llm.Runtime`.
    :param cluster: the cluster.
    :param model: what the cluster is told of the model.
    :param keys: more keys: ``drain_ms``, ``health``, ``python``.
    :raises DynamoError: those of ``dynamo_worker_create()``.
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
        require_other_thread("a worker")
        named = {"endpoint": endpoint, "runtime": runtime, "cluster": cluster, "model": model, **keys}
        self._core = interruptible(partial(_core.Worker, config_text(config, given(named))))

    @classmethod
    async def open(cls: type[Self], config: Mapping[str, Any] | str | None = None, **keys: Any) -> Self:
        """``Worker(config, ...)`` for coroutines: the model loads while the caller's loop goes on."""
        return await asyncio.to_thread(partial(cls, config, **keys))

    @property
    def info(self) -> dict[str, Any]:
        """What there is to know at present: ``state``, ``kind``, ``endpoint``, ``instance_id``, ``model``,
        ``in_flight``, ``served``, ``failed``; see ``dynamo_worker_info()``. Blocks for about a millisecond.
        """
        require_other_thread("a worker")
        info: dict[str, Any] = json.loads(self._core.info())
        return info

    def shutdown(self, timeout: float | None = None) -> None:
        """Leave the cluster: nothing new comes, and what is in flight goes on to its end; again is fine.

        Blocks without the GIL.

        :param timeout: seconds until requests in flight are cancelled; None: they may take for ever.
        :raises DeadlineExceededError: some were cancelled.
        """
        require_other_thread("a worker")
        interruptible(partial(self._core.shutdown, milliseconds(timeout, "timeout")))

    def wait(self, timeout: float | None = None) -> bool:
        """Block, without the GIL, until the worker has stopped.

        :param timeout: seconds; None for ever.
        :returns: whether it has.
        """
        require_other_thread("a worker")
        limit = milliseconds(timeout, "timeout")
        start = time.monotonic()
        while True:
            left = limit - round((time.monotonic() - start) * 1000)
            if self._core.wait(_interval if limit == FOREVER else max(0, min(left, _interval))):
                return True
            if limit != FOREVER and left <= _interval:
                return False

    def publish_load(
        self,
        *,
        data_parallel_rank: int = 0,
        active_decode_blocks: int | None = None,
        kv_used_blocks: int | None = None,
    ) -> None:
        """Tell routers what the worker has to do. Does not block; an engine may call it on the loop.

        :param data_parallel_rank: whose load this is.
        :param active_decode_blocks: KV blocks of the requests in decode.
        :param kv_used_blocks: KV blocks in use, all together.
        :raises DynamoError: those of ``dynamo_worker_publish_load()``.
        """
        self._core.publish_load(data_parallel_rank, active_decode_blocks, kv_used_blocks)

    def close(self) -> None:
        """Leave the cluster, cancel what is in flight, and free the engine; again is fine. Blocks without the
        GIL.

        Using it later raises :class:`~dynamo_llm.InvalidHandleError`. A worker that is dropped is closed.
        """
        # That it cancelled requests is what was asked for; an invalid handle was closed before.
        with contextlib.suppress(DeadlineExceededError, InvalidHandleError):
            self.shutdown(0)
        self._core.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

# SPDX-License-Identifier: Apache-2.0
"""Reservations of a worker pool whose connection is lost. The router waits for the test."""

import asyncio
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from dynamo_llm import DynamoError
from dynamo_llm.runtime.cluster import dynamo_import

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamo") is None, reason="NVIDIA Dynamo is not installed"
)


class Router:
    """Replaces Dynamo's KvRouter: the test makes its choice."""

    made: ClassVar[list[Any]] = []

    def __init__(self, *_: Any) -> None:
        self.choice: asyncio.Future[tuple[int, int, int]] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    async def best_worker(self, *_: Any, **__: Any) -> tuple[int, int, int]:
        """Returns what the test chooses."""
        return await self.choice


class Endpoint:
    """An endpoint without workers."""

    async def client(self) -> Any:
        """Returns a client that knows no workers."""
        return SimpleNamespace(instances=list)


@pytest.mark.parametrize("fails", [False, True])
def test_connection_lost_while_selecting(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the lost router reserves nothing on the new one."""
    from dynamo_llm.runtime.cluster.router.routing_request import RoutingRequest
    from dynamo_llm.runtime.cluster.router.worker_pool import WorkerPool

    core = dynamo_import.import_core()
    fake = SimpleNamespace(KvRouter=Router, RoutingConstraints=core.RoutingConstraints)
    monkeypatch.setattr(dynamo_import, "import_core", lambda: fake)

    async def run() -> None:
        pool = WorkerPool(Endpoint(), 16, core.KvRouterConfig(), False)
        first = Router.made[-1]
        choosing = asyncio.create_task(pool.select(RoutingRequest([1] * 16), "r"))
        while "r" not in pool:
            await asyncio.sleep(0)
        pool.connect(Endpoint())
        end: Callable[[], None] = (
            (lambda: first.choice.set_exception(Exception("it is lost")))
            if fails
            else (lambda: first.choice.set_result((7, 0, 0)))
        )
        end()
        if fails:
            with pytest.raises(DynamoError, match="it is lost"):
                await choosing
        else:
            await choosing
            await pool.free("r")
        assert "r" not in pool

    asyncio.run(run())

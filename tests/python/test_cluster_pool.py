# SPDX-License-Identifier: Apache-2.0
"""What a pool of workers keeps of bookings whose connection is lost. The router waits for the test."""

import asyncio
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from dynamo_llm import DynamoError
from dynamo_llm.runtime.cluster import noise

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dynamo") is None, reason="NVIDIA Dynamo is not installed"
)


class Router:
    """In place of Dynamo's KvRouter: its choice is the test's."""

    made: ClassVar[list[Any]] = []

    def __init__(self, *_: Any) -> None:
        self.choice: asyncio.Future[tuple[int, int, int]] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    async def best_worker(self, *_: Any, **__: Any) -> tuple[int, int, int]:
        """What the test says."""
        return await self.choice


class Endpoint:
    """One without workers."""

    async def client(self) -> Any:
        """A client that knows nobody."""
        return SimpleNamespace(instances=list)


@pytest.mark.parametrize("fails", [False, True])
def test_lost_while_it_chooses(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the router that is lost books nothing on the other one."""
    from dynamo_llm.runtime.cluster.pool import Pool
    from dynamo_llm.runtime.cluster.selection import Ask

    core = noise.prepare()
    parts = ("KvRouterConfig", "RoutingConstraints")
    fake = SimpleNamespace(KvRouter=Router, **{name: getattr(core, name) for name in parts})
    monkeypatch.setattr(noise, "prepare", lambda: fake)

    async def run() -> None:
        pool = Pool(Endpoint(), 16, {}, False)
        first = Router.made[-1]
        choosing = asyncio.create_task(pool.choose(Ask([1] * 16), "r"))
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

# SPDX-License-Identifier: Apache-2.0
"""Requests in coroutines."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import dynamo_llm
import pytest
from conftest import engine, engines_dir
from dynamo_llm import Runtime
from dynamo_llm._core import STATUSES

STALL = [{"text": "first"}, {"stall": True}]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine for at most a minute."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def scripted(*script: dict[str, Any]) -> Runtime:
    return Runtime(engine="scripted", options={"script": list(script)})


def test_streams_and_results() -> None:
    """Reads an answer as a stream and as a result, with a runtime that was opened in the event loop."""

    async def main() -> None:
        async with await Runtime.open({"engine": "echo"}, options={"tokens_per_second": 200}) as runtime:
            texts = [response.text async for response in runtime.complete("one two three")]
            assert "".join(texts) == "one two three" and len(texts) > 1
            request = runtime.complete("four")
            assert (await request).text == "four" and await request is request.result()
        with pytest.raises(dynamo_llm.ClosedError):
            runtime.complete("x")

    run(main())


def test_many_streams_in_one_thread() -> None:
    """One event loop reads many streams at once, without a thread for each."""

    async def main(runtime: Runtime) -> None:
        before = threading.active_count()
        peak = before

        async def ask(number: int) -> str:
            nonlocal peak
            text = ""
            async for response in runtime.complete(f"{number} a b c"):
                text += response.text
                peak = max(peak, threading.active_count())
            return text

        answers = await asyncio.gather(*[ask(number) for number in range(200)])
        assert answers == [f"{number} a b c" for number in range(200)]
        assert peak == before

    with Runtime(engine="echo", options={"tokens_per_second": 100}) as runtime:
        run(main(runtime))


def test_errors() -> None:
    """The error that ends a request is raised where it is awaited, after all earlier responses."""

    async def main() -> None:
        error = {"status": "OVERLOADED", "message": "busy"}
        with scripted({"text": "a"}, {"delay_ms": 5}, {"error": error}) as runtime:
            with pytest.raises(dynamo_llm.OverloadedError, match="busy"):
                await runtime.complete("x")
            texts = []
            with pytest.raises(dynamo_llm.OverloadedError):
                async for response in runtime.complete("x"):
                    texts.append(response.text)
            assert texts == ["a"]
            with pytest.raises(dynamo_llm.DeadlineExceededError):
                async with await Runtime.open(engine="scripted") as stalled:
                    await stalled.complete('[{"stall": true}]', timeout=0.02)
        with pytest.raises(dynamo_llm.EngineNotFoundError):
            await Runtime.open(engine="no-such")

    run(main())


def test_two_tasks_share_a_request() -> None:
    """Each response goes to one of the two tasks, and both see the end."""

    async def main() -> None:
        with scripted(*[{"text": "x"}, {"delay_ms": 1}] * 40) as runtime:
            request = runtime.complete("x")

            async def take() -> str:
                return "".join([response.text async for response in request])

            parts = await asyncio.gather(take(), take(), take())
            assert "".join(parts) == "x" * 40

    run(main())


def test_a_task_that_is_cancelled() -> None:
    """Cancelling an iteration leaves the request as it is; cancelling ``await request`` cancels it."""

    async def main() -> None:
        with scripted(*STALL) as runtime:
            request = runtime.complete("x")
            assert (await anext_of(request)).text == "first"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext_of(request), 0.02)
            assert request.status == STATUSES["DYNAMO_PENDING"]
            waiting = asyncio.ensure_future(anext_of(request))
            await asyncio.sleep(0)
            request.cancel()
            with pytest.raises(dynamo_llm.CancelledError):
                await waiting

            request = runtime.complete("x")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(request, 0.02)
            assert request.status == STATUSES["DYNAMO_ERROR_CANCELLED"]

    async def anext_of(request: Any) -> Any:
        return await request.__anext__()

    run(main())


def test_two_loops() -> None:
    """One runtime serves event loops in several threads; either may receive a request's responses."""
    with Runtime(engine="echo", options={"tokens_per_second": 300}) as runtime:
        shared = runtime.complete(" ".join("x" * 60))
        parts: list[str] = []
        own: list[str] = []

        async def main() -> None:
            async for response in shared:
                parts.append(response.text)
            own.append((await runtime.complete("mine")).text)

        threads = [threading.Thread(target=run, args=(main(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "".join(parts).replace(" ", "") == "x" * 60 and own == ["mine"] * 2


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the engine that checks whether the program's event loop keeps running."""
    monkeypatch.syspath_prepend(str(engines_dir))
    import watching

    return watching


def test_the_programs_loop_keeps_running(watching: Any) -> None:
    """The program's event loop and another thread keep running while a model loads, and while an engine
    prefills and decodes. Otherwise the engine fails.
    """

    async def main() -> None:
        done = threading.Event()
        watching.turns.update(loop=0, thread=0)

        async def turn() -> None:
            while not done.is_set():
                await asyncio.sleep(0.0005)
                watching.turns["loop"] += 1

        def turn_in_thread() -> None:
            while not done.wait(0.0005):
                watching.turns["thread"] += 1

        ticker = asyncio.ensure_future(turn())
        thread = threading.Thread(target=turn_in_thread)
        thread.start()
        try:
            async with await Runtime.open(engine("watching:Threaded")) as runtime:
                texts = [response.text async for response in runtime.complete("")]
                assert "".join(texts) == "0 1 2 "
                assert (await runtime.complete("")).text == "0 1 2 "
        finally:
            done.set()
            await ticker
            thread.join()

    run(main())


def test_the_programs_loop_keeps_running_beside_a_model() -> None:
    """The same with a model. Its work may end before the event loop runs again, so it is repeated: if the
    work blocked the event loop, no round would succeed.
    """

    async def main() -> None:
        turns = dict.fromkeys(("load", "prefill", "decode"), 0)
        work = ""

        async def turn() -> None:
            while True:
                await asyncio.sleep(0)
                if work:
                    turns[work] += 1

        ticker = asyncio.ensure_future(turn())
        for _ in range(30):
            await asyncio.sleep(0)
            work = "load"
            opening = await Runtime.open()
            work = ""
            async with opening as runtime:
                request = runtime.chat("What is a KV cache? " * 20)
                work = "prefill"
                await request.__anext__()
                work = "decode"
                async for _response in request:
                    pass
                work = ""
            if all(turns.values()):
                break
        ticker.cancel()
        assert all(turns.values()), turns

    run(main())

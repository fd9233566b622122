# SPDX-License-Identifier: Apache-2.0
"""Creating runtimes: progress, cancelled tasks, Ctrl-C."""

import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import dynamo_llm
import dynamo_llm.paths
import pytest
from conftest import engine, engines_dir
from dynamo_llm import Progress, Runtime

sys.path.insert(0, str(engines_dir))
loading = pytest.importorskip("loading")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine for at most a minute."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, loading.counts
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _reset() -> None:
    loading.counts.update(dict.fromkeys(loading.counts, 0))


def phases(reports: list[Progress]) -> list[str]:
    """Returns the phases, each once, in order."""
    return list(dict.fromkeys(report.phase for report in reports))


@pytest.mark.parametrize("kind", ["Asynchronous", "Threaded"])
def test_progress(kind: str) -> None:
    """A callback sees what the engine reports, in the thread of the caller or on its event loop."""
    reports: list[Progress] = []
    threads: set[threading.Thread] = set()

    def progress(report: Progress) -> None:
        reports.append(report)
        threads.add(threading.current_thread())

    config = {
        "models": [{"name": "one", "engine": f"loading:{kind}"}],
        "python": {"path": [str(engines_dir)]},
    }
    with Runtime(config, progress=progress) as runtime:
        assert runtime.complete("x").result().text == "loaded"
    assert phases(reports) == ["engine", "download", "weights", "warmup"]
    assert Progress("download", "one", 1, 4, 0.25) in reports
    assert Progress("warmup", "one", 0, 0, 0.5) in reports
    synchronous = phases(reports)

    async def main() -> None:
        reports.clear()
        async with await Runtime.open(config, progress=progress) as runtime:
            assert (await runtime.complete("x")).text == "loaded"

    run(main())
    assert phases(reports) == synchronous
    assert threads == {threading.current_thread()}
    assert loading.counts == {"starting": 2, "cancelled": 0, "started": 2, "stopped": 2}


def test_the_default_engine_knows_the_size_of_its_files() -> None:
    """The demo model on mistral.rs."""
    reports: list[Progress] = []
    Runtime(progress=reports.append).close()
    assert phases(reports) == ["engine", "tokenizer", "weights", "warmup"]
    size = next(report.bytes_total for report in reports if report.phase == "weights")
    assert size == (dynamo_llm.paths.demo_model_dir() / "model.safetensors").stat().st_size
    assert Progress("weights", "", size, size, 1.0) in reports


@pytest.mark.parametrize("kind", ["Asynchronous", "Threaded"])
def test_a_cancelled_task_cancels_the_creation(kind: str) -> None:
    """The engine is told, and nothing of it is left."""

    async def main() -> None:
        reached = asyncio.Event()

        def progress(report: Progress) -> None:
            if report.phase == "weights":
                reached.set()

        opening = asyncio.create_task(
            Runtime.open(engine(f"loading:{kind}", options={"seconds": 1000}), progress=progress)
        )
        await reached.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    run(main())
    eventually(lambda: loading.counts["cancelled"] == 1)
    assert loading.counts["started"] == loading.counts["stopped"] == 0


def test_an_engine_that_does_not_notice_is_stopped_later() -> None:
    """Its caller does not wait for it."""

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Runtime.open(engine("loading:Deaf", options={"seconds": 1})), 0.2)

    start = time.monotonic()
    run(main())
    assert time.monotonic() - start < 1 or loading.counts["started"]
    eventually(lambda: loading.counts["stopped"] == 1)
    assert loading.counts["started"] == 1


def test_a_task_that_is_cancelled_at_any_moment() -> None:
    """Each engine that has started is stopped."""

    async def main() -> None:
        for moment in range(20):
            opening = asyncio.create_task(Runtime.open(engine("loading:Asynchronous")))
            await asyncio.sleep(moment * 0.002)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await opening).close()

    run(main())
    gc.collect()
    eventually(lambda: loading.counts["started"] == loading.counts["stopped"])


def test_a_callback_that_raises() -> None:
    """It cancels the creation, and its exception reaches the caller."""

    def progress(report: Progress) -> None:
        if report.phase == "weights":
            raise KeyError("enough")

    slow = engine("loading:Asynchronous", options={"seconds": 1000})
    with pytest.raises(KeyError, match="enough"):
        Runtime(slow, progress=progress)

    async def main() -> None:
        with pytest.raises(KeyError, match="enough"):
            await Runtime.open(slow, progress=progress)

    run(main())
    eventually(lambda: loading.counts["cancelled"] == 2)


def test_errors() -> None:
    """They are those of the constructor without a callback."""
    for config, kind in (
        ({"engin": "echo"}, dynamo_llm.InvalidConfigError),
        ({"engine": "no-such"}, dynamo_llm.EngineNotFoundError),
        (engine("failing:InStart", options={"how": "value"}), dynamo_llm.EngineFailedError),
    ):
        with pytest.raises(kind) as plain:
            Runtime(config)
        with pytest.raises(kind) as watched:
            Runtime(config, progress=lambda report: None)
        assert str(watched.value).split("\n")[0] == str(plain.value).split("\n")[0]
        assert watched.value.status == plain.value.status
    with pytest.raises(TypeError, match="unknown"):
        run(Runtime.open(unknown=1))


@pytest.mark.parametrize("config", ["/models/qwen", Path("/models/qwen")])
def test_a_path_in_place_of_the_configuration(config: Any) -> None:
    """The hint is the same with and without progress."""
    for keys in ({}, {"progress": lambda report: None}):
        with pytest.raises(
            dynamo_llm.DynamoError, match=r'given as Runtime\(model="/models/qwen"\)'
        ) as error:
            Runtime(config, **keys)
        assert error.value.status_name in ("DYNAMO_ERROR_INVALID_JSON", "DYNAMO_ERROR_INVALID_CONFIG")
    with pytest.raises(dynamo_llm.DynamoError, match=r'given as Runtime\(model="/models/qwen"\)'):
        run(Runtime.open(config))


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"phase": ""}, "phase must be a text of 1 to 256 bytes"),
        ({"phase": "x" * 257}, "phase must be a text of 1 to 256 bytes"),
        ({"phase": "x", "bytes_done": -1}, "bytes_done must be 0 or greater"),
        ({"phase": "x", "bytes_total": 1 << 64}, "bytes_total must be 0 or greater"),
        ({"phase": "x", "fraction": 1.5}, "fraction must be from 0 to 1, or None, not 1.5"),
    ],
)
def test_reports_that_are_refused(report: dict[str, Any], message: str) -> None:
    """The engine gets a ValueError."""
    with pytest.raises(dynamo_llm.EngineFailedError, match=f"ValueError: {message}"):
        Runtime(engine("loading:Wrong", options={"report": report}))


def test_a_child_process_reports_too() -> None:
    """With ``"isolation": "process"`` the reports come from the child, which a cancel ends."""
    reports: list[Progress] = []
    config = engine("loading:Asynchronous", isolation="process")
    with Runtime(config, progress=reports.append) as runtime:
        assert runtime.complete("x").result().text == "loaded"
    assert phases(reports) == ["engine", "download", "weights", "warmup"]
    assert any(report.bytes_total == 4 and report.fraction == 0.25 for report in reports)

    async def main() -> None:
        reached = asyncio.Event()
        slow = engine("loading:Asynchronous", isolation="process", options={"seconds": 1000})
        opening = asyncio.create_task(
            Runtime.open(slow, progress=lambda report: report.phase == "weights" and reached.set())
        )
        await reached.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    run(main())


def test_an_engine_opens_a_runtime_on_the_librarys_event_loop() -> None:
    """``open()`` works in a coroutine of an engine; the constructor is refused there."""
    with Runtime(engine("opening:Opening")) as runtime:
        assert runtime.complete("x").result().text == "InvalidStateError engine"

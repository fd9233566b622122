# SPDX-License-Identifier: Apache-2.0
"""Python engines that harm their process, and a process that runs out of resources: the status is right,
other requests lose nothing, and the runtime recovers.
"""

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import dynamo_llm
import pytest
from conftest import engine, engines_dir, run
from dynamo_llm import Runtime
from reliability import reliability
from waiting import patience, wait_until


@pytest.fixture
def bystander() -> Iterator[Runtime]:
    """Another runtime with a Python engine, in the middle of an answer."""
    with Runtime(engine("faulty:Stalling")) as runtime:
        request = runtime.complete("x")
        assert next(request).text == "word"
        yield runtime
        request.cancel()
        with pytest.raises(dynamo_llm.CancelledError, match="cancelled"):
            request.result()


harms = [
    ("Async", "recurses", dynamo_llm.EngineFailedError, "RecursionError"),
    ("Async", "stops the loop", None, ""),
    ("Async", "closes the loop", dynamo_llm.EngineFailedError, "RuntimeError"),
    ("Async", "cancels all tasks", dynamo_llm.EngineFailedError, "Cancelled"),
    ("Async", "leaves a thread", None, ""),
    ("Async", "goes on after its end", None, ""),
    ("Threaded", "recurses", dynamo_llm.EngineFailedError, "RecursionError"),
    ("Threaded", "ends its thread", dynamo_llm.EngineFailedError, "SystemExit"),
    ("Threaded", "leaves a thread", None, ""),
    ("Threaded", "goes on after its end", None, ""),
]


@pytest.mark.parametrize(("kind", "how", "error", "match"), harms)
def test_harm(kind: str, how: str, error: type[Exception] | None, match: str) -> None:
    """The request that causes it ends, and the next one is answered."""
    with Runtime(engine(f"faulty:{kind}")) as runtime:
        for _ in range(3):
            request = runtime.complete(how, timeout=patience)
            assert next(request).text.startswith("first")
            if error is None:
                request.result()
            else:
                with pytest.raises(error) as caught:
                    request.result()
                assert isinstance(caught.value, dynamo_llm.DynamoError)
                assert match in json.dumps(caught.value.details)
            assert runtime.complete("nothing", timeout=patience).result().text == "first"
    where = "on the loop" if kind == "Async" else "in a thread"
    reliability(f"an engine {where} {how}", 3, "its request ended as it should; the next one had its answer")


def test_an_engine_blocks_the_event_loop() -> None:
    """Only what needs the event loop waits; deadlines still expire."""
    code = """
import sys, threading
import dynamo_llm
from dynamo_llm import Runtime

path = {"path": [sys.argv[1]]}
with Runtime(engine="faulty:Async", python=path) as runtime, Runtime(engine="echo") as native:
    import faulty

    stuck = runtime.complete("blocks the loop", timeout=3)
    assert next(stuck).text == "first"
    assert faulty.entered.wait(60)
    behind = runtime.complete("nothing")
    for number in range(100):
        assert native.complete(str(number)).result().text == str(number)
    try:
        stuck.result()
        raise AssertionError("it ended well")
    except dynamo_llm.DeadlineExceededError:
        pass
    assert behind.status == 2  # it waits
    faulty.go_on.set()
    assert behind.result().text == "first"
    print("done")
"""
    result = run([sys.executable, "-c", code, engines_dir])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    reliability(
        "an engine blocks the loop that engines in Python share",
        1,
        "native engines went on, its deadline came, and what waited behind it had its answer afterwards",
    )


def test_a_stopped_event_loop_is_logged() -> None:
    """A warning reports it, because it is a defect of the engine."""
    code = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
from dynamo_llm import Runtime

logger = logging.getLogger("dynamo_llm")
logger.addHandler(logging.StreamHandler(sys.stdout))
with Runtime(engine="faulty:Async", python={"path": [sys.argv[1]]}) as runtime:
    assert runtime.complete("stops the loop").result().text == "first"
    assert runtime.complete("nothing").result().text == "first"
"""
    result = run([sys.executable, "-c", code, engines_dir])
    assert (result.returncode, result.stdout) == (
        0,
        "an engine stopped the event loop, which was started again\n",
    )


def test_an_engine_never_yields(bystander: Runtime) -> None:
    """A deadline or a cancel ends it."""
    with Runtime(engine("faulty:Async")) as runtime:
        with pytest.raises(dynamo_llm.DeadlineExceededError):
            runtime.complete("never yields", timeout=0.05).result()
        request = runtime.complete("never yields")
        assert next(request).text == "first"
        request.cancel()
        with pytest.raises(dynamo_llm.CancelledError):
            request.result()
        assert runtime.complete("nothing").result().text == "first"
    reliability("an engine never yields again", 2, "a deadline, or a cancel, ended its request")


@pytest.mark.parametrize(("kind", "choices"), [("Async", None), ("Threaded", None), ("Choices", 2)])
def test_objects_of_a_failed_engine_are_freed(kind: str, choices: int | None) -> None:
    """Before the caller gets the error, because its next request may need the memory."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # a thread that is not done yet is interrupted
    gc.disable()
    try:
        with Runtime(engine(f"faulty:{kind}")) as runtime:
            for _ in range(300):
                with pytest.raises(dynamo_llm.EngineFailedError, match="while it held something"):
                    runtime.complete("fails", n=choices, timeout=patience).result()
                assert not sys.modules["faulty"].held
    finally:
        gc.enable()
        sys.setswitchinterval(interval)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
@pytest.mark.parametrize("kind", ["Async", "Threaded"])
def test_an_engine_takes_all_memory(kind: str) -> None:
    """Python raises MemoryError; the request has that status, and others continue."""
    code = f"""
import resource, sys
import dynamo_llm
from dynamo_llm import Runtime

path = {{"path": [sys.argv[1]]}}
with Runtime(engine="faulty:{kind}", python=path) as runtime, Runtime(engine="echo") as native:
    assert runtime.complete("nothing").result().text == "first"
    beside = runtime.complete("never yields") if "{kind}" == "Async" else native.complete("a b")
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
    for _ in range(3):
        try:
            runtime.complete("takes all memory").result()
            raise AssertionError("it ended well")
        except dynamo_llm.OutOfMemoryError as error:
            assert "MemoryError" in str(error.details), error.details
        assert runtime.complete("nothing").result().text == "first"
        assert native.complete("x").result().text == "x"
    assert next(beside).text in ("first", "a b")
    beside.cancel()
    print("done")
"""
    result = run([sys.executable, "-c", code, engines_dir])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    reliability(
        "an engine takes all the memory that the process may have", 3, "OUT_OF_MEMORY; others went on"
    )


def test_ten_thousand_in_flight() -> None:
    """Requests of one Python engine; each has its text and its end, and afterwards it answers as before."""
    count = 10_000
    with Runtime(engine("faulty:Stalling")) as runtime:
        requests = [runtime.complete("x") for _ in range(count)]
        wait_until(lambda: runtime.statistics()["tokens"]["pushed"] == count)
        for request in requests:
            request.cancel()
        for request in requests:
            assert next(request).text == "word"
            with pytest.raises(dynamo_llm.CancelledError):
                next(request)
        wait_until(lambda: runtime.statistics()["requests"]["in_flight"] == 0)
        assert next(runtime.complete("x")).text == "word"
    reliability(
        "requests in flight at once, in an engine in Python", count, "each had its word, and its own end"
    )


def test_a_consumer_that_never_reads() -> None:
    """Its engine waits, and other requests of that engine do not."""
    with Runtime(engine("faulty:Long", stream={"capacity": 16})) as runtime:
        unread = runtime.complete("1000")
        wait_until(lambda: runtime.statistics()["streams"]["full"] > 0)
        for _ in range(100):
            assert runtime.complete("50").result().text == "word " * 50
        assert unread.result().text == "word " * 1000
    reliability(
        "requests of an engine in Python beside one whose answer nobody reads",
        100,
        "each had its whole answer; the one that waited lost nothing",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the least descriptor")
def test_no_descriptors_are_left() -> None:
    """asyncio needs one for each request that waits: the error says so, and later it works."""
    code = """
import asyncio, os, resource, sys
import dynamo_llm
from dynamo_llm import Runtime

async def main():
    with Runtime(engine="faulty:Async", python={"path": [sys.argv[1]]}) as runtime:
        assert (await runtime.complete("nothing")).text == "first"
        free = os.dup(0)
        os.close(free)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        for _ in range(10):
            try:
                await runtime.complete("never yields", timeout=60)
                raise AssertionError("it ended well")
            except dynamo_llm.SystemFailedError as error:
                assert "Too many open files" in error.message
        assert runtime.complete("nothing").result().text == "first"
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert (await runtime.complete("nothing")).text == "first"
    print("done")

asyncio.run(main())
"""
    result = run([sys.executable, "-c", code, engines_dir])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    reliability(
        "a coroutine waits for an answer when the process has no descriptors left",
        10,
        "SystemFailedError with the reason; other ways went on, and later this one too",
    )


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_disk_is_full(stream: str) -> None:
    """The program's output cannot be written: log records are lost, and nothing else."""
    code = """
import logging, os, sys
import dynamo_llm
from dynamo_llm import Runtime

logging.basicConfig(level=logging.DEBUG)
logging.raiseExceptions = False
with Runtime(engine="failing:Async", python={"path": [sys.argv[1]]}) as runtime:
    for _ in range(20):
        logging.getLogger().error("lost")
        if sys.argv[2] == "stdout":
            try:
                print("lost", flush=True)
                raise AssertionError("the disk is not full")
            except OSError:
                pass
        try:
            runtime.complete("value").result()
            raise AssertionError("it ended well")
        except dynamo_llm.EngineFailedError:
            pass
        assert runtime.complete("nothing").result().text == "ok"
os._exit(7)
"""
    shell = f'exec "$0" -c "$1" "$2" {stream} {"1" if stream == "stdout" else "2"}>/dev/full'
    result = run(["/bin/sh", "-c", shell, sys.executable, code, engines_dir])
    assert result.returncode == 7, result.stdout + result.stderr
    reliability(f"the disk that {stream} goes to is full", 20, "the same statuses as ever")


def test_a_host_with_a_closed_stdout() -> None:
    """Python has no sys.stdout then; engines and their logs continue."""
    code = "import os, sys, dynamo_llm; assert sys.stdout is None\n" + (
        "with dynamo_llm.Runtime(engine='echoes:Async', python={'path': [sys.argv[1]]}) as runtime:\n"
        "    assert runtime.complete('a b').result().text == 'a b '\n"
        "sys.exit(7)\n"
    )
    shell = 'exec "$0" -c "$1" "$2" >&- 2>&-'
    result = run(["/bin/sh", "-c", shell, sys.executable, code, engines_dir])
    assert result.returncode == 7
    reliability("a host whose stdout and stderr are closed", 1, "as anywhere else")


def test_modules_that_cannot_be_imported(tmp_path: Path) -> None:
    """Whatever they do, creating the runtime fails, the process survives, and the next runtime works."""
    bodies = {
        "raises": "raise ValueError('no')",
        "lacks": "import nothing_of_that_name",
        "syntax": "def",
        "exits": "import sys; sys.exit(3)",
        "interrupts": "raise KeyboardInterrupt",
        "recurses": "def f(): f()\nf()",
        "empty": "",
        "bytes": "x = '\\udc80'; raise ValueError(x)",
    }
    for name, body in bodies.items():
        (tmp_path / f"faulty_{name}.py").write_text(body)
        with pytest.raises(dynamo_llm.DynamoError) as caught:
            Runtime(engine=f"faulty_{name}:Engine", python={"path": [str(tmp_path)]})
        assert f"faulty_{name}" in json.dumps(caught.value.details), caught.value.details
    with Runtime(engine("faulty:Async")) as runtime:
        assert runtime.complete("nothing").result().text == "first"
    reliability(
        "a module of an engine cannot be imported: it raises, exits, recurses, is no Python",
        len(bodies),
        "an error that names it; the process went on",
    )


ends = {
    "os._exit(5)": 5,
    "os.abort()": -signal.SIGABRT,
    "os.kill(os.getpid(), signal.SIGTERM)": -signal.SIGTERM,
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("end", ends)
def test_an_engine_that_ends_the_process(end: str, tmp_path: Path) -> None:
    """An engine that ends the process ends it, by definition; earlier output of the host is kept."""
    (tmp_path / "ending.py").write_text(
        "import os, signal, time\n"
        "class Engine:\n"
        "    def __init__(self, config): ...\n"
        "    def start(self): ...\n"
        "    def stop(self): ...\n"
        "    def generate(self, request):\n"
        f"        {end}\n"
        "        time.sleep(100)\n"
        "        yield {}\n"
    )
    code = (
        "import sys, dynamo_llm\n"
        "print('before', flush=True)\n"
        "dynamo_llm.Runtime(engine='ending:Engine', python={'path': [sys.argv[1]]}).complete('x').result()\n"
    )
    result = run([sys.executable, "-c", code, tmp_path])
    assert (result.returncode, result.stdout) == (ends[end], "before\n"), result.stderr
    reliability(
        f"an engine calls {end.partition('(')[0]}()", 1, "not guarded: the process ended, as it was told to"
    )


def test_cancelled_asyncio_consumers() -> None:
    """Tasks that are cancelled while they wait leave no request in flight."""

    async def main(runtime: Runtime) -> None:
        tasks = [asyncio.ensure_future(runtime.complete("never yields")) for _ in range(200)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError)

    with Runtime(engine("faulty:Async")) as runtime:
        asyncio.run(main(runtime))
        wait_until(lambda: runtime.statistics()["requests"]["in_flight"] == 0)
        assert runtime.complete("nothing").result().text == "first"
    reliability(
        "a task that waits for an answer is cancelled", 200, "its request was, too; nothing stayed in flight"
    )

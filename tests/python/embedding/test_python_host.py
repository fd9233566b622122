# SPDX-License-Identifier: Apache-2.0
"""Python programs that use the C library, each in a separate process."""

import sys
import textwrap
from pathlib import Path

import pytest
from conftest import run, tests_dir

#: Environment of the programs, which import hosting.
environment = {"PYTHONPATH": str(tests_dir / "python")}


def host(code: str) -> str:
    """Runs a program. Returns its stdout. It must exit with 0, and write nothing to stderr."""
    program = "from hosting import Library, question\n" + textwrap.dedent(code)
    result = run([sys.executable, "-X", "faulthandler", "-c", program], environment)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    return result.stdout


@pytest.mark.parametrize("before", [True, False])
def test_streams(before: bool) -> None:
    """The demo model and other engines answer, whether or not the package was imported before."""
    out = host(f"""
        import sys
        if {before}:
            import dynamo_llm.runtime.host
        library = Library()
        demo = library.create({{}})
        echo = library.engine("echoes:Async")
        assert len(list(library.texts(library.send(demo, question)))) > 0
        print(library.answer(echo, {{"prompt": "a b"}}))
        library.finish(demo)
        library.finish(echo)
        import dynamo_llm
        assert sys.modules["dynamo_llm"] is dynamo_llm and dynamo_llm.__version__
    """)
    assert out == "a b \n"


def test_cancels() -> None:
    """A request that stalls is cancelled; the engine continues."""
    out = host("""
        library = Library()
        for engine in ("stalling:Async", "stalling:Threaded"):
            runtime = library.engine(engine)
            request = library.send(runtime, {"prompt": "x"})
            texts = library.texts(request)
            print(next(texts))
            library.c.dynamo_request_cancel(request)
            assert list(texts) == []
            print(library.status(library.c.dynamo_request_status(request)))
            print(library.answer(runtime, {"prompt": "go"}))
            library.finish(runtime)
    """)
    assert out == "x\nERROR_CANCELLED\ngo\n" * 2


def test_gil_is_held_while_a_runtime_starts() -> None:
    """A caller that holds the GIL does not wait for itself."""
    out = host("""
        import ctypes
        holding, library = Library(ctypes.PyDLL), Library()
        for engine in ("echoes:Async", "echoes:Threaded"):
            print(library.answer(holding.engine(engine), {"prompt": "a"}))
        assert library.answer(holding.create({}), question)
        assert not holding.c.dynamo_runtime_create(b'{"engine": "no_such:Engine"}')
        print(holding.error().split(":")[0])
    """)
    assert out == "a \na \nERROR_ENGINE_UNAVAILABLE\n"


def test_the_hosts_state_is_unchanged() -> None:
    """Loggers, streams, signal handlers, warnings, and hooks of the program are not changed."""
    out = host("""
        import asyncio, logging, os, signal, sys, threading, warnings
        logging.getLogger("mine").setLevel(logging.ERROR)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        def state():
            root = logging.getLogger()
            return (
                root.level, list(root.handlers), logging.getLogger("mine").level, logging.lastResort,
                sys.stdout, sys.stderr, sys.stdin, sys.excepthook, threading.excepthook, sys.displayhook,
                [signal.getsignal(i) for i in range(1, 32)], signal.pthread_sigmask(signal.SIG_BLOCK, []),
                warnings.showwarning, list(warnings.filters), asyncio.get_event_loop_policy(),
                os.getcwd(), sys.argv, sys.getswitchinterval(), sys.getrecursionlimit(),
            )
        before = state()
        library = Library()
        assert library.answer(library.create({}), question)
        assert library.answer(library.engine("echoes:Async"), {"prompt": "a"})
        for old, new in zip(before, state()):
            assert old == new, (old, new)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            print("no loop in this thread")
    """)
    assert out == "no loop in this thread\n"


def test_threads_and_event_loops_of_the_host_keep_running() -> None:
    """While a model loads and streams, another thread and an asyncio event loop of the program run. The
    engine fails if one of them does not.
    """
    out = host("""
        import asyncio, sys, threading
        library = Library()
        from hosting import engines_dir
        sys.path.append(str(engines_dir))
        import watching
        watching.turns.update(thread=0, loop=0)
        done = threading.Event()
        def turn():
            while not done.wait(0.0005):
                watching.turns["thread"] += 1
        async def turn_on_the_loop():
            while not done.is_set():
                await asyncio.sleep(0.0005)
                watching.turns["loop"] += 1
        threads = [threading.Thread(target=turn),
                   threading.Thread(target=lambda: asyncio.run(turn_on_the_loop()))]
        for thread in threads:
            thread.start()
        print(library.answer(library.engine("watching:Threaded"), {"prompt": ""}))
        done.set()
        for thread in threads:
            thread.join()
    """)
    assert out == "0 1 2 \n"


def test_called_from_an_asyncio_event_loop() -> None:
    """A coroutine may call the library, in a thread or directly."""
    out = host("""
        import asyncio
        library = Library()
        async def main():
            runtime = library.engine("echoes:Async")
            print(await asyncio.to_thread(library.answer, runtime, {"prompt": "a"}))
            print(library.answer(runtime, {"prompt": "b"}))
            library.finish(runtime)
        asyncio.run(main())
    """)
    assert out == "a \nb \n"


endings = {
    "the end of the program": "",
    "sys.exit": "sys.exit(0)",
    "sys.exit in a thread": "threading.Thread(target=sys.exit).start()",
    "os._exit": "sys.stdout.flush(); os._exit(0)",
    "a thread that goes on": "threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(20)]).start()",
    "a daemon that receives": (
        "threading.Thread(target=lambda: list(library.texts(open)), daemon=True).start()"
    ),
    "a daemon that sends": "threading.Thread(target=send_on, daemon=True).start()",
}


@pytest.mark.parametrize("ending", endings)
def test_ends_while_engines_stream(ending: str) -> None:
    """The program exits at once, however it exits, and writes nothing."""
    out = host(f"""
        import os, sys, threading, time
        library = Library()
        demo = library.create({{"stream": {{"capacity": 4}}}})
        open = library.send(demo, question)
        next(library.texts(open))
        for engine in ("leaving:Endless", "leaving:EndlessThreaded", "stalling:Async", "stalling:Threaded"):
            next(library.texts(library.send(library.engine(engine), {{"prompt": "x"}})))
        def send_on():
            while not library.answer(demo, question).startswith("ERROR"):
                pass
        print("streaming")
        {endings[ending]}
    """)
    assert out == "streaming\n"


def test_engines_are_stopped_at_the_end() -> None:
    """An engine's stop() and the exit functions run before Python ends."""
    out = host("""
        library = Library()
        runtime = library.engine("leaving:ExitFunctions", options={"fd": 1})
        library.answer(runtime, {"prompt": "x"})
    """)
    assert out == "engine stopped\nexit function ran\n"


def test_after_the_end() -> None:
    """An exit function of the program that runs after the library's gets an error, and does not hang."""
    out = host("""
        import atexit
        library = Library()
        runtime = library.engine("echoes:Async")
        def late():
            request = library.c.dynamo_request_create(b'{"prompt": "x"}')
            print(library.status(library.c.dynamo_request_send(runtime, request)))
            other = library.c.dynamo_runtime_create(b'{"engine": "echoes:Async"}')
            print(other, library.error().split(":")[0])
        atexit.register(late)
    """)
    assert out == "ERROR_CLOSED\nNone ERROR_CLOSED\n"


def test_many_threads() -> None:
    """Python threads share the runtimes, and create some of their own."""
    out = host("""
        from concurrent.futures import ThreadPoolExecutor
        library = Library()
        demo = library.create({})
        short = {**question, "max_tokens": 4}
        expected = library.answer(demo, short)
        def work(i):
            own = library.engine("echoes:Threaded")
            same = library.answer(demo, short) == expected
            echo = library.answer(own, {"prompt": f"{i}"}) == f"{i} "
            library.finish(own)
            return same and echo
        with ThreadPoolExecutor(8) as pool:
            print(all(pool.map(work, range(40))))
    """)
    assert out == "True\n"


def test_spawned_processes(tmp_path: Path) -> None:
    """Processes that multiprocessing spawns use the library like the program does."""
    program = tmp_path / "spawn.py"
    program.write_text(
        textwrap.dedent("""
            import multiprocessing
            from hosting import Library, question
            def work(prompt):
                library = Library()
                return library.answer(library.engine("echoes:Async"), {"prompt": prompt})
            if __name__ == "__main__":
                print(work("parent"))
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    print(pool.map(work, ["a", "b"]))
        """)
    )
    result = run([sys.executable, program], environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "parent \n['a ', 'b ']\n", "")


def test_forked_processes() -> None:
    """Calls in a forked child fail, and it exits normally; the parent continues."""
    out = host("""
        import os, sys, warnings
        warnings.simplefilter("ignore")  # Python itself warns about fork() with threads
        library = Library()
        runtime = library.create({})
        request = library.send(runtime, question)
        child = os.fork()
        if child == 0:
            assert not library.c.dynamo_runtime_create(b"{}")
            assert library.error().startswith("ERROR_FORKED"), library.error()
            assert not library.c.dynamo_request_recv(request)
            assert library.error().startswith("ERROR_FORKED"), library.error()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(len("".join(library.texts(request))) > 10)
    """)
    assert out == "7\nTrue\n"

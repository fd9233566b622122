# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in Python programs, each in a separate process."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import engines_dir

STALLED = 'dynamo_llm.Runtime(engine="scripted", options={"script": [{"text": "a"}, {"stall": True}]})'

HEAD = """
    import asyncio, signal, sys, threading, time
    import dynamo_llm

    def say_when_it_waits(where):
        # Prints "waiting" once the main thread is in that function, and had the time to reach its wait.
        def functions(frame):
            return [frame.f_code.co_name, *functions(frame.f_back)] if frame else []
        def watch(main=threading.main_thread().ident):
            while where not in functions(sys._current_frames()[main]):
                time.sleep(0.01)
            time.sleep(0.1)
            print("waiting")
        threading.Thread(target=watch, daemon=True).start()
"""


def interrupt(code: str) -> tuple[int, str, str]:
    """Runs a program, and presses Ctrl-C once it prints "waiting". Returns exit code, stdout, and stderr."""
    program = textwrap.dedent(HEAD) + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(engines_dir), "PATH": str(Path(sys.executable).parent)},
    )
    try:
        assert process.stdout is not None
        out = ""
        while "waiting" not in (line := process.stdout.readline()):
            assert line, process.communicate(timeout=60)[1]
            out += line
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
        return process.returncode, out + rest, err
    finally:
        process.kill()
        process.wait()


def test_while_a_model_loads_that_can_be_cancelled() -> None:
    """Ctrl-C ends the wait and cancels the creation, which the engine notices."""
    assert interrupt("""
        import loading
        shown = []
        def progress(report):
            if report.phase == "weights" and not shown:
                shown.append(print("waiting"))
        try:
            dynamo_llm.Runtime(engine="loading:Threaded", options={"seconds": 1000}, progress=progress)
        except KeyboardInterrupt:
            while not loading.counts["cancelled"]:
                time.sleep(0.01)
            print("cancelled")
    """) == (0, "cancelled\n", "")


def test_exit_while_a_model_loads() -> None:
    """The program ends at once, whether or not the engine can be interrupted."""
    for kind in "Asynchronous", "Threaded", "Deaf":
        assert interrupt(f"""
            options = {{"options": {{"seconds": 1000}}, "progress": lambda report: None}}
            open_it = threading.Thread(
                target=dynamo_llm.Runtime, args=[{{"engine": "loading:{kind}"}}], kwargs=options, daemon=True)
            open_it.start()
            import loading
            while not loading.counts["starting"]:
                time.sleep(0.01)
            signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
            print("waiting")
            time.sleep(1000)
        """)[:2] == (7, "")


def test_while_it_waits() -> None:
    """Ctrl-C ends the wait and cancels the request; the runtime stays usable."""
    assert interrupt(f"""
        runtime = {STALLED}
        request = runtime.complete("x")
        next(request)
        try:
            say_when_it_waits("receive")
            request.result()
        except KeyboardInterrupt:
            print("interrupted")
        print(request.status, next(runtime.complete("x")).text)
    """) == (0, "interrupted\n-12 a\n", "")


def test_a_handler_of_the_program() -> None:
    """A handler that does not raise runs during the wait, and does not affect the request."""
    assert interrupt(f"""
        request = {STALLED}.complete("x")
        def handler(*_):
            print("handled")
            threading.Timer(0.01, request.cancel).start()
        signal.signal(signal.SIGINT, handler)
        next(request)
        try:
            say_when_it_waits("receive")
            next(request)
        except dynamo_llm.CancelledError:
            print("cancelled")
    """) == (0, "handled\ncancelled\n", "")


def test_while_a_model_loads() -> None:
    """Ctrl-C interrupts a load that hangs; the program continues, and can exit."""
    assert interrupt("""
        from stalling import GatedStart
        try:
            say_when_it_waits("join")
            dynamo_llm.Runtime(engine="stalling:GatedStart")
        except KeyboardInterrupt:
            print("interrupted")
        GatedStart.gate.set()
        print(dynamo_llm.Runtime(engine="echo").complete("x").result().text)
    """) == (0, "interrupted\nx\n", "")


def test_while_it_shuts_down() -> None:
    """Ctrl-C interrupts a shutdown that waits for a request."""
    assert interrupt(f"""
        runtime = {STALLED}
        request = runtime.complete("x")
        try:
            say_when_it_waits("join")
            runtime.shutdown()
        except KeyboardInterrupt:
            print("interrupted")
        request.cancel()
    """) == (0, "interrupted\n", "")


def test_in_a_coroutine() -> None:
    """Ctrl-C ends asyncio.run() and its request."""
    code, out, err = interrupt(f"""
        runtime = {STALLED}
        async def main():
            async for response in runtime.complete("x"):
                print("waiting")
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        runtime.shutdown()  # would wait forever if the request continued
        print(runtime.statistics()["requests"]["cancelled"])
    """)
    assert (code, out, err) == (0, "interrupted\n1\n", "")


def test_uncaught() -> None:
    """A program that does not handle the KeyboardInterrupt ends like any Python program."""
    code, out, err = interrupt(f"""
        with {STALLED} as runtime:
            for response in runtime.complete("x"):
                print("waiting")
    """)
    assert (code, out) == (-signal.SIGINT, "")
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("is_loading", [False, True])
def test_the_program_ends_while_the_first_engine_starts(is_loading: bool) -> None:
    """A program that exits while a daemon thread starts the first Python engine has its normal exit code.

    Python before 3.14 ends a thread that returns from native code during finalization; mistral.rs aborts.
    """
    for milliseconds in [20, 60, 120, 200] if is_loading else range(0, 40, 5):
        program = f"""
            import sys, threading, time
            import dynamo_llm
            threading.Thread(target=dynamo_llm.Runtime, daemon=True).start()
            while {is_loading} and "mistralrs" not in sys.modules:
                time.sleep(0.002)
            time.sleep({milliseconds / 1000})
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.mark.skipif(os.name != "posix", reason="a shell that ignores SIGINT")
def test_these_tests_in_the_background() -> None:
    """A Ctrl-C test passes where a shell has made SIGINT ignored, as "nohup" and "&" in a script do."""
    test = f"{__file__}::test_while_it_waits"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    code = "trap '' INT; exec \"$@\""
    done = subprocess.run(
        ["sh", "-c", code, "sh", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout

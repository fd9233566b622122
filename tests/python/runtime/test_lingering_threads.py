# SPDX-License-Identifier: Apache-2.0
"""A Python program ends although an engine hangs, with its own exit code."""

import sys
import textwrap

import pytest
from conftest import engine, run
from reliability import reliability

hangs = ["InGenerator", "InDefaultExecutor", "InOwnExecutor", "InPoolOfAThread", "InDaemon", "InThread"]


def ends(code: str, exit_code: int = 0) -> str:
    """Runs a program with ``start(NAME, **options)``, a runtime of tests/engines/hanging.py. It must end with
    its exit code, within the timeout of tests. Returns its stderr.
    """
    program = f"""
import os, sys, threading, dynamo_llm
python = {engine("")["python"]!r}
def start(name, **options):
    return dynamo_llm.Runtime(engine=f"hanging:{{name}}", options=options, python=python)
{textwrap.dedent(code)}"""
    result = run([sys.executable, "-X", "faulthandler", "-c", program])
    assert (result.returncode, result.stdout) == (exit_code, "at the end\n"), result.stderr
    return result.stderr


@pytest.mark.many(4)
@pytest.mark.parametrize("in_c", [False, True])
@pytest.mark.parametrize("name", hangs)
def test_in_a_thread(name: str, in_c: bool) -> None:
    """A deadline ends the request in any thread, and the program ends."""
    ends(
        f"""
        request = start({name!r}, in_c={in_c}).complete("x", timeout=0.5)
        try:
            request.result()
        except dynamo_llm.DeadlineExceededError:
            pass
        print("at the end")
        """
    )
    reliability(
        "a program in Python ends while an engine hangs in a thread", 1, "it ended, with its own exit code"
    )


@pytest.mark.many(3)
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("runtime.close()", marks=pytest.mark.slow),  # it waits for the engine, 10 s at most
        "del runtime",
        "runtime.complete('x')",
    ],
)
def test_in_its_stop(ending: str) -> None:
    """However the runtime is released."""
    ends(f"runtime = start('InStop'); runtime.complete('x').result(); {ending}; print('at the end')")


def test_in_its_start() -> None:
    """A thread that creates a runtime, and that Python would join, is released."""
    ends(
        """
        def create():
            try:
                start("InStart")
            except dynamo_llm.ClosedError:
                pass
        start("InDaemon").close()
        threading.Thread(target=create).start()
        print("at the end")
        """
    )


def test_in_its_start_for_a_coroutine() -> None:
    """A coroutine that was cancelled leaves nothing that Python would join."""
    ends(
        """
        import asyncio
        async def main():
            try:
                opening = dynamo_llm.Runtime.open(engine="hanging:InStart", python=python)
                await asyncio.wait_for(opening, 0.5)
            except asyncio.TimeoutError:
                pass
        asyncio.run(main())
        print("at the end")
        """
    )


def test_on_the_event_loop_at_exit() -> None:
    """Requests end for threads that wait for them, also for threads that Python joins."""
    stderr = ends(
        """
        runtime = start("OnTheLoop")
        other = start("InDaemon")
        def wait():
            for request in (runtime.complete("x"), other.complete("x")):
                try:
                    request.result()
                except dynamo_llm.ClosedError:
                    pass
        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        print("at the end")
        """
    )
    assert "did not stop in time" in stderr


def test_with_the_gil() -> None:
    """Then Python cannot run, and the process ends without it."""
    stderr = ends("runtime = start('WithGil'); runtime.complete('x').result(); print('at the end')")
    assert "holds the GIL" in stderr


@pytest.mark.parametrize(("last", "code"), [("sys.exit(3)", 3), ("raise ValueError('x')", 1), ("pass", 0)])
def test_exit_codes(last: str, code: int) -> None:
    """They are the program's."""
    ends(
        f"""
        request = start("InOwnExecutor").complete("x")
        next(request)
        print("at the end")
        {last}
        """,
        code,
    )


def test_threads_of_the_program_are_joined() -> None:
    """Python joins all threads that are not an engine's, however long that takes."""
    ends(
        """
        import time
        from concurrent.futures import ThreadPoolExecutor
        next(start("InOwnExecutor").complete("x"))
        def work():
            time.sleep(4)
            os.write(1, b"at the end\\n")
        ThreadPoolExecutor(1).submit(work)
        """
    )

# SPDX-License-Identifier: Apache-2.0
"""The engine mistralrs: its memory does not grow with the number of requests."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
from dynamo_llm import Runtime

#: Asks distinct questions; prints the resident memory after 200 of them and after all.
asking = """
import ctypes, gc, sys
from concurrent.futures import ThreadPoolExecutor
import psutil
from dynamo_llm import Runtime

total, words, threads = map(int, sys.argv[1:])
glibc = ctypes.CDLL(None)
if hasattr(glibc, "mallopt"):
    glibc.mallopt(-8, 2)  # M_ARENA_MAX: with a heap per thread, memory would take long to reach its maximum

def resident():
    gc.collect()
    if hasattr(glibc, "malloc_trim"):
        glibc.malloc_trim(0)
    return psutil.Process().memory_info().rss

def question(number):
    return " ".join(f"{number * (7 + at) % 9973}" for at in range(words))

with Runtime() as runtime:
    def ask(number):
        runtime.chat(question(number), max_tokens=1).result()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(200)))
        before = resident()
        list(pool.map(ask, range(200, total)))
        print(before, resident())
"""


def growth(total: int, words: int, threads: int) -> int:
    """Returns by how many bytes resident memory grows with all questions but the first 200."""
    arguments = [sys.executable, "-c", asking, str(total), str(words), str(threads)]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    before, after = map(int, ran.stdout.split())
    return after - before


@pytest.mark.slow
@pytest.mark.many(3)
@pytest.mark.parametrize(("total", "words", "threads"), [(600, 10, 2), (2000, 3, 4), (600, 60, 1)])
def test_distinct_prompts(total: int, words: int, threads: int) -> None:
    """Distinct prompts leave no memory behind with the default configuration, one by one or together."""
    assert growth(total, words, threads) < 5 * 2**20


@pytest.mark.parametrize("kept", [None, 0, 3])
def test_unbounded_cache(kept: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A prefix cache that mistral.rs does not bound causes a warning."""
    model = tiny_models.llama(tmp_path / "tiny")
    with (
        caplog.at_level(logging.WARNING, logger="dynamo_llm"),
        Runtime(model=model, options={} if kept is None else {"prefix_cache_n": kept}) as runtime,
    ):
        assert runtime.complete("hello", max_tokens=1).result().usage is not None
    assert ("prefix_cache_n" in caplog.text) is bool(kept)

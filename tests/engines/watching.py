# SPDX-License-Identifier: Apache-2.0
"""An engine that loads, prefills and decodes until the program around it has gone on: it fails if that stands
still for ten seconds."""

import time
from typing import Any

# How often each part of the program has turned so far; the test counts.
turns: dict[str, int] = {}


def watch(work: str) -> None:
    before = dict(turns)
    assert before, "the test counts nothing"
    end = time.monotonic() + 10
    while not all(turns[name] > before[name] + 3 for name in before):
        if time.monotonic() > end:
            raise TimeoutError(f"during {work}, the program went from {before} to {turns}")
        time.sleep(0.001)


class Threaded:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None:
        watch("load")

    def generate(self, request: Any) -> Any:
        watch("prefill")
        for number in range(3):
            yield {"text": f"{number} "}
            watch("decode")

    def stop(self) -> None: ...

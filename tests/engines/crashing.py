# SPDX-License-Identifier: Apache-2.0
"""An engine that ends or hangs its process. The prompt is ``HOW COUNT``: COUNT words, then that."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from typing import Any


def spin_with_the_gil() -> None:
    """Wait in C, without giving up the GIL."""
    ctypes.PyDLL(None).sleep(3600)


def end(how: str) -> None:
    """End or hang this process."""
    if how == "abort":
        os.abort()
    elif how == "segfault":
        ctypes.string_at(8)
    elif how == "exit":
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        os._exit(3)
    elif how == "libc-exit":
        ctypes.CDLL(None).exit(4)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "block":
        time.sleep(3600)  # on the loop
    elif how == "spin":
        spin_with_the_gil()
    elif how == "memory":
        _taken.append(bytearray(1 << 40))


_taken: list[bytearray] = []


class Crashing:
    """Options: "at_start" does something while it loads; "marks" is a file with a byte for each start."""

    def __init__(self, config: Any) -> None:
        self.options = config.options

    def start(self) -> None:
        if marks := self.options.get("marks"):
            with open(marks, "ab") as file:
                file.write(b".")
        end(self.options.get("at_start", ""))
        if (limit := self.options.get("starts")) and os.path.getsize(self.options["marks"]) > limit:
            raise RuntimeError("it starts no more")

    def stop(self) -> None:
        end(self.options.get("at_stop", ""))

    async def generate(self, request: Any) -> Any:
        how, _, count = request.body["prompt"].partition(" ")
        for number in range(int(count or 0)):
            yield {"text": f"{number} ", "token_ids": [number]}
            if how in ("slow", "random"):
                await asyncio.sleep(0.001)
        if how == "pid":
            yield {"text": str(os.getpid())}
        elif how == "raise":
            raise ValueError("it is wrong")
        elif how == "exit-python":
            raise SystemExit(5)
        await asyncio.sleep(0.1)  # what was said leaves the process
        end(how)
        yield {"usage": {"prompt_tokens": 1, "completion_tokens": int(count or 0)}}

# SPDX-License-Identifier: Apache-2.0
"""The baseline for the drains: a program in Python that reads the same engine's generators, with a task for
each.

    python benchmarks/python_drain.py CLASS PROMPT STREAMS

It is controlled in the same way as the programs in C (c/bench.h).
"""

import asyncio
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

from engines import tokens


async def drain(engine: Any, prompt: str) -> int:
    """Reads one answer. Returns the count."""
    count = 0
    request = SimpleNamespace(body={"prompt": prompt})
    async for chunk in engine.generate(request):
        count += len(chunk["token_ids"])
    return count


async def drain_all(engine: Any, prompt: str, streams: int) -> int:
    """Reads several answers at the same time. Returns the total count."""
    if streams == 1:
        return await drain(engine, prompt)
    return sum(await asyncio.gather(*(drain(engine, prompt) for _ in range(streams))))


def main(kind: str, prompt: str, streams: str) -> None:
    """Runs a round for each line of stdin."""
    engine = getattr(tokens, kind)(None)
    loop = asyncio.new_event_loop()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        count = loop.run_until_complete(drain_all(engine, prompt, int(streams)))
        print(json.dumps({"tokens": count, "seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

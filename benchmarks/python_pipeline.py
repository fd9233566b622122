# SPDX-License-Identifier: Apache-2.0
"""The baseline for token-level engines: a program in Python that reads the same engine's generators, decodes
the tokens with ``DecodeStream`` of the library ``tokenizers``, and looks for stop strings.

    python benchmarks/python_pipeline.py CLASS BODY STREAMS

It is controlled in the same way as the programs in C (c/bench.h).
"""

import asyncio
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

from dynamo_llm.paths import demo_model_dir
from engines import token_level
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

core = Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json"))


async def drain(engine: Any, body: dict[str, Any]) -> int:
    """Reads one answer. Returns the number of its tokens."""
    stops = body["stop"]
    longest = max(map(len, stops))
    stream = DecodeStream(skip_special_tokens=True)
    count, end = 0, ""
    async for chunk in engine.generate(SimpleNamespace(max_tokens=body["max_tokens"])):
        for id in chunk["token_ids"]:
            count += 1
            text = stream.step(core, id)
            if text is None:  # a part of a code point
                continue
            end = end[-longest:] + text
            if any(stop in end for stop in stops):
                return count
    return count


async def drain_all(engine: Any, body: dict[str, Any], streams: int) -> int:
    """Reads several answers at the same time. Returns the total count."""
    return sum(await asyncio.gather(*(drain(engine, body) for _ in range(streams))))


def main(kind: str, body: str, streams: str) -> None:
    """Runs a round for each line of stdin."""
    engine = getattr(token_level, kind)(None)
    loop = asyncio.new_event_loop()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        count = loop.run_until_complete(drain_all(engine, json.loads(body), int(streams)))
        print(json.dumps({"tokens": count, "seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""Answers to many questions at once with asyncio, no thread for any: many.py "configuration" "question"...

    python many.py '{}' "What is a KV cache?" "What is prefill?" "What is decode?"

Each piece of an answer is printed with the number of its question. Ctrl-C cancels them all.
"""

import asyncio
import sys

import dynamo_llm


async def answer(runtime: dynamo_llm.Runtime, number: int, question: str) -> None:
    """Print the pieces of an answer as they come."""
    with runtime.chat(question) as request:
        try:
            async for response in request:
                print(f"{number}: {response.text}", flush=True)
        except asyncio.CancelledError:
            print(f"{number}: (cancelled)", flush=True)
            raise


async def main(config: str, *questions: str) -> None:
    """Ask all questions at once."""
    async with await dynamo_llm.Runtime.open(config) as runtime:
        await asyncio.gather(*(answer(runtime, number, q) for number, q in enumerate(questions, 1)))


try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(130)
except dynamo_llm.DynamoError as error:
    sys.exit(f"many: {error.message}")

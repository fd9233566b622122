# SPDX-License-Identifier: Apache-2.0
"""stream CONFIG BODY...: the same as stream.c, in Python, and with the requests awaited instead of iterated
if CONFIG is preceded by --await."""

import asyncio
import faulthandler
import json
import sys
from typing import Any

import dynamo_llm
from dynamo_llm import DynamoError, Response, Runtime

names = {number: name for name, number in dynamo_llm._core.STATUSES.items()}


async def responses_of(runtime: Runtime, body: Any, is_async: bool) -> tuple[list[Response], int]:
    """All responses, and the status that ended the request."""
    responses: list[Response] = []
    try:
        request = runtime.request(body)
        if is_async:
            async for response in request:
                responses.append(response)
        else:
            for response in request:
                responses.append(response)
    except DynamoError as error:
        return responses, error.status
    return responses, request.status


def show(responses: list[Response], status: int) -> str:
    completion = dynamo_llm.Completion(responses)
    text = ""
    for choice in completion.choices if responses else []:
        ids = "".join(f" {token}" for token in choice.token_ids)
        text += f"choice {choice.index}\nids{ids}\n"
        text += f"text {len(choice.text.encode())} {choice.text}\nreason {choice.finish_reason or 'none'}\n"
    if (usage := completion.usage) is not None:
        text += f"usage {usage.prompt_tokens} {usage.completion_tokens} {usage.cached_tokens}\n"
    return text + f"status {names[status]}\n\n"


async def main(config: str, bodies: list[str], is_async: bool) -> None:
    async with await Runtime.open(config) as runtime:
        for body in bodies:
            answer = await responses_of(runtime, json.loads(body), is_async)
            sys.stdout.buffer.write(show(*answer).encode())


faulthandler.dump_traceback_later(100, exit=True)
is_awaited = sys.argv[1] == "--await"
arguments = sys.argv[2 if is_awaited else 1 :]
asyncio.run(main(arguments[0], arguments[1:], is_awaited))

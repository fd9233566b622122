# SPDX-License-Identifier: Apache-2.0
"""Sends a chat and prints the answer while it streams."""

from time import perf_counter
from typing import Any

from dynamo_llm import Runtime
from dynamo_llm.cli import output
from dynamo_llm.cli.timing import Timing

Message = dict[str, str]


def print_answer(
    runtime: Runtime, messages: list[Message], sampling: dict[str, Any], parts: list[str] | None = None
) -> Timing:
    """Sends a chat and prints the answer as it comes. Blocks until its end.

    :param sampling: more keys of the request's body.
    :param parts: receives the parts of the answer, also those before an error.
    :raises DynamoError: the error that ended the request, after what came before was printed.
    """
    parts = [] if parts is None else parts
    timing = Timing()
    try:
        with runtime.chat(messages, **sampling) as request:
            for response in request:
                timing.note(response)
                parts.append(response.text)
                output.write(response.text)
        timing.end = perf_counter()
    finally:
        # What is printed next, also an error, starts on a line of its own.
        if any(parts) and not parts[-1].endswith("\n"):
            output.write("\n")
    return timing

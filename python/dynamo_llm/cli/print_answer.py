# SPDX-License-Identifier: Apache-2.0
"""Loads a model, sends a request, and prints the answer while it streams."""

import sys
from time import perf_counter
from typing import Any

from dynamo_llm import Runtime
from dynamo_llm.cli import output, runtime_options
from dynamo_llm.cli.answer_printer import AnswerPrinter, printer
from dynamo_llm.cli.timing import Timing


def load(config: dict[str, Any], engine: runtime_options.Engine | None, model: str | None) -> Runtime:
    """Loads a model, and shows on a terminal that it does."""
    with output.spinner("Loading the model ...") as show:
        return Runtime(config, engine=engine, model=model, progress=show)


def sampling(max_tokens: int | None, temperature: float | None) -> dict[str, Any]:
    """Returns those keys of a request's body that were given."""
    given = {"max_tokens": max_tokens, "temperature": temperature}
    return {key: value for key, value in given.items() if value is not None}


def answer(runtime: Runtime, body: dict[str, Any], as_json: bool, is_plain: bool) -> None:
    """Sends a chat or a completion, and prints the answer, or its chunks as lines of JSON, as it comes.
    Blocks until its end.

    :raises DynamoError: the error that ended the request, after what came before was printed.
    """
    if as_json:
        for response in runtime.request(body):
            output.write_json(response.json())
        return
    timing = print_answer(runtime, body, printer(is_plain))
    if sys.stdout.isatty() and sys.stderr.isatty():
        output.console(stderr=True).print(timing.summary(), style="dim")


def print_answer(
    runtime: Runtime, body: dict[str, Any], to: AnswerPrinter, parts: list[str] | None = None
) -> Timing:
    """Sends a chat or a completion, and prints the answer as it comes. Blocks until its end.

    :param parts: receives the parts of the answer, also those before an error.
    :raises DynamoError: the error that ended the request, after what came before was printed.
    """
    parts = [] if parts is None else parts
    timing = Timing()
    try:
        with runtime.request(body) as request:
            for response in request:
                timing.note(response)
                parts.append(response.text)
                to.write(response.text)
        timing.end = perf_counter()
    finally:
        to.finish()
    return timing

# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm complete``: continues a text."""

from typing import Any

import click

from dynamo_llm.cli import output, prompt_text, runtime_options
from dynamo_llm.cli.print_answer import answer, load, sampling


@click.command()
@runtime_options.options
@click.option(
    "--max-tokens", type=click.IntRange(min=1), metavar="N", help="Length limit of the answer, in tokens."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), metavar="X", help="Sampling temperature; 0 is greedy."
)
@click.option(
    "--stop", multiple=True, metavar="TEXT", help="Text that ends the answer; may be given several times."
)
@output.json_option("Print each response as one line of JSON, an OpenAI chunk.")
@click.argument("prompt", required=False)
@click.pass_context
def complete(
    context: click.Context,
    config: dict[str, Any],
    engine: runtime_options.Engine | None,
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    stop: tuple[str, ...],
    as_json: bool,
    prompt: str | None,
) -> None:
    """Continue PROMPT as it is, without a chat template, and print the continuation.

    The prompt is read from standard input if PROMPT is "-" or missing.
    """
    body = {"prompt": prompt_text.read(prompt, "PROMPT", context), **sampling(max_tokens, temperature)}
    if stop:
        body["stop"] = [runtime_options.utf8(one, "--stop") for one in stop]
    with load(config, engine, model) as runtime:
        answer(runtime, body, as_json, is_plain=True)

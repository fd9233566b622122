# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm chat``: answers one prompt, or holds a conversation."""

import sys
from typing import Any

import click

from dynamo_llm.cli import output, prompt_text, runtime_options
from dynamo_llm.cli.print_answer import answer, load, sampling


@click.command()
@runtime_options.options
@click.option("--system", metavar="TEXT", help="System message, which tells the model how to answer.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), metavar="N", help="Length limit of the answer, in tokens."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), metavar="X", help="Sampling temperature; 0 is greedy."
)
@click.option(
    "--plain", is_flag=True, help="Print answers as they are; on a terminal they are rendered as Markdown."
)
@click.option(
    "--no-history", is_flag=True, help="Do not keep what is typed in a conversation for later runs."
)
@output.json_option("With a PROMPT: print each response as one line of JSON, an OpenAI chunk.")
@click.argument("prompt", required=False)
@click.pass_context
def chat(
    context: click.Context,
    config: dict[str, Any],
    engine: runtime_options.Engine | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    plain: bool,
    no_history: bool,
    as_json: bool,
    prompt: str | None,
) -> None:
    """Answer PROMPT; without one, hold a conversation.

    The prompt is read from standard input if PROMPT is "-", or if PROMPT is missing and standard input is not
    a terminal.
    """
    settings = sampling(max_tokens, temperature)
    messages = [{"role": "system", "content": runtime_options.utf8(system, "--system")}] if system else []
    if prompt is None and sys.stdin.isatty():
        if as_json or not sys.stdout.isatty():
            raise click.UsageError(
                "a conversation needs a terminal, and cannot be printed as JSON; give a PROMPT", context
            )
        from dynamo_llm.cli import terminal_input
        from dynamo_llm.cli.conversation import Conversation

        with terminal_input.held():
            runtime = load(config, engine, model)
        with runtime:
            Conversation(runtime, messages, settings, plain, not no_history).run()
        return
    messages.append({"role": "user", "content": prompt_text.read(prompt, "PROMPT", context)})
    with load(config, engine, model) as runtime:
        answer(runtime, {"messages": messages, **settings}, as_json, plain)

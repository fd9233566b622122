# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm chat``: answers one prompt, or holds a conversation."""

import sys
from typing import Any

import click

from dynamo_llm import Runtime
from dynamo_llm.cli import output, runtime_options
from dynamo_llm.cli.print_answer import print_answer


@click.command()
@runtime_options.options
@click.option("--system", metavar="TEXT", help="System message, which tells the model how to answer.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), metavar="N", help="Length limit of the answer, in tokens."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), metavar="X", help="Sampling temperature; 0 is greedy."
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
    as_json: bool,
    prompt: str | None,
) -> None:
    """Answer PROMPT; without one, hold a conversation.

    The prompt is read from standard input if PROMPT is "-", or if PROMPT is missing and standard input is not
    a terminal.
    """
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    messages = [{"role": "system", "content": runtime_options.utf8(system, "--system")}] if system else []
    if prompt is None and sys.stdin.isatty():
        if as_json or not sys.stdout.isatty():
            raise click.UsageError(
                "a conversation needs a terminal, and cannot be printed as JSON; give a PROMPT", context
            )
        from dynamo_llm.cli.conversation import Conversation

        with _load(config, engine, model) as runtime:
            Conversation(runtime, messages, sampling).run()
        return
    text = _read_stdin() if prompt in (None, "-") else runtime_options.utf8(prompt or "", "PROMPT")
    if not text.strip():
        raise click.UsageError("the prompt is empty", context)
    messages.append({"role": "user", "content": text})
    with _load(config, engine, model) as runtime:
        if as_json:
            for response in runtime.chat(messages, **sampling):
                output.write_json(response.json())
            return
        timing = print_answer(runtime, messages, sampling)
        if sys.stdout.isatty() and sys.stderr.isatty():
            output.console(stderr=True).print(timing.summary(), style="dim")


def _load(config: dict[str, Any], engine: runtime_options.Engine | None, model: str | None) -> Runtime:
    with output.spinner("Loading the model ...") as show:
        return Runtime(config, engine=engine, model=model, progress=show)


def _read_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt on standard input is not UTF-8 at byte {error.start}") from None

# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm chat``: one question, or a conversation."""

import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from dynamo_llm.cli import output, settings
from dynamo_llm.cli.timing import Timing

if TYPE_CHECKING:
    from dynamo_llm import Runtime

Message = dict[str, str]


@click.command()
@settings.runtime_options
@click.option("--system", metavar="TEXT", help="System message: how the model shall answer.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(min=0), metavar="X", help="0 takes the likeliest token.")
@output.json_option("With a PROMPT: print each response as a line of JSON, OpenAI's chunk.")
@click.argument("prompt", required=False)
@click.pass_context
def chat(
    context: click.Context,
    config: dict[str, Any],
    engine: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
    prompt: str | None,
) -> None:
    """Answer PROMPT; without one, hold a conversation.

    With "-" as PROMPT, and where input is no terminal, the prompt is read from there.
    """
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    messages = [{"role": "system", "content": settings.utf8(system, "--system")}] if system else []
    if prompt is None and sys.stdin.isatty():
        if as_json or not sys.stdout.isatty():
            raise click.UsageError("a conversation needs a terminal; give a PROMPT", context)
        from dynamo_llm.cli.conversation import Conversation

        with _load(config, engine, model) as runtime:
            Conversation(runtime, messages, sampling).run()
        return
    text = _read_stdin() if prompt in (None, "-") else settings.utf8(prompt or "", "PROMPT")
    if not text.strip():
        raise click.UsageError("the prompt is empty", context)
    messages.append({"role": "user", "content": text})
    with _load(config, engine, model) as runtime:
        if as_json:
            for response in runtime.chat(messages, **sampling):
                output.write_json(response.json())
            return
        timing = say(runtime, messages, sampling)[1]
        if sys.stdout.isatty() and sys.stderr.isatty():
            output.console(stderr=True).print(timing.summary(), style="dim")


def say(
    runtime: "Runtime", messages: list[Message], sampling: dict[str, Any], said: list[str] | None = None
) -> tuple[str, Timing]:
    """Ask, and print the answer as it comes.

    :param said: gets the parts of the answer, for callers that want those before an error.
    """
    said = [] if said is None else said
    timing = Timing()
    try:
        with runtime.chat(messages, **sampling) as request:
            for response in request:
                timing.note(response)
                said.append(response.text)
                output.write(response.text)
        timing.end = perf_counter()
    finally:
        # What follows, be it an error, starts on a line of its own.
        if any(said) and not "".join(said[-1:]).endswith("\n"):
            output.write("\n")
    return "".join(said), timing


def _load(config: dict[str, Any], engine: str | None, model: str | None) -> "Runtime":
    with output.spinner("Loading the model ..."):
        return settings.start(config, engine, model)


def _read_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt on standard input is not UTF-8 at byte {error.start}") from None

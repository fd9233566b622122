# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm tokenize``: shows how a model's tokenizer splits a text."""

import json
import re

import click

from dynamo_llm import Tokenizer
from dynamo_llm.cli import output, prompt_text
from dynamo_llm.printable import one_line


@click.command()
@click.option(
    "--model", metavar="PATH", help="Folder with tokenizer.json, or that file. Default: the demo model."
)
@click.option("--ids", is_flag=True, help="The TEXTs are token ids; print the text that they stand for.")
@click.option(
    "--no-special", is_flag=True, help="Do not add special tokens, such as BOS; leave them out of a text."
)
@output.json_option('Print {"ids": [...], "pieces": [...]}, or {"text": ...} with --ids.')
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.pass_context
def tokenize(
    context: click.Context,
    model: str | None,
    ids: bool,
    no_special: bool,
    as_json: bool,
    texts: tuple[str, ...],
) -> None:
    """Print the token ids of TEXT, and the piece of text of each, one token on a line.

    The text is read from standard input if TEXT is "-" or missing. A token that ends within a character has
    an empty piece; the piece of the last token of the character has it whole.
    """
    if len(texts) > 1 and not ids:
        raise click.UsageError(f"give one TEXT, in quotes; there are {len(texts)}", context)
    text = prompt_text.read(" ".join(texts) if texts else None, "TEXT", context)
    numbers = _ids_of(text) if ids else []
    with output.spinner("Loading the tokenizer ..."):
        tokenizer = Tokenizer(model=model)
    with tokenizer:
        if ids:
            decoded = tokenizer.decode(numbers, skip_special_tokens=no_special)
            if as_json:
                output.write_json({"text": decoded})
            else:
                output.write_line(decoded)
            return
        numbers = tokenizer.encode(text, add_special_tokens=not no_special)
        stream = tokenizer.detokenizer(skip_special_tokens=False)
        pieces = [stream.add(number) for number in numbers]
        if pieces:
            pieces[-1] += stream.finish()
    if as_json:
        output.write_json({"ids": numbers, "pieces": pieces})
        return
    lines = (f"{number:>7}  {_quoted(piece)}\n" for number, piece in zip(numbers, pieces, strict=True))
    output.write("".join(lines))


def _quoted(piece: str) -> str:
    return one_line(json.dumps(piece, ensure_ascii=False))


def _ids_of(text: str) -> list[int]:
    """Reads ids separated by spaces, commas, or newlines; brackets of a JSON list are ignored."""
    words = re.split(r"[\s,]+", text.strip().strip("[]").strip())
    for word in words:
        if not re.fullmatch(r"[0-9]{1,10}", word):
            raise click.UsageError(f'"{word}" is not a token id; give numbers such as --ids 17 4 92')
    return [int(word) for word in words]

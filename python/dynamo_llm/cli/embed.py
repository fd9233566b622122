# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm embed``: computes vectors of texts."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from dynamo_llm.cli import output, runtime_options
from dynamo_llm.cli.print_answer import load

#: Texts in one request. Output starts after the first, and memory is bounded, however long the input is.
_batch = 64


@click.command()
@runtime_options.options
@click.option(
    "--dimensions",
    type=click.IntRange(min=1),
    metavar="N",
    help="Numbers in each vector, for models that were trained for shorter ones.",
)
@output.json_option("Print each vector as one line of JSON, an OpenAI embedding.")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
def embed(
    config: dict[str, Any],
    engine: runtime_options.Engine | None,
    model: str | None,
    dimensions: int | None,
    as_json: bool,
    texts: tuple[str, ...],
) -> None:
    """Print the embedding vector of each TEXT, one on a line, its numbers separated by spaces.

    Without a TEXT, or for "-", each line of standard input that is not empty is a text. The model must be an
    embedding model.
    """
    source = _lines() if texts in ((), ("-",)) else iter(runtime_options.utf8(one, "TEXT") for one in texts)
    batch = list(islice(source, _batch))
    if not batch:
        raise click.UsageError("there is no text: give one, or lines on standard input")
    index = 0
    with load(config, engine, model) as runtime:
        while batch:
            vectors = runtime.embed(batch, dimensions=dimensions).result().vectors
            for vector in vectors:
                if as_json:
                    output.write_json({"object": "embedding", "index": index, "embedding": vector})
                else:
                    output.write_line(" ".join(map(repr, vector)))
                index += 1
            batch = list(islice(source, _batch))


def _lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode().strip("\r\n")
        except UnicodeDecodeError as error:
            raise click.UsageError(
                f"line {number} of standard input is not UTF-8 at byte {error.start}"
            ) from None
        if text.strip():
            yield text

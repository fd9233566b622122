# SPDX-License-Identifier: Apache-2.0
"""Reads texts from the command line or standard input."""

import sys

import click

from dynamo_llm.cli import runtime_options


def read(argument: str | None, name: str, context: click.Context) -> str:
    """Returns an argument; for "-" or a missing one the text on standard input.

    :param name: the argument's name, for errors.
    :raises click.UsageError: the text is empty or not UTF-8.
    """
    if argument in (None, "-"):
        data = sys.stdin.buffer.read()
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise click.UsageError(
                f"the {name.lower()} on standard input is not UTF-8 at byte {error.start}"
            ) from None
    else:
        text = runtime_options.utf8(argument or "", name)
    if not text.strip():
        raise click.UsageError(f"the {name.lower()} is empty", context)
    return text

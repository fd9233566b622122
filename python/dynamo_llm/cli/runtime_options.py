# SPDX-License-Identifier: Apache-2.0
"""The options of commands that create a runtime, and values of the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def json_object(_context: click.Context, _parameter: click.Parameter, value: str) -> dict[str, Any]:
    """Parses an option's value: a JSON object, if it starts with "{"; otherwise a file with one."""
    text, place = value, "the value"
    if not value.lstrip().startswith("{"):
        place = f'the file "{value}"'
        try:
            text = Path(value).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(
                f"{place} cannot be read: {error.strerror}. Give a file with a JSON object, or the object "
                f'itself, such as {{"engine": "echo"}}.'
            ) from error
        except UnicodeDecodeError as error:
            raise click.BadParameter(f"{place} is not UTF-8 at byte {error.start}.") from error
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{place} is not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise click.BadParameter(f'{place} is not a JSON object, such as {{"engine": "echo"}}.')
    return parsed


def options(command: Command) -> Command:
    """The options ``--config``, ``--engine`` and ``--model``."""
    for option in (
        click.option(
            "--model", metavar="PATH", help="Folder or .gguf file of the model; overrides --config."
        ),
        click.option(
            "--engine", metavar="NAME", help="Engine, such as mistralrs or echo; overrides --config."
        ),
        click.option(
            "--config",
            metavar="JSON_OR_FILE",
            callback=json_object,
            default="{}",
            help='Configuration: a JSON object, or a file with one. Default: "{}", the demo model.',
        ),
    ):
        command = option(command)
    return command


def utf8(text: str, name: str) -> str:
    """Checks that an argument of the command line is UTF-8; Python accepts other bytes, too, and escapes
    them.

    :raises click.UsageError: it is not.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"{name} is not UTF-8") from None
    return text

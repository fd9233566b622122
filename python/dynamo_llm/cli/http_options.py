# SPDX-License-Identifier: Apache-2.0
"""The options of ``dynamo-llm serve --http``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dynamo_llm.server import api_keys
from dynamo_llm.server.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_seconds = click.FloatRange(min=0, min_open=True)
_usual = Settings()


def _limit(name: str, metavar: str, kind: Any, help_text: str) -> Callable[[Command], Command]:
    """An option with the name and the default of a limit in :class:`Settings`."""
    default = getattr(_usual, name)
    option = "--" + name.replace("_", "-")
    return click.option(
        option, name, metavar=metavar, type=kind, default=default, show_default=True, help=help_text
    )


_options = (
    click.option(
        "--http",
        metavar="HOST:PORT",
        help="Serve OpenAI's endpoints over HTTP at this address, such as 127.0.0.1:8000. The following "
        "options require it.",
    ),
    click.option(
        "--api-key-env", metavar="NAME", help="Environment variable with the key that requests must have."
    ),
    click.option(
        "--api-key-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="File with keys, one on each line; requests must have one of them.",
    ),
    click.option(
        "--cors-origin",
        "cors_origins",
        metavar="ORIGIN",
        multiple=True,
        help="Origin whose pages may use the server from a browser, such as https://example.com, or * for "
        "all. May be repeated.",
    ),
    _limit("max_body", "BYTES", click.IntRange(min=1), "Length limit of a request's body."),
    _limit(
        "max_requests",
        "COUNT",
        click.IntRange(min=1),
        "Requests served at a time; further ones get HTTP 429.",
    ),
    _limit("header_timeout", "SECONDS", _seconds, "How long the header of a request may take to arrive."),
    _limit("body_timeout", "SECONDS", _seconds, "How long the body of a request may take to arrive."),
    _limit(
        "idle_timeout",
        "SECONDS",
        click.IntRange(min=1),
        "How long a connection without a request stays open.",
    ),
    _limit(
        "write_timeout",
        "SECONDS",
        _seconds,
        "How long a client may read nothing before its request is cancelled.",
    ),
)


def options(command: Command) -> Command:
    """Adds the options to a command."""
    for option in reversed(_options):
        command = option(command)
    return command


def refuse(context: click.Context, names: tuple[str, ...], reason: str) -> None:
    """Raises a usage error if one of the parameters was given.

    :param reason: what is wrong with giving it.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{parameter.opts[0]} {reason}", context)


def settings(
    api_key_env: str | None, api_key_file: Path | None, cors_origins: tuple[str, ...], **limits: Any
) -> Settings:
    """Returns the settings for the values of the options other than ``--http``.

    :raises InvalidConfigError: a key cannot be read.
    """
    keys = [] if api_key_env is None else [api_keys.key_of_variable(api_key_env)]
    keys += [] if api_key_file is None else api_keys.keys_of_file(api_key_file)
    for origin in cors_origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise click.UsageError(
                f'"{origin}" is not an origin; give scheme, host and port, such as https://example.com, or *'
            )
    return Settings(tuple(keys), cors_origins, **limits)

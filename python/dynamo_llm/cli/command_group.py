# SPDX-License-Identifier: Apache-2.0
"""The group of commands: its exit codes, and errors as text or JSON."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from dynamo_llm import quiet_start
from dynamo_llm.cli import output
from dynamo_llm.errors import DynamoError
from dynamo_llm.printable import printable

FAILED = 1
INTERRUPTED = 130
"""The exit code that a shell reports for a program ended by SIGINT."""
BROKEN_PIPE = 141
"""The exit code that a shell reports for a program ended by SIGPIPE."""


def describe(error: DynamoError) -> dict[str, Any]:
    """Returns an error as the object that ``dynamo_last_error_json()`` describes."""
    return error.details or {"status": error.status, "name": error.status_name, "message": error.message}


@contextmanager
def _safe_usage() -> Iterator[None]:
    """Escapes usage errors for the terminal: they repeat arguments and file names."""
    try:
        yield
    except click.ClickException as error:
        text = printable(error.format_message())
        error.format_message = lambda: text  # type: ignore[method-assign]
        raise


class CommandGroup(click.Group):
    """A group whose commands end with the exit codes of docs/cli.md. (Wrong usage is click's code, 2.)"""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parses the options before the command."""
        with _safe_usage():
            return super().make_context(*args, **more)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands, with whole sentences; click's list cuts them at the width of the terminal."""
        commands = ((name, self.get_command(context, name)) for name in self.list_commands(context))
        rows = [(name, one.get_short_help_str(limit=10_000)) for name, one in commands if one is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        try:
            quiet_start.end()
            with _safe_usage():
                result = super().invoke(context)
            sys.stdout.flush()
            return result
        except DynamoError as error:
            if output.wants_json(context):
                output.write_json({"error": describe(error)})
            else:
                output.write_error(str(error))
            context.exit(FAILED)
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)
        except OSError as error:
            # Python would try to write its buffer again at exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                context.exit(BROKEN_PIPE)
            output.write_error(str(error))
            context.exit(FAILED)

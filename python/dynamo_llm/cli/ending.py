# SPDX-License-Identifier: Apache-2.0
"""How the command ends: exit codes, and errors as text or JSON."""

import os
import sys
from typing import Any

import click

from dynamo_llm.cli import output
from dynamo_llm.errors import DynamoError

FAILED = 1
INTERRUPTED = 130
"""As a shell counts a program that SIGINT ended."""
BROKEN_PIPE = 141
"""The same for SIGPIPE."""


def describe(error: DynamoError) -> dict[str, Any]:
    """An error as JSON: the object that ``dynamo_last_error_json()`` describes."""
    return error.details or {
        "status": error.status,
        "name": error.status_name,
        "message": error.message,
    }


class Ending(click.Group):
    """A group whose commands end with the exit codes of docs/cli.md. (Wrong usage is click's: 2.)"""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was named."""
        try:
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
            # What is still in Python's buffer cannot be written either, and would be tried again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                context.exit(BROKEN_PIPE)
            output.write_error(str(error))
            context.exit(FAILED)

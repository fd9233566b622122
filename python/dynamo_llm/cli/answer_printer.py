# SPDX-License-Identifier: Apache-2.0
"""Prints an answer while it streams."""

import sys
from typing import Protocol

from dynamo_llm.cli import output


class AnswerPrinter(Protocol):
    """Prints the parts of one answer."""

    def write(self, text: str) -> None:
        """Prints more of the answer."""

    def finish(self) -> None:
        """Ends the answer. What is printed next starts on a line of its own."""


class PlainPrinter:
    """Prints an answer as it is, except for control characters."""

    def __init__(self) -> None:
        self._has_line_end = True

    def write(self, text: str) -> None:
        """Prints more of the answer."""
        if text:
            output.write(text)
            self._has_line_end = text.endswith("\n")

    def finish(self) -> None:
        """Ends the line, if it has not ended."""
        if not self._has_line_end:
            output.write("\n")
            self._has_line_end = True


def printer(is_plain: bool) -> AnswerPrinter:
    """Returns a printer for an answer on standard output: of Markdown on a terminal that can move its cursor,
    unless it is to be plain.
    """
    if is_plain or not sys.stdout.isatty():
        return PlainPrinter()
    console = output.console()
    if console.is_dumb_terminal:
        return PlainPrinter()
    from dynamo_llm.cli.markdown_printer import MarkdownPrinter

    return MarkdownPrinter(console)

# SPDX-License-Identifier: Apache-2.0
"""Prints text, JSON, errors, and progress to the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dynamo_llm.printable import dump_json, printable

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

_META = "dynamo_llm.json"


def json_option(help_text: str) -> Callable[[Command], Command]:
    """The option ``--json``. With it, errors are printed as JSON, too."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
        context.meta[_META] = value
        return value

    return click.option("--json", "as_json", is_flag=True, callback=remember, help=help_text)


def wants_json(context: click.Context) -> bool:
    """Whether the command was given ``--json``."""
    return bool(context.meta.get(_META, False))


def write_json(value: Any, indent: int | None = None) -> None:
    """Prints JSON on one line, or on several with an indent; in UTF-8 whatever the locale."""
    click.echo(dump_json(value, indent).encode())


def write(text: str) -> None:
    """Prints text and flushes. Characters that the terminal's encoding lacks become "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(printable(text).encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def write_line(text: str) -> None:
    """Prints a line, escaped for the terminal: it may contain names of models, servers, and files."""
    write(f"{text}\n")


def write_error(message: str) -> None:
    """Prints a message to stderr, escaped for the terminal."""
    click.echo(f"dynamo-llm: {printable(message)}", err=True)


def console(stderr: bool = False) -> "Console":
    """Returns Rich's console: styles on a terminal only, colors unless NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Shows a spinner while the block runs, if stderr is a terminal. Yields a function that changes its
    text.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    with console(stderr=True).status(text) as status:
        yield lambda text: status.update(printable(text))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar meanwhile, if stderr is a terminal. Yields a function that advances it by one."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def byte_progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """Shows a progress bar meanwhile, with the time that is left, if stderr is a terminal.

    :param total: bytes; 0 if unknown.
    :returns: a function that advances the bar by some bytes, and sets the text before it.
    """
    if not sys.stderr.isatty():
        yield lambda size, text: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total or None)
        yield lambda size, text: bar.update(task, advance=size, description=text)

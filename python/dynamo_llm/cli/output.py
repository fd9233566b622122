# SPDX-License-Identifier: Apache-2.0
"""What the commands print, and where."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

_META = "dynamo_llm.json"

# Control characters but newline and tab: an answer must not be able to drive the terminal.
_control = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n"), ord("\t")}, "\N{REPLACEMENT CHARACTER}")


def json_option(help_text: str) -> Callable[[Command], Command]:
    """The option ``--json``; errors are JSON then, too."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
        context.meta[_META] = value
        return value

    return click.option("--json", "as_json", is_flag=True, callback=remember, help=help_text)


def wants_json(context: click.Context) -> bool:
    """Whether the command that ran had ``--json``."""
    return bool(context.meta.get(_META, False))


def write_json(value: Any, indent: int | None = None) -> None:
    """A line of JSON, or several with an indent: in UTF-8, whatever the locale says."""
    # Lone surrogates have no UTF-8; JSON can escape them.
    try:
        data = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        data = json.dumps(value, indent=indent).encode()
    click.echo(data)


def write(text: str) -> None:
    """Text of an answer, at once; what the terminal's encoding lacks becomes "?"."""
    if sys.stdout.isatty():
        text = printable(text)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def write_error(message: str) -> None:
    """A message on stderr."""
    click.echo(f"dynamo-llm: {printable(message)}", err=True)


def printable(text: str) -> str:
    """Text that cannot drive a terminal."""
    return text.translate(_control)


def console(stderr: bool = False) -> "Console":
    """Rich's console: styles on a terminal only, colours unless NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show, on a terminal's stderr, that something takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(text):
        yield


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show, on a terminal's stderr, how many of several are done; the function counts one more."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)

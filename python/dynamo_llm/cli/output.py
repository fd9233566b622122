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

    from dynamo_llm.api.creation import Progress

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
def spinner(text: str) -> Iterator[Callable[["Progress"], None]]:
    """Shows a spinner while the block runs, if stderr is a terminal.

    :yields: a function that shows the progress of loading a model; a download has a bar.
    """
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich import progress as rich_progress

    columns = (rich_progress.SpinnerColumn(), rich_progress.TextColumn("{task.description}"))
    download_columns = (
        *columns,
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)

        def show(progress: "Progress") -> None:
            is_download = progress.phase == "download" and progress.bytes_done < progress.bytes_total
            bar.columns = download_columns if is_download else columns
            bar.update(
                task,
                description="Downloading the model" if is_download else _text_of(progress),
                completed=progress.bytes_done,
                total=progress.bytes_total or None,
            )

        yield show


def _text_of(progress: "Progress") -> str:
    """Returns the line that shows the progress, such as "Loading the model: weights, 4.1 GB ..."."""
    size = f", {progress.bytes_total / 1e9:.1f} GB" if progress.bytes_total >= 5e7 else ""
    percent = f", {progress.fraction:.0%}" if progress.fraction else ""
    return printable(f"Loading the model: {progress.phase}{size}{percent} ...")


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

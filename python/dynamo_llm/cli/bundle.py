# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm bundle``: copies a program and all that it needs into one folder."""

from pathlib import Path

import click

from dynamo_llm.cli import output


@click.command()
@click.argument("program", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="Model to copy: a folder or file.")
@click.option(
    "--package",
    "more",
    multiple=True,
    metavar="NAME",
    help="Installed Python package to copy with all that it requires, such as torch; may be repeated.",
)
def bundle(program: Path, folder: Path, model: Path | None, more: tuple[str, ...]) -> None:
    """Copy PROGRAM with the library, Python, packages, and a model into FOLDER.

    The folder can be moved to a Linux machine without Python. PROGRAM must be linked with the shared library.
    """
    from dynamo_llm.bundle.bundle import make

    made = make(program, folder, ["dynamo-llm", *more], model, lambda step: click.echo(step, err=True))
    output.write_line(f"{folder}: {made.size / 1e6:.0f} MB")
    output.write_line(f"program: {made.program}")
    if made.model is not None:
        output.write_line(f"model: {made.model}")

# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm models``: lists the models on this machine."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from dynamo_llm import paths
from dynamo_llm.cli import hub_cache, output
from dynamo_llm.cli.checkpoint import Checkpoint, inspect, is_checkpoint, is_later_part
from dynamo_llm.printable import one_line

#: Levels of folders that are searched.
_depth = 5


@click.command()
@output.json_option("Print a list of JSON objects.")
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def models(folders: tuple[Path, ...], as_json: bool) -> None:
    """List models: the demo model, those below FOLDERS, and those in the Hugging Face cache.

    Only headers and JSON files are read; no code and no pickle is loaded. Models that cannot be used are
    listed with the reason.
    """
    found = [inspect(path) for path in _paths(folders)]
    if as_json:
        output.write_json(
            [{**asdict(one), "path": str(one.path.absolute()), "use": _use(one)} for one in found], indent=2
        )
        return
    output.write_line("\n\n".join(_text(one) for one in found))


def _paths(folders: tuple[Path, ...]) -> list[Path]:
    """The paths of all models, without duplicates, in the order found."""
    paths_found = [paths.demo_model_dir()]
    for folder in folders:
        below = list(_below(folder))
        # A folder that was named is listed even if it is not a model, with the reason.
        paths_found += below or [folder]
    for snapshot in hub_cache.snapshots():
        paths_found += list(_below(snapshot)) or [snapshot]
    return list({os.path.abspath(path): path for path in paths_found}.values())


def _below(folder: Path) -> Iterator[Path]:
    """Model folders and GGUF files. Links to folders are not followed: they could form a cycle."""
    for place, names, files in os.walk(folder):
        at = Path(place)
        if is_checkpoint(at):
            yield at
        # The first of several parts stands for all of them.
        yield from (at / name for name in sorted(files) if name.endswith(".gguf") and not is_later_part(name))
        is_deep = len(at.relative_to(folder).parts) >= _depth
        names[:] = [] if is_deep else sorted(name for name in names if not name.startswith("."))


def _use(checkpoint: Checkpoint) -> str | None:
    if checkpoint.problem is not None:
        return None
    if checkpoint.path == paths.demo_model_dir():
        return "dynamo-llm chat"
    command = "embed" if checkpoint.is_embedding else "chat"
    model = hub_cache.name_of(checkpoint.path) or str(checkpoint.path.absolute())
    return f"dynamo-llm {command} --model {shlex.quote(model)}"


def _text(checkpoint: Checkpoint) -> str:
    facts = [
        checkpoint.format,
        checkpoint.architecture,
        checkpoint.is_embedding and "embedding model",
        checkpoint.context_length and f"context of {checkpoint.context_length} tokens",
        checkpoint.bytes and _size(checkpoint.bytes),
    ]
    lines = [
        ", ".join([checkpoint.name, *(fact for fact in facts if fact)]),
        str(checkpoint.path.absolute()),
        _use(checkpoint) or f"cannot be used: {checkpoint.problem}",
    ]
    return "\n  ".join(map(one_line, lines))


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"

# SPDX-License-Identifier: Apache-2.0
"""The options of commands that create a runtime, and values of the command line."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

#: The value of "engine" in a configuration: a name, or an object with a path.
Engine = str | dict[str, str]

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


def engine(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Engine | None:
    """Returns the configuration's "engine" for an option's value: a value with a "/" or the extension of a
    shared library is a path.
    """
    if value is not None and ("/" in value or value.endswith((".so", ".dylib", ".dll"))):
        return {"library": str(Path(value).expanduser())}
    return value


def _engine_names(_context: click.Context, _parameter: click.Parameter, start: str) -> list[str]:
    """Completes the name of an engine in a shell."""
    from dynamo_llm.runtime import registry

    return [name for name in registry.names() if name.startswith(start)]


def _paths(_context: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem]:
    """Lets the shell complete the name of a file or folder."""
    return [CompletionItem(start, type="file")]


def options(command: Command) -> Command:
    """The options ``--config``, ``--engine``, ``--model``, ``--device``, and ``--offline``, which the command
    gets as ``config``, ``engine``, and ``model``.
    """

    @functools.wraps(command)
    def run(
        *arguments: Any,
        config: dict[str, Any],
        engine: str | None,
        model: str | None,
        device: str | None,
        offline: bool,
        **more: Any,
    ) -> Any:
        if offline:
            config = {**config, "offline": True}
        if device is not None:
            config = {**config, "device": utf8(device, "--device")}
        if model is not None:
            model = _configured(utf8(model, "--model"), engine or config.get("engine"))
        return command(*arguments, config=config, engine=engine, model=model, **more)

    decorated: Any = run
    for option in (
        click.option("--offline", is_flag=True, help="Download nothing: the model must be in the cache."),
        click.option(
            "--device",
            metavar="DEVICE",
            help="Where the engine computes: auto, cpu, cuda, cuda:1, metal; overrides --config.",
        ),
        click.option(
            "--model",
            metavar="MODEL",
            shell_complete=_paths,
            help="Folder or .gguf file of the model, or its name on the Hugging Face Hub: org/name, "
            "org/name:Q4_K_M, org/name@revision; overrides --config.",
        ),
        click.option(
            "--engine",
            metavar="NAME_OR_FILE",
            callback=engine,
            shell_complete=_engine_names,
            help="Engine, such as mistralrs or echo, or the path of a shared library with an engine in C, "
            "such as ./libmine.so; overrides --config.",
        ),
        click.option(
            "--config",
            metavar="JSON_OR_FILE",
            shell_complete=_paths,
            callback=json_object,
            default="{}",
            help='Configuration: a JSON object, or a file with one. Default: "{}", the demo model.',
        ),
    ):
        decorated = option(decorated)
    result: Command = decorated
    return result


def _configured(model: str, engine: Any) -> str:
    """Returns a model of the command line as the configuration has it, with ``hf:`` before a name of the
    Hugging Face Hub, if the engine loads such models: for others, ``org/name`` is a name of a server.
    """
    from dynamo_llm.errors import DynamoError
    from dynamo_llm.runtime import registry
    from dynamo_llm.runtime.hub import hub_name, lookup

    name = hub_name.of_argument(model)
    if name == model:
        return model
    try:
        kind = registry.find(engine if isinstance(engine, str) else "mistralrs")
    except DynamoError:  # an engine in C, or a mistake that the runtime reports
        return model
    return name if lookup.formats_of(kind, {}) else model


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

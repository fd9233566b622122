# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm serve --http``: serves a model over HTTP."""

import asyncio
from dataclasses import replace
from typing import Any

import click

from dynamo_llm import DeadlineExceededError, NotSupportedError, Runtime
from dynamo_llm.cli import output
from dynamo_llm.cli.command_group import FAILED, INTERRUPTED, describe
from dynamo_llm.cli.stop_signals import StopSignals
from dynamo_llm.server.address import Address
from dynamo_llm.server.settings import Settings

#: Packages of the extra ``serve``, and what they need.
_packages = ("anyio", "h11", "starlette", "uvicorn")
#: Seconds between two checks for signals.
_interval = 0.1


def serve_http(config: dict[str, Any], listen: str, settings: Settings, drain: float, as_json: bool) -> int:
    """Serves until a signal arrives. Returns the exit code.

    :param config: configuration of the runtime.
    :param listen: HOST:PORT.
    :param drain: seconds for requests in flight after the signal.
    """
    try:
        from dynamo_llm.server.http_server import HttpServer
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _packages:
            raise
        from dynamo_llm.runtime import extras

        raise NotSupportedError(
            f"dynamo-llm serve --http needs the Python packages starlette and uvicorn ({error}); run: "
            f"{extras.install_command('serve')}"
        ) from error

    # First, because a wrong address need not wait for the model.
    address, sockets = Address.parse(listen).bind()
    signals = StopSignals()
    with signals.starting(), output.spinner("Starting") as show:
        runtime = Runtime(config, progress=show)
        models = [model["id"] for model in runtime.models()]
    limits = (config.get("limits") or {}).get("request") or {}  # the runtime has checked their types
    settings = replace(settings, max_values=limits.get("values") or settings.max_values)

    async def serve() -> int:
        server = HttpServer(runtime, settings, sockets, address.is_loopback)
        await server.start()
        _write_start(models, address, settings, as_json)
        while signals.count == 0:
            await asyncio.sleep(_interval)
        if server.in_flight and not as_json:
            what = "request" if server.in_flight == 1 else "requests"
            click.echo(f"{server.in_flight} {what} in flight. Press Ctrl-C again to cancel.", err=True)
        is_drained = await server.stop(drain, lambda: signals.count > 1)
        return _write_end(is_drained, signals.count > 1, drain, as_json)

    with runtime:
        return asyncio.run(serve())


def _write_start(models: list[str], address: Address, settings: Settings, as_json: bool) -> None:
    url = f"{address.url}/v1"
    if not (address.is_loopback or settings.api_keys):
        output.write_error(
            f"warning: everyone who can reach {address.host} can use the model; --api-key-env or "
            f"--api-key-file demands a key"
        )
    if as_json:
        output.write_json({"url": url, "models": models})
        return
    what = f'the model "{models[0]}"' if len(models) == 1 else f"{len(models)} models"
    output.write_line(f"Serving {what} at {url}. Press Ctrl-C to stop.")


def _write_end(is_drained: bool, was_interrupted: bool, drain: float, as_json: bool) -> int:
    """Prints how serving ended. Returns the exit code."""
    if is_drained or was_interrupted:
        if as_json:
            output.write_json({"ended": "drained" if is_drained else "interrupted"})
        return 0 if is_drained else INTERRUPTED
    error = DeadlineExceededError(f"requests were cancelled that had not ended after {drain:g} seconds")
    if as_json:
        output.write_json({"ended": "failed", "error": describe(error)})
    else:
        output.write_error(str(error))
    return FAILED

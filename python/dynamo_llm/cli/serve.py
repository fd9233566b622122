# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm serve``: serves a model to a cluster."""

import os
import signal
import threading
from typing import Any

import click

from dynamo_llm import DynamoError, Worker
from dynamo_llm.cli import output, runtime_options
from dynamo_llm.cli.command_group import FAILED, INTERRUPTED, describe

#: Seconds between two checks for signals.
_interval = 0.1


class _StopError(BaseException):
    """SIGINT or SIGTERM arrived before the worker served."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        """The exit code that a shell reports for a program ended by this signal."""


class _Signals:
    """Counts SIGINT and SIGTERM. Before the worker serves, each raises :class:`_StopError` instead."""

    def __init__(self) -> None:
        self.count = 0
        self.is_serving = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: Any) -> None:
        if not self.is_serving:
            raise _StopError(number)
        self.count += 1


@click.command()
@output.json_option("Print what is served, and later how it ended, as one line of JSON each.")
@runtime_options.options
@click.option(
    "--endpoint",
    metavar="PATH",
    default="backend.generate",
    show_default=True,
    help="Path to serve: namespace.component.endpoint, or component.endpoint in the cluster's namespace.",
)
@click.option(
    "--model-name", metavar="NAME", help="Name that requests give as their model; default: the model's name."
)
@click.option(
    "--cluster",
    metavar="JSON_OR_FILE",
    callback=runtime_options.json_object,
    default="{}",
    help='The cluster; overrides keys of "cluster" in --config. Default: etcd at 127.0.0.1:2379, namespace '
    "dynamo.",
)
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="How long requests in flight may take after a signal to stop.",
)
def serve(
    config: dict[str, Any],
    engine: str | None,
    model: str | None,
    endpoint: str,
    model_name: str | None,
    cluster: dict[str, Any],
    drain: float,
    as_json: bool,
) -> None:
    """Serve a model to a cluster of NVIDIA Dynamo, until Ctrl-C or SIGTERM.

    Then the worker leaves the cluster, and requests in flight run to their end. Pressing Ctrl-C again cancels
    them.
    """
    signals = _Signals()
    runtime = {key: value for key, value in config.items() if key != "cluster"}
    runtime |= {key: value for key, value in (("engine", engine), ("model", model)) if value is not None}
    keys: dict[str, Any] = {
        "endpoint": runtime_options.utf8(endpoint, "ENDPOINT"),
        "runtime": runtime,
        "cluster": {**config.get("cluster", {}), **cluster},
        "model": None if model_name is None else {"name": runtime_options.utf8(model_name, "NAME")},
    }
    try:
        with output.spinner("Starting"):
            worker = Worker(**keys)
            signals.is_serving = True
    except _StopError as stop:
        os._exit(stop.code)  # a normal exit would wait until the model is loaded; there is nothing to flush
    info = worker.info
    if as_json:
        output.write_json(info)
    else:
        what = f'the model "{info["model"]}"' if info.get("model") else "raw requests"
        output.write_line(f"Serving {what} at {info['endpoint']}. Press Ctrl-C to stop.")
    while signals.count == 0 and not worker.wait(_interval):
        pass
    click.get_current_context().exit(_end(worker, drain, signals, as_json))


def _end(worker: Worker, drain: float, signals: _Signals, as_json: bool) -> int:
    """Stops the worker. Returns the exit code."""
    in_flight = worker.info["in_flight"]
    if in_flight and not as_json:
        what = "request" if in_flight == 1 else "requests"
        click.echo(f"{in_flight} {what} in flight. Press Ctrl-C again to cancel.", err=True)
    problems: list[DynamoError] = []

    def shutdown() -> None:
        try:
            worker.shutdown(drain)
        except DynamoError as error:
            problems.append(error)

    thread = threading.Thread(target=shutdown, name="drain")
    thread.start()
    while thread.is_alive() and signals.count < 2:
        thread.join(_interval)
    was_interrupted = thread.is_alive()
    if was_interrupted:
        worker.close()
    thread.join()
    if was_interrupted:  # the error of shutdown() is that requests were cancelled, as intended
        problems.clear()
    if as_json:
        ended = "interrupted" if was_interrupted else "failed" if problems else "drained"
        output.write_json({"ended": ended, **({"error": describe(problems[0])} if problems else {})})
    elif problems:
        output.write_error(str(problems[0]))
    worker.close()
    return INTERRUPTED if was_interrupted else FAILED if problems else 0

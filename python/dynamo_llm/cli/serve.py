# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm serve``: a model for a cluster."""

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from dynamo_llm.cli import output, settings
from dynamo_llm.cli.ending import FAILED, INTERRUPTED, describe

if TYPE_CHECKING:
    from dynamo_llm import Worker

#: Seconds after which the program looks for signals.
_interval = 0.1


class _StopError(BaseException):
    """A request to stop came before the worker served."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        """As a shell counts it."""


class _Signals:
    """Counts the requests to stop, SIGINT and SIGTERM; raises them before the worker serves."""

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
@output.json_option("Print what is served, and how it ended, as a line of JSON each.")
@settings.runtime_options
@click.option(
    "--endpoint",
    metavar="PATH",
    default="backend.generate",
    show_default=True,
    help="Path to serve: namespace.component.endpoint, or component.endpoint in the cluster's namespace.",
)
@click.option("--model-name", metavar="NAME", help="What requests give as their model; default: the model's.")
@click.option(
    "--cluster",
    metavar="JSON_OR_FILE",
    callback=settings.json_object,
    default="{}",
    help='The cluster, over "cluster" in --config. Default: etcd at 127.0.0.1:2379, namespace dynamo.',
)
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="How long requests in flight may take once it is to stop.",
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

    Then the cluster sends no new requests, and those in flight go on to their end. Ctrl-C again cancels
    them.
    """
    from dynamo_llm import Worker

    signals = _Signals()
    runtime = {key: value for key, value in config.items() if key != "cluster"}
    runtime |= {key: value for key, value in (("engine", engine), ("model", model)) if value is not None}
    keys: dict[str, Any] = {
        "endpoint": settings.utf8(endpoint, "ENDPOINT"),
        "runtime": runtime,
        "cluster": {**config.get("cluster", {}), **cluster},
        "model": None if model_name is None else {"name": settings.utf8(model_name, "NAME")},
    }
    try:
        with output.spinner("Starting"):
            worker = Worker(**keys)
            signals.is_serving = True
    except _StopError as stop:
        os._exit(stop.code)  # Python would wait for the model; nothing is written that would be lost
    info = worker.info
    if as_json:
        output.write_json(info)
    else:
        what = f'the model "{info["model"]}"' if info.get("model") else "data"
        click.echo(output.printable(f"Serving {what} at {info['endpoint']}; Ctrl-C ends it."))
    while signals.count == 0 and not worker.wait(_interval):
        pass
    click.get_current_context().exit(_end(worker, drain, signals, as_json))


def _end(worker: "Worker", drain: float, signals: _Signals, as_json: bool) -> int:
    """Stop it; returns the exit code."""
    from dynamo_llm import DynamoError

    in_flight = worker.info["in_flight"]
    if in_flight and not as_json:
        what = "request" if in_flight == 1 else "requests"
        click.echo(f"{in_flight} {what} in flight; Ctrl-C again cancels.", err=True)
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
    if was_interrupted:  # then shutdown() raised that it cancelled requests
        problems.clear()
    if as_json:
        ended = "interrupted" if was_interrupted else "failed" if problems else "drained"
        output.write_json({"ended": ended, **({"error": describe(problems[0])} if problems else {})})
    elif problems:
        output.write_error(str(problems[0]))
    worker.close()
    return INTERRUPTED if was_interrupted else FAILED if problems else 0

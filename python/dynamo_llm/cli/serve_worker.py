# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm serve``: serves a model to a cluster."""

import threading
from typing import Any

import click

from dynamo_llm import DynamoError, Worker
from dynamo_llm.cli import output
from dynamo_llm.cli.command_group import FAILED, INTERRUPTED, describe
from dynamo_llm.cli.stop_signals import StopSignals

#: Seconds between two checks for signals.
_interval = 0.1


def serve_worker(keys: dict[str, Any], as_json: bool) -> int:
    """Serves until a signal arrives. Returns the exit code.

    :param keys: configuration of the worker, with ``drain_ms``.
    """
    signals = StopSignals()
    with signals.starting(), output.spinner("Starting"):
        worker = Worker(**keys)
    info = worker.info
    if as_json:
        output.write_json(info)
    else:
        what = f'the model "{info["model"]}"' if info.get("model") else "raw requests"
        output.write_line(f"Serving {what} at {info['endpoint']}. Press Ctrl-C to stop.")
    while signals.count == 0 and not worker.wait(_interval):
        pass
    drain_ms: int = keys["drain_ms"]
    return _end(worker, None if drain_ms < 0 else drain_ms / 1000, signals, as_json)


def _end(worker: Worker, drain: float | None, signals: StopSignals, as_json: bool) -> int:
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

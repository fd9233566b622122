# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm serve``: serves a model to a cluster, or over HTTP."""

from typing import Any

import click
from click.core import ParameterSource

from dynamo_llm.cli import http_options, output, runtime_options
from dynamo_llm.cli.serve_http import serve_http
from dynamo_llm.cli.serve_worker import serve_worker


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
    "--worker",
    metavar="JSON_OR_FILE",
    callback=runtime_options.json_object,
    default="{}",
    help='The worker\'s configuration, such as {"model": {"kv_block_size": 16}, "drain_ms": 5000}. The other '
    "options override its keys.",
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
@http_options.options
def serve(
    config: dict[str, Any],
    engine: runtime_options.Engine | None,
    model: str | None,
    endpoint: str,
    model_name: str | None,
    worker: dict[str, Any],
    cluster: dict[str, Any],
    drain: float,
    as_json: bool,
    http: str | None,
    **http_values: Any,
) -> None:
    """Serve a model to a cluster of NVIDIA Dynamo, or over HTTP, until Ctrl-C or SIGTERM.

    Then no new requests are taken, and those in flight run to their end. Pressing Ctrl-C again cancels them.
    """
    context = click.get_current_context()
    runtime = {key: value for key, value in config.items() if key != "cluster"}
    runtime |= {key: value for key, value in (("engine", engine), ("model", model)) if value is not None}
    cluster = {**config.get("cluster", {}), **cluster}
    name = None if model_name is None else runtime_options.utf8(model_name, "NAME")
    if http is None:
        http_options.refuse(context, tuple(http_values), "requires --http")
        given: dict[str, Any] = {
            "runtime": runtime,
            "cluster": cluster,
            "model": {"name": name} if name else {},
        }
        keys = {**worker, **{key: joined(worker, key, value) for key, value in given.items()}}
        if "endpoint" not in worker or is_given(context, "endpoint"):
            keys["endpoint"] = runtime_options.utf8(endpoint, "ENDPOINT")
        if "drain_ms" not in worker or is_given(context, "drain"):
            keys["drain_ms"] = round(drain * 1000)
        context.exit(serve_worker(keys, as_json))
    http_options.refuse(context, ("endpoint",), "is the endpoint of a worker in a cluster; leave out --http")
    http_options.refuse(context, ("worker",), "configures a worker in a cluster; leave out --http")
    runtime |= {key: value for key, value in (("cluster", cluster), ("name", name)) if value}
    settings = http_options.settings(**http_values)
    context.exit(serve_http(runtime, runtime_options.utf8(http, "HOST:PORT"), settings, drain, as_json))


def is_given(context: click.Context, name: str) -> bool:
    """Whether the command line has an option."""
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def joined(worker: dict[str, Any], key: str, values: dict[str, Any]) -> Any:
    """Returns an object of the worker's configuration with values that override its own."""
    of_worker = worker.get(key, {})
    # What is not an object is reported by the worker.
    return {**of_worker, **values} if isinstance(of_worker, dict) else of_worker

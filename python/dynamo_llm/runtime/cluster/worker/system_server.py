# SPDX-License-Identifier: Apache-2.0
"""What a worker adds to Dynamo's system server, which a process has if ``DYN_SYSTEM_PORT`` is set."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dynamo_llm.errors import DynamoError, InvalidConfigError
from dynamo_llm.runtime.cluster.worker.served_engine import ServedEngine

_log = logging.getLogger("dynamo_llm.worker")


def extend(
    runtime: Any,
    endpoint: Any,
    engine: ServedEngine,
    routes: list[str],
    called: Callable[[], Awaitable[None]],
) -> None:
    """Adds the engine's metrics to ``/metrics``, and control calls as ``/engine/NAME``.

    :param runtime: Dynamo's DistributedRuntime.
    :param endpoint: Dynamo's endpoint, whose metrics are extended.
    :param routes: names of the control calls.
    :param called: is awaited after each call.
    :raises InvalidConfigError: the process has no system server, or the engine no such call.
    """
    endpoint.metrics.register_prometheus_expfmt_callback(partial(_metrics, engine))
    if not routes:
        return
    if runtime.system_status_server_url() is None:
        raise InvalidConfigError(
            '"engine_routes" of the configuration requires Dynamo\'s system server; set the environment '
            "variable DYN_SYSTEM_PORT to its port"
        )
    for name in routes:
        if name not in engine.calls:
            known = ", ".join(engine.calls) or "none"
            raise InvalidConfigError(
                f'"engine_routes" of the configuration has "{name}", which is not a control call of the '
                f"engine; its calls: {known}"
            )
        runtime.register_engine_route(name, partial(_call, engine, name, called))


async def _call(
    engine: ServedEngine, name: str, called: Callable[[], Awaitable[None]], body: dict[str, Any]
) -> dict[str, Any]:
    """Answers a request, in the form of Dynamo's own workers."""
    try:
        result = await engine.call(name, body)
        await called()
    except DynamoError as error:
        return {"status": "error", "message": str(error)}
    return {"status": "ok", "result": result}


def _metrics(engine: ServedEngine) -> str:
    """Called by Dynamo on its threads, for each request to ``/metrics``."""
    try:
        return engine.metrics()
    except DynamoError as error:  # the worker has stopped meanwhile
        _log.debug("no metrics: %s", error)
        return ""

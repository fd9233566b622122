# SPDX-License-Identifier: Apache-2.0
"""Workers of position_worker.py, and clients that send them requests."""

import itertools
import json
from pathlib import Path
from typing import Any

from cluster_rig import Cluster, Process
from dynamo_llm import Runtime

_numbers = itertools.count()


def client(
    cluster: Cluster,
    options: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **keys: Any,
) -> Runtime:
    """Returns a runtime on a cluster.

    :param settings: further keys of its ``cluster``.
    """
    whole = {**cluster.settings, **(settings or {})}
    return Runtime(engine="dynamo", cluster=whole, options=options or {}, **keys)


def position_worker(cluster: Cluster, *flags: str) -> Process:
    """Starts a worker whose tokens are positions; returns when it is registered."""
    combination = cluster.combination
    worker = cluster.python(
        f"position{next(_numbers)}",
        str(Path(__file__).with_name("position_worker.py")),
        f"--discovery={combination.discovery}",
        f"--request-plane={combination.request_plane}",
        f"--event-plane={combination.event_plane}",
        *flags,
    )
    cluster.wait(lambda: said(worker, "ready"))
    return worker


def said(worker: Process, key: str) -> list[Any]:
    """Returns the entries of a kind in a position worker's log."""
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return [line[key] for line in lines if key in line]


def names(runtime: Runtime) -> list[str]:
    """Returns the names of the listed models."""
    return [model["id"] for model in runtime.models()]


def tokens(request: Any) -> list[int]:
    """Returns the token ids of the answer."""
    return [token for response in request for token in response.token_ids]

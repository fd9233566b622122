# SPDX-License-Identifier: Apache-2.0
"""Dynamo's sample worker, which generates the tokens 1, 2, 3, ..."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster_rig.process import Process


class Worker(Process):
    """A sample worker."""

    def __init__(
        self, path: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        """Starts it; ``path`` is that of its endpoint."""
        names = zip(("namespace", "component", "endpoint"), path.split("."), strict=True)
        flags = [f"--{name}={value}" for name, value in names]
        command = [sys.executable, "-m", "dynamo.common.backend.sample_main", *flags, *arguments]
        super().__init__("worker", command, environment, folder)
        self.path = path
        """Its endpoint: namespace.component.endpoint."""
        self.instance = 0
        """Its id in the cluster, as soon as that is known."""

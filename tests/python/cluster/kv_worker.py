# SPDX-License-Identifier: Apache-2.0
"""Runs workers for tests of routers: one process of kv_worker.c each, which executes commands."""

import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from cluster_rig import Cluster
from conftest import compile_c, dynamo_config, engines_dir

block_size = 16
_numbers = itertools.count()


def compile_worker(folder: Path) -> Path:
    """Compiles the program."""
    flags = dynamo_config("--cflags", "--libs").split()
    return compile_c(Path(__file__).with_name("kv_worker.c"), folder / "kv_worker", *flags)


class KvWorker:
    """A worker. The constructor returns when discovery lists the worker and its model."""

    def __init__(self, cluster: Cluster, program: Path, path: str, kind: str = "Aggregated") -> None:
        python = {"path": [str(engines_dir)]}
        serving = {
            "engine": "serving:Serving",
            "python": python,
            "options": {"cluster": cluster.settings, "endpoint": path, "model": cluster.model, "type": kind},
        }
        publisher = {"cluster": cluster.settings, "endpoint": path, "kv_block_size": block_size}
        pipe = program.parent / f"commands-{os.getpid()}-{next(_numbers)}"
        os.mkfifo(pipe)
        self._cluster = cluster
        self.process = cluster.run(
            "kv-worker",
            [program, json.dumps(serving), json.dumps(publisher), pipe],
            {"DYNAMO_LLM_PYTHON": sys.executable},
        )
        cluster.wait(lambda: "ready " in self.process.log)
        (line,) = [line for line in self.process.log.splitlines() if line.startswith("ready ")]
        self.info: dict[str, Any] = json.loads(line.removeprefix("ready "))
        self.id: int = self.info["worker_id"]
        cluster.wait(lambda: self.id in cluster.instances(path))
        # The worker is blocked in open() until this opens the other end.
        self._commands = pipe.open("w", encoding="utf-8")
        pipe.unlink()
        self._told = 0

    def tell(self, command: str, first: int = 0, blocks: int = 0, begin: int = 0) -> None:
        """Executes a command of kv_worker.c. Returns when it is done."""
        self._commands.write(f"{command} {first} {blocks} {begin}\n")
        self._commands.flush()
        self._told += 1
        self._cluster.wait(lambda: self.process.log.splitlines().count("done") == self._told)

    def end(self) -> int:
        """Makes the worker leave the cluster. Returns its exit status."""
        self._commands.close()
        return self.process.wait()

    def kill(self) -> None:
        """Kills the worker, to simulate a crash."""
        self.process.kill()
        self._commands.close()

# SPDX-License-Identifier: Apache-2.0
"""NVIDIA Dynamo's frontend with its sample worker, on the loopback, without other servers."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from conftest import patience
from dynamo_llm import paths


def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


class Cluster:
    """A frontend, and workers that are added; they find each other through a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model = str(paths.demo_model_dir())
        """The model's name: its folder, of which the sample worker needs the tokenizer."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count()
        self.port = free_port()
        self.frontend = self._run("dynamo.frontend", "--http-host=127.0.0.1", f"--http-port={self.port}")
        self.wait(lambda: self._models() is not None)

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.port}/v1"

    def add_worker(self, delay: float) -> "subprocess.Popen[bytes]":
        """A worker that takes so many seconds for each token; returns when the frontend knows it."""
        before = len(list(self._folder.glob("kv/v1/instances/*")))
        worker = self._run(
            "dynamo.common.backend.sample_main", f"--model-name={self.model}", f"--delay={delay}"
        )
        self.wait(lambda: len(list(self._folder.glob("kv/v1/instances/*"))) > before)
        self.wait(lambda: self.model in (self._models() or []))
        return worker

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """End one of them as a crash does."""
        process.send_signal(signal.SIGKILL)
        process.wait(patience)

    def forget(self, process: "subprocess.Popen[bytes]") -> None:
        """It may be dead from now on."""
        self._processes.remove(process)

    def stop(self) -> None:
        """End all of them."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.kill()
            process.wait(patience)

    def wait(self, condition: Any) -> None:
        """Until it holds; with what they logged if that does not come."""
        end = time.monotonic() + patience
        while not condition():
            dead = [process.args for process in self._processes if process.poll() is not None]
            assert not dead and time.monotonic() < end, f"{dead} {self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """The ends of what they logged."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self._folder.glob("*.log"))

    def _models(self) -> list[str] | None:
        # No proxy of the environment.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/models", timeout=patience) as answer:
                return [model["id"] for model in json.load(answer)["data"]]
        except OSError:
            return None

    def _run(self, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        outside = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
        local = ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST")
        environment = {
            **outside,
            **dict.fromkeys(local, "127.0.0.1"),
            "HOME": str(self._folder),
            "DYN_FILE_KV": str(self._folder / "kv"),
            "HF_HUB_OFFLINE": "1",
        }
        planes = ("--discovery-backend=file", "--request-plane=tcp", "--event-plane=zmq")
        with (self._folder / f"{next(self._numbers)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, *planes],
                env=environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

# SPDX-License-Identifier: Apache-2.0
"""Programs that listen on a port, and can be restarted there."""

import json
import sys
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from waiting import patience, wait_until

from cluster_rig.port import free_port
from cluster_rig.process import Process, find_program


def ask(url: str, body: Any = None, timeout: float = patience) -> Any:
    """Reads JSON from a server of the rig, bypassing proxies."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with opener.open(request, timeout=timeout) as answer:
        return json.load(answer)


class Server(ABC):
    """A program that listens on a port of the loopback."""

    name: str

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Starts it, and waits until it answers."""
        self._folder = folder
        self._environment = environment or {}
        self._processes: list[Process] = []
        self.port = free_port()
        """Where it listens, from its first start on."""
        # Another program may have taken the port since it was found unused.
        while not self._listens():
            self.port = free_port()

    @property
    def process(self) -> Process:
        """Returns the process of its last start."""
        return self._processes[-1]

    @property
    def processes(self) -> Sequence[Process]:
        """Returns the processes of all its starts."""
        return tuple(self._processes)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.is_alive

    @property
    def pid(self) -> int:
        """Returns its process id."""
        return self.process.pid

    def start(self) -> None:
        """Restarts it, on its port and with its data."""
        assert not self.is_alive, f"{self.name} runs"
        wait_until(self._listens, lambda: f"port {self.port} is not free again\n{self.process.log}")

    def terminate(self) -> int:
        """Sends SIGTERM, waits until it exits, and returns its exit status."""
        return self.process.terminate()

    def kill(self) -> None:
        """Kills it, like a crash."""
        self.process.kill()

    def pause(self) -> None:
        """Stops it; the kernel still accepts connections for it."""
        self.process.pause()

    def resume(self) -> None:
        """Resumes it."""
        self.process.resume()

    def _listens(self) -> bool:
        """Starts it, and waits until it answers; returns False if another program has the port."""
        process = Process(self.name, self._command(), self._environment, self._folder)
        self._processes.append(process)
        try:
            wait_until(lambda: not process.is_alive or self._is_ready(), lambda: f"{self.name} hangs")
            if process.is_alive:
                return True
            assert "address already in use" in process.log.lower(), f"{self.name} ended"
        except BaseException as error:
            process.kill()
            raise AssertionError(process.log) from error
        process.may_end = True
        return False

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Returns the command line."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it answers."""


class Etcd(Server):
    """etcd, with one member."""

    name = "etcd"

    @property
    def url(self) -> str:
        """Returns the URL for clients."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str | Path]:
        program = find_program("etcd")
        assert program is not None, "there is no etcd"
        return (
            program,
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            # A single member has no peers: their socket is in the folder, not on a second port.
            "--listen-peer-urls=unix://peers.sock:0",
            # It need not wait for them to become the leader.
            "--heartbeat-interval=20",
            "--election-timeout=200",
            "--log-outputs=stderr",
        )

    def _is_ready(self) -> bool:
        return "serving insecure client requests" in self.process.log


class Nats(Server):
    """nats-server, with JetStream."""

    name = "nats-server"

    @property
    def url(self) -> str:
        """Returns the URL for clients."""
        return f"nats://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str | Path]:
        program = find_program("nats-server")
        assert program is not None, "there is no nats-server"
        return (program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self._folder / "nats")

    def _is_ready(self) -> bool:
        return "Server is ready" in self.process.log


class Frontend(Server):
    """Dynamo's frontend, an OpenAI server."""

    name = "frontend"

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        arguments: Sequence[str],
        discovered: Callable[[], set[int]],
    ) -> None:
        """Starts it.

        :param arguments: those except host and port.
        :param discovered: returns the ids of the instances in discovery.
        """
        self._arguments = arguments
        self._discovered = discovered
        super().__init__(folder, environment)

    @property
    def url(self) -> str:
        """Returns the URL of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def models(self) -> list[str] | None:
        """Returns the names of the models that it knows; None if it does not answer soon."""
        try:
            return [model["id"] for model in ask(f"{self.url}/models", timeout=5)["data"]]
        except OSError:
            return None

    def instances(self) -> set[int]:
        """Returns the ids of the instances that it knows."""
        health = ask(f"http://127.0.0.1:{self.port}/health")
        if "instances" in health:
            return {each["instance_id"] for each in health["instances"]}
        # Dynamo 1.7 does not list them: those in discovery, once all models have their workers.
        # It does not tell so for names with a slash.
        names = [name for name in self.models() or [] if "/" not in name]
        return self._discovered() if all(self._is_served(name) for name in names) else set()

    def _is_served(self, model: str) -> bool:
        try:
            return bool(ask(f"{self.url}/models/{model}/ready")["ready"])
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return False

    def _command(self) -> Sequence[str | Path]:
        place = ("--http-host=127.0.0.1", f"--http-port={self.port}")
        return (sys.executable, "-m", "dynamo.frontend", *place, *self._arguments)

    def _is_ready(self) -> bool:
        return self.models() is not None

# SPDX-License-Identifier: Apache-2.0
"""A cluster: servers, workers, and a frontend with common settings."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from dynamo_llm import paths
from waiting import wait_until

from cluster_rig.combination import Combination
from cluster_rig.discovery import Discovery, EtcdKeys, Folder
from cluster_rig.process import Process
from cluster_rig.server import Etcd, Frontend, Nats, Server
from cluster_rig.worker import Worker

S = TypeVar("S", bound=Server)
T = TypeVar("T")

#: Characters of a log's end that are shown.
log_end = 3000


class Cluster:
    """The constructor starts its servers; workers and other programs are added."""

    def __init__(
        self,
        combination: Combination,
        folder: Path,
        lease_ttl: int = 30,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the servers.

        :param folder: for data and logs; not shared.
        :param lease_ttl: seconds until etcd drops the keys of a process that no longer responds. A live
            process that loses its lease shuts down, so a busy machine needs some.
        :param variables: additional environment variables of all its processes but the servers.
        """
        self.combination = combination
        self.namespace = "dynamo"
        """That of the sample workers."""
        self.model = str(paths.demo_model_dir())
        """The sample workers' model: its name is the folder, of which they need the tokenizer."""
        self._folder = folder
        self._lease_ttl = lease_ttl
        self._variables = dict(variables or {})
        self._processes: list[Process] = []
        self._servers: list[Server] = []
        self.etcd: Etcd | None = None
        self.nats: Nats | None = None
        try:
            if combination.discovery == "etcd":
                self.etcd = self._serve(Etcd(folder))
            if combination.uses_nats:
                self.nats = self._serve(Nats(folder))
        except BaseException:
            self.stop()
            raise

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the key "cluster" of a runtime's configuration."""
        settings: dict[str, Any] = {
            "namespace": self.namespace,
            "discovery": self.combination.discovery,
            "request_plane": self.combination.request_plane,
            "event_plane": self.combination.event_plane,
            "host": "127.0.0.1",
        }
        if self.etcd is None:
            settings["path"] = str(self._kv)
        else:
            settings.update(etcd=[self.etcd.url], lease_ttl_s=self._lease_ttl)
        if self.nats is not None:
            settings["nats"] = [self.nats.url]
        return settings

    @property
    def environment(self) -> dict[str, str]:
        """Returns the environment variables that make a process that uses Dynamo part of it."""
        hosts = ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST")
        environment = {
            **dict.fromkeys(hosts, "127.0.0.1"),
            "DYN_DISCOVERY_BACKEND": self.combination.discovery,
            "DYN_REQUEST_PLANE": self.combination.request_plane,
            "DYN_EVENT_PLANE": self.combination.event_plane,
            # Otherwise a sample worker waits 5 s after SIGTERM.
            "DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": "0",
            "HF_HUB_OFFLINE": "1",
        }
        if self.etcd is None:
            environment["DYN_FILE_KV"] = str(self._kv)
        else:
            environment["ETCD_ENDPOINTS"] = self.etcd.url
            environment["ETCD_LEASE_TTL"] = str(self._lease_ttl)
            environment["ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS"] = "20"
        if self.nats is not None:
            environment["NATS_SERVER"] = self.nats.url
            environment["NATS_STARTUP_CONNECT_TIMEOUT_SECONDS"] = "20"
        return {**environment, **self._variables}

    @cached_property
    def frontend(self) -> Frontend:
        """Returns Dynamo's frontend; starts it on first use."""
        frontend = self._serve(Frontend(self._folder, self.environment, self._flags, self.instances))
        if self.keys("v1/mdc/"):
            self.wait(frontend.models)
        return frontend

    @property
    def url(self) -> str:
        """Returns the URL of the frontend's API."""
        return self.frontend.url

    def models(self) -> list[str] | None:
        """Returns the names of the models that the frontend knows; None if it does not answer."""
        return self.frontend.models()

    def add_worker(
        self, delay: float = 0.002, path: str = "dynamo.sample.generate", arguments: Sequence[str] = ()
    ) -> Worker:
        """Starts a sample worker; returns once discovery knows it, and the frontend if that runs.

        :param delay: seconds for each token.
        :param path: its endpoint: namespace.component.endpoint.
        :param arguments: additional flags, such as "--disaggregation-mode=prefill".
        """
        before = self.instances(path)
        flags = (f"--model-name={self.model}", f"--delay={delay}", *self._flags, *arguments)
        worker = Worker(path, flags, self.environment, self._folder)
        self._processes.append(worker)
        (worker.instance,) = self.wait(lambda: self.instances(path) - before)
        if "frontend" in self.__dict__ and self.frontend.is_alive:
            self.wait(lambda: worker.instance in self.frontend.instances() and self.models())
        return worker

    def run(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Starts a program as part of the cluster.

        :param name: for its log.
        :param environment: additional variables.
        """
        process = Process(name, command, {**self.environment, **(environment or {})}, self._folder)
        self._processes.append(process)
        return process

    def python(
        self, name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Starts a module, or a file ``*.py``, with this interpreter."""
        words = [module] if module.endswith(".py") else ["-m", module]
        return self.run(name, [sys.executable, *words, *arguments], environment)

    def keys(self, prefix: str = "") -> list[str]:
        """Returns the keys of discovery with this prefix."""
        return self._discovery.keys(prefix)

    def instances(self, path: str = "") -> set[int]:
        """Returns the ids of an endpoint's instances in discovery; of all endpoints without a path."""
        prefix = "v1/instances/" + (path.replace(".", "/") + "/" if path else "")
        return {int(key.rpartition("/")[2], 16) for key in self.keys(prefix)}

    def pids(self) -> list[int]:
        """Returns the ids of all live processes."""
        return [each.pid for each in self._all() if each.is_alive]

    def wait(self, condition: Callable[[], T]) -> T:
        """Waits until a condition is true, and returns its value; fails if a process exits unexpectedly."""

        def value() -> T:
            dead = [each.name for each in self._all() if not each.is_alive and not each.may_end]
            assert not dead, f"ended: {', '.join(dead)}\n{self.logs()}"
            return condition()

        return wait_until(value, lambda: f"it did not come\n{self.logs()}")

    def logs(self) -> str:
        """Returns the ends of the logs of all processes."""
        return "\n".join(f"--- {each.name} {each.pid}\n{each.log[-log_end:]}" for each in self._all())

    def stop(self) -> None:
        """Stops all of them, the servers last."""
        for process in reversed(self._all()):
            process.kill()

    @property
    def _kv(self) -> Path:
        return self._folder / "kv"

    @property
    def _flags(self) -> Sequence[str]:
        return (
            f"--discovery-backend={self.combination.discovery}",
            f"--request-plane={self.combination.request_plane}",
            f"--event-plane={self.combination.event_plane}",
        )

    @cached_property
    def _discovery(self) -> Discovery:
        return Folder(self._kv) if self.etcd is None else EtcdKeys(self.etcd)

    def _serve(self, server: S) -> S:
        self._servers.append(server)
        return server

    def _all(self) -> list[Process]:
        return [each for server in self._servers for each in server.processes] + self._processes

# SPDX-License-Identifier: Apache-2.0
"""The engine that runs another engine in a child process."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from dynamo_llm import _core
from dynamo_llm.errors import EngineNotFoundError
from dynamo_llm.runtime import options, registry
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo
from dynamo_llm.runtime.error_report import describe
from dynamo_llm.runtime.hub import hub_name, lookup
from dynamo_llm.runtime.isolation.link import Link
from dynamo_llm.runtime.isolation.options import Options
from dynamo_llm.runtime.isolation.relay import Failure, Relay, RelayedRequest
from dynamo_llm.runtime.threads import in_thread

#: Seconds after which a ready child counts as healthy: its end is then the first failure in a row.
_healthy = 60.0

_log = logging.getLogger("dynamo_llm.isolation")


class IsolatedEngine:
    """Runs the engine of ``options.config`` in a child process, for ``"isolation": "process"``."""

    kind: Literal["relay"] = "relay"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options, "isolation_options")
        given = self._options.config
        dropped = ("limits", "isolation", "isolation_options", "python")
        self._config = {key: value for key, value in given.items() if key not in dropped}
        stream = given.get("stream", {})
        # A full stream always blocks in the child; "when_full" applies to the stream of this process.
        self._config["stream"] = {**stream, "when_full": "block"}
        if python := {key: value for key, value in given.get("python", {}).items() if key != "executable"}:
            self._config["python"] = python
        self._window = max(1, min(1024, stream.get("capacity", 1024)))
        self._name = self._options.name
        self._model_name: str = given.get("name") or given.get("model") or self._name
        self._changed = config.changed
        self._progress = config.progress
        self._link: Link | None = None
        self._starting: asyncio.Task[None] | None = None
        self._waiting: dict[Relay, None] = {}
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self.report_metrics: Callable[[str], None] = lambda lines: None
        """Called with the metrics of the engine in the child; the instance sets it."""
        self._info: ModelInfo = {}

    # ---------------------------------------------------------------------------- the child process

    async def start(self) -> None:
        """Starts the child, which loads the model; raises what the engine's start raises there."""
        await in_thread(self._find_model)
        self._link = await self._open_link()

    def _find_model(self) -> None:
        """Replaces a name of the Hugging Face Hub by a path. In this process, so that a download is not part
        of the child's time to start, and a restarted child loads the same files. Blocks.
        """
        model = self._config.get("model")
        if model is None or not hub_name.is_hub_name(model):
            return
        try:
            engine = registry.find(self._name)
        except EngineNotFoundError:  # one in C, or unknown, which the child reports
            return
        if formats := lookup.formats_of(engine, self._config.get("options", {})):
            is_offline = self._config.get("offline", False)
            path = str(lookup.find(model, formats, offline=is_offline))
            self._config["model"] = path
            if "name" not in self._config:  # the child's runtime calls the model by its path then
                self._model_name = path

    async def _open_link(self) -> Link:
        setup = {
            "config": self._config,
            "library": self._options.engine_library,
            "window": self._window,
            "name": self._model_name,
            "log_level": _core.log_level(),
            "memory_limit_mib": self._options.memory_limit_mib,
        }
        link = Link(
            self._name,
            setup,
            self._options,
            on_described=self._on_described,
            on_metrics=lambda lines: self.report_metrics(lines),  # noqa: PLW0108 (a later one)
            on_progress=self._on_progress,
            on_end=self._on_end,
        )
        await link.open()
        return link

    def _on_progress(self, report: dict[str, Any]) -> None:
        if report["phase"] != "engine":  # which the library reports in this process, too
            self._progress(
                str(report["phase"]),
                bytes_done=report["bytes_done"],
                bytes_total=report["bytes_total"],
                fraction=report["fraction"],
            )

    def _on_described(self, info: dict[str, Any]) -> None:
        self._info = info  # type: ignore[assignment]
        if self._link is not None:
            self._changed()

    def _on_end(self, link: Link) -> None:
        """Notes that a child that was ready has ended."""
        now = time.monotonic()
        self._failures = 1 if now - link.ready_at >= _healthy else self._failures + 1
        self._failed_at = now
        if self._link is link:
            self._link = None

    async def _restart(self) -> None:
        try:
            if self._failures > 1:
                doubled = self._options.restart_delay_ms * 2.0 ** min(self._failures - 2, 30)
                delay = min(doubled, self._options.max_restart_delay_ms) / 1000
                await asyncio.sleep(self._failed_at + delay - time.monotonic())
            _log.info('restarting the child process of the engine "%s"', self._name)
            link = await self._open_link()
        except BaseException as error:
            self._starting = None
            self._failures += 1
            self._failed_at = time.monotonic()
            status, message, details = describe(error)
            message = f'the child process of the engine "{self._name}" could not be restarted: {message}'
            waiting, self._waiting = self._waiting, {}
            for relay in waiting:
                relay.end(Failure(status, message, details))
            if not isinstance(error, Exception):
                raise
            return
        self._starting = None
        self._link = link
        self._changed()
        waiting, self._waiting = self._waiting, {}
        for relay in waiting:
            link.add(relay)

    # ----------------------------------------------------------------------------------- requests

    def describe(self) -> ModelInfo:
        """Returns the description of the engine in the child."""
        return self._info

    def relay(self, request: RelayedRequest) -> Relay:
        """Sends a request to the child; if no child runs, starts one first."""
        relay = Relay(request, self._window, self._waiting)
        if self._link is not None:
            self._link.add(relay)
        else:
            self._waiting[relay] = None
            if self._starting is None:
                self._starting = asyncio.get_running_loop().create_task(self._restart())
        return relay

    async def stop(self) -> None:
        """Stops the engine, and the child with it."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        link, self._link = self._link, None
        if link is not None:
            await link.close()

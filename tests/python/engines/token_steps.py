# SPDX-License-Identifier: Apache-2.0
"""A token-level engine with a step loop of its own: it repeats the prompt without end."""

import threading
from collections.abc import Iterator
from typing import Any

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest
from dynamo_llm.runtime.sink import Sink, push_many


class TokenSteps:
    """Pushes a token of each request in each step."""

    kind = "tokens"
    seen: list[str]
    """What the library called, with the ids of requests."""

    def __init__(self, config: EngineConfig) -> None:
        """Reads the option ``folder``, which replaces the demo model's."""
        self._folder = config.options.get("folder", str(demo_model_dir()))
        self._rows: dict[Sink, list[int]] = {}
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="token-steps", daemon=True)
        TokenSteps.seen = []

    def start(self) -> None:
        """Starts the loop."""
        self._thread.start()

    def describe(self) -> ModelInfo:
        """Describes the demo model."""
        return {"path": self._folder, "context_length": 4096, "capabilities": ["logprobs"]}

    def add(self, request: TokenRequest, sink: Sink) -> None:
        """Adds a request to the next step."""
        self.seen.append("add")
        if request.token_ids == [4]:
            raise ValueError("the engine does not like 4")
        with self._changed:
            self._rows[sink] = list(request.token_ids)
            self._changed.notify()

    def cancel(self, sink: Sink) -> None:
        """Removes a request."""
        self.seen.append("cancel")
        with self._changed:
            if self._rows.pop(sink, None) is not None:
                sink.finish(usage={"cached_tokens": 3})

    def generate(self, request: TokenRequest) -> Iterator[TokenChunk]:
        """Answers what needs a generator."""
        self.seen.append("generate")
        yield {"token_ids": list(request.token_ids)}

    def _run(self) -> None:
        step = 0
        while True:
            with self._changed:
                while not self._rows and not self._is_stopped:
                    self._changed.wait()
                if self._is_stopped:
                    return
                sinks: list[Any] = list(self._rows)
                ids = [self._rows[sink][step % len(self._rows[sink])] for sink in sinks]
            if push_many(sinks, ids):
                continue
            step += 1

    def stop(self) -> None:
        """Ends the loop."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join()

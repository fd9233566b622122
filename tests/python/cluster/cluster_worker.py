# SPDX-License-Identifier: Apache-2.0
"""Runs workers in this process, in clusters of the rig."""

import asyncio
import ctypes
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from cluster_rig import Cluster
from conftest import compile_c, dynamo_config, tests_dir
from dynamo_llm import InvalidRequestError, Runtime, paths
from dynamo_llm.runtime.engine import Chunk, DataRequest, EngineConfig, EngineRequest
from waiting import patience

examples = tests_dir.parent / "examples" / "engines"


class Worker:
    """A worker and its commands."""

    def __init__(self, cluster: Cluster, runtime: dict[str, Any], **more: Any) -> None:
        """Starts the worker; ``more`` are additional keys of its configuration."""
        self.options = {
            "cluster": cluster.settings,
            "endpoint": "dynamo.backend.generate",
            "runtime": runtime,
            **more,
        }
        self.runtime = Runtime(
            engine="dynamo_llm.runtime.cluster.worker.engine:WorkerEngine", options=self.options
        )

    def command(self, **command: Any) -> Any:
        """Sends a command, and returns its result."""
        (answer,) = self.send(**command).result()
        return answer

    def send(self, **command: Any) -> Any:
        """Sends a command, and returns its request."""
        return self.runtime.data(command)

    @property
    def info(self) -> dict[str, Any]:
        """Returns the description of the worker."""
        info: dict[str, Any] = self.command(info=None)
        return info

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()


def register_babble(folder: Path) -> None:
    """Registers the step-level engine in C as "babble-tokens"."""
    flags = [*dynamo_config("--cflags", "--libs").split(), "-shared", "-fPIC", "-pthread"]
    file = compile_c(examples / "c" / "engine.c", folder / "libbabble.so", str(examples / "babble.c"), *flags)
    library = ctypes.CDLL(str(file))
    engine = ctypes.c_char.in_dll(library, "engine_of_tokens")
    assert library.dynamo_engine_register(b"babble-tokens", ctypes.byref(engine), None, None) == 0


def register_tokens(folder: Path) -> ctypes.CDLL:
    """Registers the engine in C that repeats its prompt, with log-probs, as "worker-ctokens"."""
    flags = [*dynamo_config("--cflags", "--libs").split(), "-shared", "-fPIC"]
    library = ctypes.CDLL(
        str(compile_c(tests_dir / "engines" / "tokens.c", folder / "libworkertokens.so", *flags))
    )
    library.last_body.restype = ctypes.c_char_p
    description = {
        "path": str(paths.demo_model_dir()),
        "context_length": 64,
        "capabilities": ["logprobs", "seed", "regex"],
        "adapters": ["blue"],
    }
    assert library.register_tokens(b"worker-ctokens", json.dumps(description).encode()) == 0
    return library


def babble(**options: Any) -> dict[str, Any]:
    """Returns the configuration's keys for a worker that serves this engine as the model "babble"."""
    return {
        "runtime": {"engine": "babble-tokens", "options": options},
        "model": {"name": "babble", "path": str(paths.demo_model_dir())},
    }


def post(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Sends a POST request. Returns the status and the JSON of the answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=patience) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def stream(url: str, body: dict[str, Any]) -> Iterator[Any]:
    """Sends a streaming request. Yields its events, without the last one, which is not JSON."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = json.dumps({**body, "stream": True}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with opener.open(request, timeout=patience) as answer:
        for line in answer:
            if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                yield json.loads(line[6:])


class Sleeper:
    """A text engine that does not answer while it is asleep."""

    is_asleep = False

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Does nothing."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Yields one word, once it is awake."""
        while type(self).is_asleep:
            await asyncio.sleep(0.01)
        yield {"text": "awake", "finish_reason": "stop"}

    def stop(self) -> None:
        """Does nothing."""


class Reverse:
    """A raw engine: reverses bytes, and returns each element of a JSON array as an item."""

    kind = "data"

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Does nothing."""

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Yields the items."""
        if isinstance(request.data, bytes):
            yield request.data[::-1]
            return
        for element in request.data:
            if element == "refuse":
                raise InvalidRequestError("that is refused")
            yield {"element": element}

    def stop(self) -> None:
        """Does nothing."""


class Holder:
    """A raw engine that returns its request, and holds the request "hold" until it is cancelled."""

    kind = "data"

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Does nothing."""

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """Yields one item."""
        yield request.data
        if request.data == "hold":
            await asyncio.Event().wait()

    def stop(self) -> None:
        """Does nothing."""

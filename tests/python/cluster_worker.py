# SPDX-License-Identifier: Apache-2.0
"""Workers of this process, in clusters of the rig."""

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
    """A worker, and its commands."""

    def __init__(self, cluster: Cluster, runtime: dict[str, Any], **more: Any) -> None:
        """Start it; ``more`` are keys of its configuration."""
        self.options = {
            "cluster": cluster.settings,
            "endpoint": "dynamo.backend.generate",
            "runtime": runtime,
            **more,
        }
        self.runtime = Runtime(engine="dynamo_llm.runtime.cluster.worker:WorkerEngine", options=self.options)

    def command(self, **command: Any) -> Any:
        """What it answers."""
        (answer,) = self.send(**command).result()
        return answer

    def send(self, **command: Any) -> Any:
        """The request of a command."""
        return self.runtime.data(command)

    @property
    def info(self) -> dict[str, Any]:
        """What it says of itself."""
        info: dict[str, Any] = self.command(info=None)
        return info

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()


def register_babble(folder: Path) -> None:
    """The engine in C with a step loop, of token ids, as "babble-tokens"."""
    flags = [*dynamo_config("--cflags", "--libs").split(), "-shared", "-fPIC", "-pthread"]
    sources = [examples / "babble.c", examples / "json.c"]
    file = compile_c(examples / "c" / "engine.c", folder / "libbabble.so", *map(str, sources), *flags)
    library = ctypes.CDLL(str(file))
    engine = ctypes.c_char.in_dll(library, "engine_of_tokens")
    assert library.dynamo_engine_register(b"babble-tokens", ctypes.byref(engine), None, None) == 0


def register_tokens(folder: Path) -> ctypes.CDLL:
    """The engine in C that says its prompt, with log-probs, as "worker-ctokens"; it remembers bodies."""
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
    """Keys of a worker that serves it as the model "babble"."""
    return {
        "runtime": {"engine": "babble-tokens", "options": options},
        "model": {"name": "babble", "path": str(paths.demo_model_dir())},
    }


def post(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of the frontend's answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=patience) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def stream(url: str, body: dict[str, Any]) -> Iterator[Any]:
    """The events of a stream, without the last one, which has no JSON."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = json.dumps({**body, "stream": True}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with opener.open(request, timeout=patience) as answer:
        for line in answer:
            if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                yield json.loads(line[6:])


class Sleeper:
    """A text engine that says nothing while it sleeps."""

    is_asleep = False

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Nothing to do."""

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """One word, when it is awake."""
        while type(self).is_asleep:
            await asyncio.sleep(0.01)
        yield {"text": "awake", "finish_reason": "stop"}

    def stop(self) -> None:
        """Nothing to do."""


class Reverse:
    """An engine of data: bytes backwards, and of JSON each element as an item."""

    kind = "data"

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Nothing to do."""

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """The items."""
        if isinstance(request.data, bytes):
            yield request.data[::-1]
            return
        for element in request.data:
            if element == "refuse":
                raise InvalidRequestError("that is refused")
            yield {"element": element}

    def stop(self) -> None:
        """Nothing to do."""


class Holder:
    """An engine of data that gives its request back, and is not done with "hold" until it is cancelled."""

    kind = "data"

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None:
        """Nothing to do."""

    async def generate(self, request: DataRequest) -> AsyncIterator[Any]:
        """One item."""
        yield request.data
        if request.data == "hold":
            await asyncio.Event().wait()

    def stop(self) -> None:
        """Nothing to do."""

# SPDX-License-Identifier: Apache-2.0
"""An engine that calls, on the loop, what would wait for the loop; and the same in threads."""

import asyncio
import ctypes
from collections.abc import AsyncIterator, Callable
from typing import Any

import dynamo_llm
from dynamo_llm import Runtime, Tokenizer, paths
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest


class Waiting:
    """Makes a call: the prompt is its name, " / " and the engine of the runtime that it uses, and perhaps
    " / in a thread". Answers with the error's class and message, or "done".
    """

    def __init__(self, config: EngineConfig) -> None:
        self._python = config.python
        self._runtimes: dict[str, Runtime] = {}

    async def start(self) -> None:
        """Have runtimes and a tokenizer to wait for."""
        for engine in ("echoes:Async", "stalling:Async", "echo"):
            self._runtimes[engine] = await Runtime.open(engine=engine, python=self._python)
        self._tokenizer = await Tokenizer.open()
        self._detokenizer = self._tokenizer.detokenizer()

    async def stop(self) -> None:
        for runtime in self._runtimes.values():
            await asyncio.to_thread(runtime.close)
        await asyncio.to_thread(self._tokenizer.close)

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        name, engine, *where = request.body["prompt"].split(" / ")
        call = self._calls(self._runtimes[engine])[name]
        try:
            if where == ["in a thread"]:
                await asyncio.to_thread(call)
            else:
                call()
        except dynamo_llm.DynamoError as error:
            yield {"text": f"{type(error).__name__}: {error}"}
        else:
            yield {"text": "done"}

    def _calls(self, runtime: Runtime) -> dict[str, Callable[[], Any]]:
        def sent() -> Any:
            return runtime.complete("x")

        return {
            "Runtime()": lambda: Runtime(engine="echoes:Async", python=self._python),
            "Runtime(native)": lambda: Runtime(engine="echo"),
            "result()": lambda: sent().result(),
            "iteration": lambda: list(sent()),
            "receive()": lambda: sent().receive(),
            "receive(5)": lambda: sent().receive(5),
            "call()": lambda: runtime.call("sleep"),
            "shutdown()": runtime.shutdown,
            "shutdown(0)": lambda: runtime.shutdown(0),
            "close()": runtime.close,
            "with": lambda: runtime.__exit__(None, None, None),
            "Tokenizer()": Tokenizer,
            "encode()": lambda: self._tokenizer.encode("x"),
            "decode()": lambda: self._tokenizer.decode([1]),
            "apply_template()": lambda: self._tokenizer.apply_template("x"),
            "add()": lambda: self._detokenizer.add(1),
            "Tokenizer.close()": self._tokenizer.close,
            "Router()": lambda: dynamo_llm.Router(workers=[{"worker_id": 1}], kv_block_size=16),
            "Worker()": lambda: dynamo_llm.Worker(endpoint="a.b.c", runtime={"engine": "echo"}),
            "KvPublisher()": lambda: dynamo_llm.KvPublisher(endpoint="a.b.c", kv_block_size=16),
            "ctypes": lambda: _in_c(b'{"engine": "echo"}'),
        }


def _in_c(config: bytes) -> None:
    library = ctypes.CDLL(str(paths.lib_dir() / "libdynamo_llm_capi.so.1"))
    library.dynamo_runtime_create.restype = ctypes.c_void_p
    library.dynamo_last_error.restype = ctypes.c_char_p
    assert library.dynamo_runtime_create(config) is None
    raise dynamo_llm.InvalidStateError(library.dynamo_last_error().decode())


class Opening:
    """Makes a runtime for each request, as it should, and passes the request on to it."""

    def __init__(self, config: EngineConfig) -> None:
        self._python = config.python

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        async with await Runtime.open(engine="slow:Slow", options={"seconds": 0.1}, python=self._python):
            yield {"text": "done"}

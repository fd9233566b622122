# SPDX-License-Identifier: Apache-2.0
"""The program of an isolated engine's child process: it answers the parent's requests with its own runtime.

The main thread has an event loop of its own, on which it reads frames, sends requests to the runtime, and
writes the answers. So answers leave the process even while an engine blocks the event loop that it runs on.
Only the answer to a heartbeat goes through the engine's event loop.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import functools
import json
import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dynamo_llm import _core, paths
from dynamo_llm.api.creation import Progress
from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import DynamoError, EngineFailedError, EngineUnavailableError
from dynamo_llm.runtime import host
from dynamo_llm.runtime.error_report import OF_CORE, describe
from dynamo_llm.runtime.isolation import frames
from dynamo_llm.runtime.isolation.outbox import Outbox
from dynamo_llm.runtime.threads import in_thread

_OK = _core.STATUSES["DYNAMO_OK"]
_END = _core.STATUSES["DYNAMO_END"]

#: Milliseconds by which a deadline is later here, so that the parent is the one that ends the request.
_later_ms = 50

#: Python's thread switch interval in seconds: the main thread must not wait long for the engine's threads.
_switch_interval = 0.0005

#: Seconds between two checks for changes that the parent is told of.
_check_interval = 0.5

#: Keys of the library's model object that are not the engine's, besides ``id``.
_not_described = ("object", "created", "owned_by", "engine")


@dataclass(eq=False)
class _Answer:
    """The answer to one request, which is sent to the parent as fast as its credit allows. On the main
    thread's event loop.
    """

    server: "_Server"
    number: int
    """Number of the request on this connection."""
    core: _core.Request
    kind: str
    """The body's key with the prompt: ``messages``, ``prompt``, or ``input``, which stands for all kinds of
    requests whose answer is a list; empty for raw requests."""
    credit: int
    """Tokens that the parent accepts."""
    _usage: _core.Usage | None = None
    _descriptor: int = -1  # the one that the event loop watches

    def add_credit(self, tokens: int) -> None:
        """Notes that the parent accepts so many more tokens."""
        self.credit += tokens
        if self._descriptor < 0 and self.credit > 0:
            self.advance()

    def cancel(self) -> None:
        """Cancels the request."""
        self.core.cancel()
        self.add_credit(1 << 40)

    def advance(self) -> None:
        """Sends what has come, then waits for more of the answer, for credit, or for the channel."""
        try:
            while self.credit > 0:
                if self.server.outbox.is_full:
                    self._unwatch()
                    self.server.outbox.when_writable(self.advance)
                    return
                status, response = self.core.receive(0)
                if response is not None:
                    self._usage = response.usage or self._usage
                    self._send(response)
                elif status == _END:
                    usage = self._usage.json() if self._usage else {}
                    self._end(frames.frame_json(frames.END, self.number, usage))
                    return
                else:
                    self._watch()
                    return
            self._unwatch()
        except BaseException as error:
            self._end(frames.frame_json(frames.FAIL, self.number, failure(error)))
            if not isinstance(error, Exception):
                raise

    def _send(self, response: _core.Response) -> None:
        put, number = self.server.outbox.put, self.number
        if not self.kind:
            for one in response.items:
                put(frames.item(number, one))
                self.credit -= 1
            return
        text, ids, reason = response.text, response.token_ids, response.finish_reason
        more = _more(response.json(), text, self.kind)
        if text or ids or reason or more:
            count = len(ids) or int(bool(text or more))  # as the library counts
            put(frames.chunk(number, response.index, text.encode(), ids, count, reason, more))
            self.credit -= max(1, count)

    def _end(self, frame: bytes) -> None:
        self._unwatch()
        self.server.answers.pop(self.number, None)
        self.server.outbox.put(frame)

    def _watch(self) -> None:
        if self._descriptor < 0:
            self._descriptor = self.core.fileno()
            self.server.loop.add_reader(self._descriptor, self.advance)

    def _unwatch(self) -> None:
        if self._descriptor >= 0:
            self.server.loop.remove_reader(self._descriptor)
            self._descriptor = -1


def _more(whole: dict[str, Any], text: str, kind: str) -> dict[str, Any]:
    """Returns what a response has besides text and tokens, as the engine yielded it."""
    if kind == "input":
        own = ("id", "object", "created", "usage")
        delta = {key: value for key, value in whole.items() if key not in own}
        return {"delta": delta} if "data" in delta or "results" in delta else {}
    if not whole["choices"]:
        return {}  # only token counts
    (choice,) = whole["choices"]
    more: dict[str, Any] = {}
    if logprobs := choice.get("logprobs"):
        more["logprobs"] = logprobs
    if kind == "messages":
        delta = choice["delta"]
        if delta.get("content") in (None, text):
            delta.pop("content", None)
        if delta.get("role") == "assistant":
            delta.pop("role")
    else:
        own = ("index", "text", "logprobs", "finish_reason")
        delta = {key: value for key, value in choice.items() if key not in own}
    if delta:
        more["delta"] = delta
    return more


def failure(error: BaseException) -> dict[str, Any]:
    """Returns an error for the parent: status, message, and the details that the library does not set."""
    if isinstance(error, DynamoError) and "status" in error.details:
        details = {key: value for key, value in error.details.items() if key not in OF_CORE}
        return {"status": error.status, "message": error.message, "details": details}
    status, message, detail = describe(error)
    return {"status": status, "message": message, "details": json.loads(detail)}


def _description(models: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Reconstructs the engine's description from the models that the runtime lists."""
    described = [
        {key: value for key, value in model.items() if key not in _not_described} for model in models
    ]
    if len(described) == 1 and described[0]["id"] == name:
        return {key: value for key, value in described[0].items() if key != "id"}
    return {"changes": True, "models": described}


def _of_engine(metrics: str) -> str:
    """Returns the metrics of the engine itself; the parent has the library's."""
    lines = metrics.splitlines(keepends=True)
    own = ("# HELP dynamo_llm_", "# TYPE dynamo_llm_", "dynamo_llm_")
    return "".join(line for line in lines if not line.startswith(own))


class _Server:
    """Handles the parent's frames, on the main thread's event loop."""

    def __init__(self, runtime: Runtime, channel: socket.socket, setup: dict[str, Any]) -> None:
        self._runtime = runtime
        self._channel = channel
        self._window: int = setup["window"]
        self._name: str = setup["name"]
        self._reader = frames.Reader()
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.loop, channel)
        self.answers: dict[int, _Answer] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._stopped: asyncio.Future[None] = self.loop.create_future()
        self._models = ""
        self._metrics = ""

    async def run(self) -> None:
        """Runs until the parent closes the channel."""
        self._channel.setblocking(False)
        self._tell_models(frames.READY)
        self.loop.add_reader(self._channel, self._on_readable)
        reporting = self.loop.create_task(self._report_changes())
        try:
            await self._stopped
        finally:
            reporting.cancel()
            self.loop.remove_reader(self._channel)

    async def _report_changes(self) -> None:
        """Sends models and metrics to the parent when they change."""
        while True:
            await asyncio.sleep(_check_interval)
            self._tell_models(frames.MODELS)
            metrics = _of_engine(self._runtime.metrics())
            if metrics != self._metrics:
                self._metrics = metrics
                self.outbox.put(frames.frame(frames.METRICS, 0, metrics.encode()))

    def _tell_models(self, kind: int) -> None:
        models = json.dumps(_description(self._runtime.models(), self._name))
        if models != self._models:
            self._models = models
            self.outbox.put(frames.frame(kind, 0, models.encode()))

    def _on_readable(self) -> None:
        try:
            data = self._channel.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            if not self._stopped.done():
                self._stopped.set_result(None)
            return
        for kind, number, payload in self._reader.feed(data):
            if kind == frames.REQUEST:
                self._on_request(number, *frames.read_request(payload))
            elif kind == frames.CREDIT:
                if answer := self.answers.get(number):
                    answer.add_credit(frames.read_credit(payload))
            elif kind == frames.CANCEL:
                if answer := self.answers.get(number):
                    answer.cancel()
                elif call := self._calls.get(number):
                    call.cancel()
            elif kind == frames.PING:
                self._answer_heartbeat()

    def _answer_heartbeat(self) -> None:
        """Answers by way of the event loop that engines in Python run on, if there is one."""
        if host._host is None:
            self._put_pong()
        else:
            put = functools.partial(self.loop.call_soon_threadsafe, self._put_pong)
            host._host.loop.call_soon_threadsafe(put)

    def _put_pong(self) -> None:
        self.outbox.put(frames.frame(frames.PONG))

    async def _call(self, number: int, remaining_ms: int, content: bytes) -> None:
        """Runs a control call. If it is cancelled, it ends for the parent, and continues in a thread here."""
        try:
            command = json.loads(content)
            timeout_ms = -1 if remaining_ms < 0 else remaining_ms + _later_ms
            arguments = (command["name"], json.dumps(command["arguments"]), timeout_ms)
            result = await in_thread(self._runtime._core.call, *arguments)
            self._tell_models(frames.MODELS)  # the call may have loaded an adapter
            self.outbox.put(frames.item(number, json.loads(result)))
            self.outbox.put(frames.frame_json(frames.END, number, {}))
        except BaseException as error:
            self.outbox.put(frames.frame_json(frames.FAIL, number, failure(error)))
        finally:
            del self._calls[number]

    def _on_request(self, number: int, kind: int, remaining_ms: int, content: bytes) -> None:
        if kind == frames.CALL:
            self._calls[number] = self.loop.create_task(self._call(number, remaining_ms, content))
            return
        try:
            if kind == frames.OPENAI:
                body = json.loads(content)
                body_kind = next((key for key in ("messages", "prompt") if key in body), "input")
                if body.get("stream") is False and body_kind != "input":
                    # The parent assembles the answer; here it is streamed.
                    content = json.dumps({**body, "stream": True}).encode()
                core = _core.Request(content.decode())
            else:
                body_kind = ""
                core = _core.Request.of_data(content, kind == frames.JSON)
            if remaining_ms >= 0:
                core.set_deadlines(-1, remaining_ms + _later_ms)
            self._runtime._core.send(core)
        except BaseException as error:
            self.outbox.put(frames.frame_json(frames.FAIL, number, failure(error)))
            return
        answer = self.answers[number] = _Answer(self, number, core, body_kind, self._window)
        answer.advance()


def _send_records(level: int) -> None:
    """Sends the library's own log records from a level on to the parent; those of Python go there already."""
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p)
    names = ["DEBUG", "DEBUG", "INFO", "WARNING", "ERROR"]

    def on_record(_user: Any, level: int, logger: bytes, message: bytes) -> None:
        head = names[level].encode() + b" " + logger + b": "
        data = b"".join(head + line + b"\n" for line in message.splitlines())
        while data:
            data = data[os.write(2, data) :]

    global _on_record
    _on_record = prototype(on_record)
    library = ctypes.CDLL(str(paths.lib_dir() / "libdynamo_llm_capi.so.1"))
    library.dynamo_log_set_callback.argtypes = [ctypes.c_int32, prototype, ctypes.c_void_p, ctypes.c_void_p]
    library.dynamo_log_set_callback(level, _on_record, None, None)


_on_record: Any = None  # kept alive: the library calls it until the process ends


def _prepare(setup: dict[str, Any]) -> None:
    """Sets up the process before the engine is loaded."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError):  # if memory runs out, the kernel kills this process, not the parent
        file = Path("/proc/self/oom_score_adj")
        file.write_text(str(min(1000, int(file.read_text()) + 300)))
    faulthandler.enable(all_threads=False)
    _send_records(setup["log_level"])
    if limit := setup["memory_limit_mib"]:
        resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))


def _open_library(path: str) -> None:
    """Loads a shared library, which registers its engines."""
    try:
        register = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL).dynamo_llm_register_engines
    except (OSError, AttributeError) as error:
        raise EngineUnavailableError(
            f'"isolation_options.engine_library" of the configuration, "{path}", cannot be used: {error}; it '
            "must be a shared library with the function int32_t dynamo_llm_register_engines(void)"
        ) from None
    status = register()
    if status < 0:
        raise EngineFailedError(f'dynamo_llm_register_engines() of "{path}" failed with status {status}')


def _report_progress(channel: socket.socket, progress: Progress) -> None:
    channel.setblocking(True)
    channel.sendall(frames.frame_json(frames.PROGRESS, 0, vars(progress)))


async def _serve(runtime: Runtime, channel: socket.socket, setup: dict[str, Any]) -> None:
    await _Server(runtime, channel, setup).run()


def serve(channel: socket.socket, setup: dict[str, Any]) -> None:
    """Runs an isolated engine until the parent closes the channel. Does not return.

    :param setup: ``config``, ``library``, ``window``, ``name``, ``log_level``, ``memory_limit_mib``.
    """
    try:
        _prepare(setup)
        if library := setup["library"]:
            _open_library(library)
        runtime = Runtime(setup["config"], progress=functools.partial(_report_progress, channel))
    except BaseException as error:
        channel.setblocking(True)
        channel.sendall(frames.frame_json(frames.REFUSED, 0, failure(error)))
        _end()
    sys.setswitchinterval(_switch_interval)
    asyncio.run(_serve(runtime, channel, setup))
    runtime.close()
    _end()


def _end() -> NoReturn:
    """Ends the process without waiting for threads of the engine."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)

# SPDX-License-Identifier: Apache-2.0
"""Nothing waits for the thread that it runs on. A blocking call on the library's event loop, or with the GIL
that an engine needs, fails at once; objects that are dropped there are stopped in the background.
"""

import ctypes
import gc
import json
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import compile_c, dynamo_config, engine, engines_dir, run, tests_dir
from dynamo_llm import DynamoError, Runtime
from hosting import Library
from reliability import reliability
from waiting import patience, wait_until


@pytest.fixture(scope="module")
def waiting() -> Iterator[Runtime]:
    """An engine that makes blocking calls on the event loop."""
    with Runtime(engine("blocking:Waiting")) as runtime:
        yield runtime


@pytest.fixture
def bystander() -> Iterator[Runtime]:
    """A runtime with a Python engine that answers before and after."""
    with Runtime(engine("echoes:Async")) as runtime:
        assert runtime.complete("a", timeout=patience).result().text == "a "
        yield runtime
        assert runtime.complete("b", timeout=patience).result().text == "b "


def said(waiting: Runtime, call: str, used: str = "echoes:Async", where: str = "on the loop") -> str:
    """Returns the result of a call, or its error."""
    return waiting.complete(f"{call} / {used} / {where}", timeout=patience).result().text


in_coroutines = {
    "Runtime()": "await Runtime.open(...)",
    "Runtime(native)": "await Runtime.open(...)",
    "result()": "await request, or async for response in request",
    "iteration": "await request, or async for response in request",
    "receive()": "await request, or async for response in request",
    "receive(5)": "await request, or async for response in request",
    "call()": "await runtime.call_async(...)",
    "shutdown()": "await asyncio.to_thread(runtime.close)",
    "shutdown(0)": "await asyncio.to_thread(runtime.close)",
    "close()": "await asyncio.to_thread(runtime.close)",
    "with": "async with runtime",
    "Tokenizer()": "await Tokenizer.open(...)",
    "encode()": "await asyncio.to_thread(...)",
    "apply_template()": "await asyncio.to_thread(...)",
    "Tokenizer.close()": "await asyncio.to_thread(...)",
    "Router()": "await Router.open(...)",
    "Worker()": "await Worker.open(...)",
    "KvPublisher()": "await KvPublisher.open(...)",
    "ctypes": "await Runtime.open(...)",
}


@pytest.mark.parametrize("call", in_coroutines)
def test_blocking_calls_on_the_event_loop(waiting: Runtime, bystander: Runtime, call: str) -> None:
    """The error names the asynchronous form; other engines continue."""
    text = said(waiting, call)
    assert text.startswith("InvalidStateError: ") and "on the library's own loop" in text, text
    assert in_coroutines[call] in text
    reliability("a coroutine of an engine makes a blocking call", 1, "INVALID_STATE at once; others went on")


@pytest.mark.parametrize("used", ["stalling:Async", "echo"])
def test_blocking_calls_for_any_engine(waiting: Runtime, used: str) -> None:
    """The call fails even if nothing would ever arrive, or if it would arrive without the event loop."""
    for call in ("result()", "receive(5)", "close()"):
        text = said(waiting, call, used)
        assert text.startswith("InvalidStateError: "), text


def test_blocking_calls_in_threads_of_the_engine(waiting: Runtime) -> None:
    """The same calls work in a thread."""
    for call in ("Runtime()", "result()", "encode()", "iteration"):
        assert said(waiting, call, where="in a thread") == "done"


def test_blocking_calls_on_the_event_loop_of_a_c_program(tmp_path: Path) -> None:
    """There, Python regards the event loop's thread as the main thread."""
    source = tests_dir / "python" / "ask.c"
    program = compile_c(source, tmp_path / "ask", *dynamo_config("--cflags", "--libs").split())
    for call in ("Runtime()", "result()", "close()", "Tokenizer()", "Worker()"):
        result = run([program, json.dumps(engine("blocking:Waiting")), f"{call} / echoes:Async"])
        assert result.stdout.startswith("InvalidStateError: "), (call, result.stdout, result.stderr)


def test_runtimes_opened_in_many_coroutines() -> None:
    """More runtimes at once than the event loop has threads: each start and stop has its own thread."""
    with Runtime(engine("blocking:Opening")) as runtime:
        requests = [runtime.complete("x", timeout=patience) for _ in range(80)]
        assert {request.result().text for request in requests} == {"done"}


dropped = ["runtime", "native runtime", "request", "tokenizer", "detokenizer"]


@pytest.mark.many(3)
@pytest.mark.parametrize("kind", ["Async", "Threaded"])
@pytest.mark.parametrize("what", dropped)
def test_collected_where_engines_run(bystander: Runtime, kind: str, what: str) -> None:
    """The garbage-collecting thread does not wait for the engine's stop, which takes nine seconds, or needs
    that thread.
    """
    with Runtime(engine(f"dropping:{kind}")) as runtime:
        seconds = float(runtime.complete(what, timeout=patience).result().text)
    assert seconds < 8  # with a wait: nine, or ten if the stop needs that thread
    reliability(
        "the collector of garbage finds an object of the library in a thread of an engine, or on the loop",
        1,
        "the thread went on; the engine was stopped in the background",
    )


def test_a_dropped_runtime_is_stopped() -> None:
    """The thread that drops it does not wait for that."""
    stopped: Any = ModuleType("stopped_engines")
    sys.modules["stopped_engines"] = stopped
    stopped.count = 0

    class Counting:
        def __init__(self, config: Any) -> None: ...

        def start(self) -> None: ...

        def stop(self) -> None:
            stopped.count += 1

        def generate(self, request: Any) -> Any:
            yield {"text": "x"}

    stopped.Counting = Counting
    for _ in range(3):
        runtime = Runtime(engine="stopped_engines:Counting")
        assert runtime.complete("x").result().text == "x"
        del runtime
    gc.collect()
    wait_until(lambda: stopped.count == 3)


# ---------------------------------------------------------------------------------- with the GIL


@pytest.fixture(scope="module")
def held() -> Library:
    """The C library, whose functions keep the GIL while they run."""
    return Library(ctypes.PyDLL)


class Event(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("request", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
        ("response", ctypes.c_void_p),
        ("status", ctypes.c_int32),
    ]


def stalled(library: Library, name: str = "stalling:Async") -> tuple[int, int]:
    """Creates a runtime and an endless request, and receives its first word."""
    runtime = library.engine(name)
    request = Library().send(runtime, {"prompt": "word"})
    assert next(Library().texts(request)) == "word"
    return runtime, request


def refused(library: Library) -> bool:
    """Whether the last call was rejected because of the GIL."""
    text = library.error()
    assert text.startswith("ERROR_INVALID_STATE: ") and "with Python's GIL held" in text, text
    return True


def test_receiving_with_the_gil(held: Library) -> None:
    """It fails instead of waiting for itself; what is available without waiting is returned."""
    released = Library()
    held.c.dynamo_request_next.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p)]
    for name in ("stalling:Async", "stalling:Threaded"):
        runtime, request = stalled(held, name)
        out = ctypes.c_void_p()
        assert held.c.dynamo_request_recv(request) is None and refused(held)
        for timeout in (-1, 1, 100_000):
            status = held.c.dynamo_request_next(request, timeout, out)
            assert held.status(status) == "ERROR_INVALID_STATE" and refused(held)
        assert held.status(held.c.dynamo_request_next(request, 0, out)) == "PENDING"
        assert held.status(held.c.dynamo_request_status(request)) == "PENDING"
        held.c.dynamo_request_cancel(request)
        assert list(released.texts(request)) == []  # nothing was lost, and the request is unchanged
        held.c.dynamo_request_destroy(request)
        held.c.dynamo_runtime_destroy(runtime)
    reliability("a program receives with the GIL held that the engine needs", 8, "INVALID_STATE at once")


def test_shutting_down_with_the_gil(held: Library) -> None:
    """It is rejected, and the runtime still accepts requests; destroying it does not wait."""
    for _ in range(3):
        runtime, request = stalled(held)
        for timeout in (-1, 0, 100_000):
            status = held.c.dynamo_runtime_shutdown(runtime, timeout)
            assert held.status(status) == "ERROR_INVALID_STATE" and refused(held)
        assert Library().answer(runtime, {"prompt": "go"}) == "go"
        held.c.dynamo_request_destroy(request)
        start = time.monotonic()
        held.c.dynamo_runtime_destroy(runtime)
        assert time.monotonic() - start < 5  # with a wait: ten seconds


def test_queue_with_the_gil(held: Library) -> None:
    """A queue rejects a wait once it has a request of a Python engine; until then it waits."""
    library = Library()
    for each in (held, library):
        each.c.dynamo_queue_create.restype = ctypes.c_void_p
        each.c.dynamo_queue_destroy.argtypes = [ctypes.c_void_p]
        each.c.dynamo_queue_next.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(Event)]
        each.c.dynamo_request_set_queue.argtypes = [ctypes.c_void_p] * 3
    queue = held.c.dynamo_queue_create()
    event = Event(ctypes.sizeof(Event))

    def send(runtime: int) -> int:
        request = library.c.dynamo_request_create(b'{"prompt": "x"}')
        assert library.c.dynamo_request_set_queue(request, queue, None) == 0
        assert library.c.dynamo_request_send(runtime, request) == 0
        return request

    native, hosted = library.create({"engine": "echo"}), library.engine("stalling:Async")
    first = send(native)
    while held.c.dynamo_queue_next(queue, -1, event) == 0 and event.response:
        held.c.dynamo_free(event.response)
    assert held.status(event.status) == "END"
    second = send(hosted)
    assert library.c.dynamo_queue_next(queue, -1, event) == 0  # its first word
    library.c.dynamo_free(event.response)
    for timeout in (-1, 100_000):
        status = held.c.dynamo_queue_next(queue, timeout, event)
        assert held.status(status) == "ERROR_INVALID_STATE" and refused(held)
    assert held.status(held.c.dynamo_queue_next(queue, 0, event)) == "PENDING"
    for request in (first, second):
        library.c.dynamo_request_destroy(request)
    held.c.dynamo_queue_destroy(queue)
    library.c.dynamo_runtime_destroy(native)
    library.c.dynamo_runtime_destroy(hosted)


def test_tokenizer_with_the_gil(held: Library) -> None:
    """Calls that wait for Python are rejected; it can be created and decodes; destroying it does not wait."""
    c, pointer = held.c, ctypes.c_void_p
    c.dynamo_tokenizer_create.restype = c.dynamo_tokenizer_apply_template.restype = pointer
    c.dynamo_detokenizer_create.restype = c.dynamo_detokenizer_add.restype = pointer
    c.dynamo_tokenizer_destroy.argtypes = c.dynamo_detokenizer_destroy.argtypes = [pointer]
    c.dynamo_detokenizer_create.argtypes = [pointer, ctypes.c_int32]
    c.dynamo_tokenizer_encode.argtypes = [pointer, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32] + [
        pointer
    ] * 2
    c.dynamo_detokenizer_add.argtypes = [pointer, pointer, ctypes.c_size_t, pointer]
    tokenizer = c.dynamo_tokenizer_create(b"{}")
    assert tokenizer, held.error()
    detokenizer = c.dynamo_detokenizer_create(tokenizer, 1)
    ids, count, one = ctypes.c_void_p(), ctypes.c_size_t(), (ctypes.c_uint32 * 1)(5)
    assert c.dynamo_tokenizer_encode(tokenizer, b"x", 1, 1, ctypes.byref(ids), ctypes.byref(count)) < 0
    assert refused(held)
    text = c.dynamo_detokenizer_add(detokenizer, one, 1, None)
    assert text is not None, held.error()
    held.c.dynamo_free(ctypes.c_void_p(text))
    start = time.monotonic()
    c.dynamo_detokenizer_destroy(detokenizer)
    c.dynamo_tokenizer_destroy(tokenizer)
    assert time.monotonic() - start < 5


class CreationEvent(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("status", ctypes.c_int32),
        ("progress", ctypes.c_void_p),
        ("runtime", ctypes.c_void_p),
        ("error", ctypes.c_char_p),
        ("error_json", ctypes.c_char_p),
    ]


on_creation_event = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(CreationEvent))


def create_async(library: Library, config: Any, callback: Any) -> int:
    """Creates a runtime without waiting. The callback must live until the end."""
    creation = library.c.dynamo_runtime_create_async(json.dumps(config).encode(), callback, None, None)
    assert creation, library.error()
    return creation


def test_waiting_for_a_creation_with_the_gil(held: Library) -> None:
    """It is rejected before the creation has ended; a poll is not."""
    released = Library()
    runtimes: list[int] = []

    @on_creation_event
    def on_event(_user: Any, event: Any) -> None:
        if event.contents.status == 0:
            runtimes.append(event.contents.runtime)

    slow = engine("loading:Threaded", options={"seconds": 0.5})
    released.finish(released.engine("echoes:Async"))  # the host of Python engines runs
    creation = create_async(released, slow, on_event)
    for timeout in (-1, 100_000):
        status = held.c.dynamo_creation_wait(creation, timeout)
        assert held.status(status) == "ERROR_INVALID_STATE" and refused(held)
    assert held.status(held.c.dynamo_creation_wait(creation, 0)) == "PENDING"
    assert released.c.dynamo_creation_wait(creation, 60_000) == 0, released.error()
    released.finish(runtimes.pop())
    released.c.dynamo_creation_destroy(creation)


def test_creating_a_runtime_with_progress_in_a_callback() -> None:
    """The callback thread, which would deliver the progress, cannot wait for it."""
    library = Library()
    found: list[str] = []

    def attempt(**keys: Any) -> str:
        try:
            Runtime(engine="echo", **keys).close()
        except DynamoError as error:
            return f"{type(error).__name__}: {error}"
        return "created"

    @on_creation_event
    def on_event(_user: Any, _event: Any) -> None:
        if not found:
            found.extend([attempt(progress=lambda report: None), attempt()])

    creation = create_async(library, {"engine": "no-such-engine"}, on_event)
    assert library.c.dynamo_creation_wait(creation, 60_000) == 0, library.error()
    library.c.dynamo_creation_destroy(creation)
    refusal, without = found
    assert refusal.startswith("InvalidStateError: ") and "in a callback of the library" in refusal
    assert without == "created"
    reliability("Runtime(progress=...) in a callback of the C library", 1, "INVALID_STATE at once")


def test_another_thread_sends_meanwhile(held: Library) -> None:
    """A thread without the GIL is not affected: it receives while others hold the GIL in turn."""
    runtime = held.engine("echoes:Async")
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(Library().answer(runtime, {"prompt": "a"})))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    assert results == ["a "] * 4
    Library().finish(runtime)


def test_an_extension_that_holds_the_gil(tmp_path: Path) -> None:
    """A C extension module calls a Python engine."""
    include = sysconfig.get_paths()["include"]
    flags = ["-shared", "-fPIC", f"-I{include}", *dynamo_config("--cflags", "--libs").split(), "-pthread"]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compile_c(Path(__file__).parent / "extension.c", tmp_path / f"extension{suffix}", *flags)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import extension
config = '{{"engine": "echoes:Async", "python": {{"path": ["{engines_dir}"]}}}}'
for _ in range(3):
    try:
        print(extension.ask(config, "with the GIL"))
    except RuntimeError as error:
        assert "with Python's GIL held" in str(error), error
    assert extension.ask(config, "without the GIL") == "a b "
print("done")
"""
    result = run([sys.executable, "-c", code])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr

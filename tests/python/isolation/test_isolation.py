# SPDX-License-Identifier: Apache-2.0
"""``"isolation": "process"``: engines in a child process; if it ends, the host does not."""

import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import Ask, compile_c, dynamo_config, engine, engines_dir, run, tests_dir
from dynamo_llm import EngineFailedError, Runtime
from reliability import reliability
from waiting import patience, wait_until


def isolated(
    name: str = "crashing:Crashing", isolation: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Returns the configuration of an engine of tests/engines in a child process."""
    config = engine(name, **more)
    return {
        **config,
        "isolation": "process",
        "isolation_options": {"restart_delay_ms": 10, **(isolation or {})},
    }


def text_of(runtime: Runtime, prompt: str) -> str:
    return str(runtime.complete(prompt, timeout=patience).result().text)


def pid_of(runtime: Runtime) -> int:
    return int(text_of(runtime, "pid"))


def words(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def receive_all(request: dynamo_llm.Request[Any]) -> tuple[str, BaseException | None]:
    """Returns the text of a request and the error that ended it; checks that it ends once."""
    text = ""
    error: BaseException | None = None
    try:
        while (response := request.receive(patience)) is not None:
            text += response.text
    except dynamo_llm.DynamoError as failure:
        error = failure
        with pytest.raises(type(failure)):
            request.receive(0)
    return text, error


@pytest.fixture
def crashing() -> Iterator[Runtime]:
    with Runtime(isolated()) as runtime:
        yield runtime


def test_it_answers_as_in_process() -> None:
    for config in ({"engine": "echo"}, {"options": {"max_seqs": 4}}):
        answers = []
        for more in ({}, {"isolation": "process"}):
            with Runtime({**config, **more}) as runtime:
                models = runtime.models()
                request = runtime.chat(
                    "What is a KV cache?", max_tokens=12, temperature=0, logprobs=bool("options" in config)
                )
                responses = list(request)
                whole = runtime.chat("What is it?", max_tokens=3, stream=False, temperature=0).result()
                for model in models:
                    model.pop("created")
                last = responses[-1]
                assert last.usage is not None
                answers.append(
                    (
                        models,
                        "".join(response.text for response in responses),
                        [token for response in responses for token in response.token_ids],
                        last.finish_reason,
                        last.usage.json(),
                        whole.text,
                        whole.finish_reason,
                    )
                )
        assert answers[0] == answers[1]


@pytest.mark.many(3)
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("abort", "was killed by SIGABRT"),
        ("segfault", "was killed by SIGSEGV"),
        ("kill", "was killed by SIGKILL"),
        ("exit", "exited with status 3"),
        ("libc-exit", "exited with status 4"),
    ],
)
def test_an_end_of_the_child_ends_only_its_requests(crashing: Runtime, how: str, said: str) -> None:
    """Earlier responses arrive, then ENGINE_FAILED with the reason; the next request is answered."""
    rounds = 3
    for _ in range(rounds):
        others = [crashing.complete(f"slow {10_000}") for _ in range(3)]
        text, error = receive_all(crashing.complete(f"{how} 20"))
        assert text == words(20)
        assert isinstance(error, EngineFailedError), error
        assert said in error.message
        assert error.retriable and not error.fatal
        assert error.details["child"]["pid"] != os.getpid()
        stderr = "\n".join(error.details["child"]["stderr"])
        if how == "exit":
            assert "the last words" in stderr
        if how in ("abort", "segfault"):
            assert "Fatal Python error" in stderr and "crashing.py" in stderr
        for other in others:
            rest, error = receive_all(other)
            assert isinstance(error, EngineFailedError)
            assert words(10_000).startswith(rest)
        assert text_of(crashing, "fine 5") == words(5)
    reliability(
        f"an isolated engine ends its process: {how}",
        rounds,
        "its requests ended with ENGINE_FAILED, after what had come; the next one had its answer",
    )


@pytest.mark.many(3)
@pytest.mark.parametrize("how", ["stop", "block", "spin"])
def test_a_child_that_hangs_is_killed(how: str) -> None:
    with Runtime(isolated(isolation={"heartbeat_timeout_ms": 5000})) as runtime:
        text, error = receive_all(runtime.complete(f"{how} 3"))
        assert text == words(3)
        assert isinstance(error, EngineFailedError)
        assert "did not answer for 5000 ms" in error.message
        assert text_of(runtime, "fine 5") == words(5)
    reliability(
        f"an isolated engine hangs: {how}", 1, "killed after the limit; ENGINE_FAILED; the next one answered"
    )


def test_errors_are_those_of_the_engine(crashing: Runtime) -> None:
    _, error = receive_all(crashing.complete("raise 2"))
    assert isinstance(error, EngineFailedError)
    assert error.message == "ValueError: it is wrong"
    assert error.details["python"]["type"] == "ValueError"
    assert "crashing.py" in error.details["python"]["traceback"]
    assert error.details["engine"] == "crashing:Crashing"
    _, error = receive_all(crashing.complete("exit-python 2"))
    assert isinstance(error, EngineFailedError)
    assert text_of(crashing, "fine 5") == words(5)


def test_kills_at_any_time() -> None:
    """No response before the failure is lost or duplicated, and each request ends once."""
    chance = random.Random(7)
    rounds, failed = 12, 0
    with Runtime(isolated(isolation={"max_restart_delay_ms": 20})) as runtime:
        for _ in range(rounds):
            pid = pid_of(runtime)
            requests = [runtime.complete(f"random {500}") for _ in range(5)]
            timer = threading.Timer(chance.random() * 0.6, os.kill, (pid, signal.SIGKILL))
            timer.start()
            for request in requests:
                text, error = receive_all(request)
                if error is None:
                    assert text == words(500)
                else:
                    failed += 1
                    assert isinstance(error, EngineFailedError), error
                    assert words(500).startswith(text)
            timer.join()
            wait_until(lambda pid=pid: not is_there(pid))
        statistics = runtime.statistics()["requests"]
        assert statistics["in_flight"] == 0
    assert failed
    reliability(
        "SIGKILL to the child of an isolated engine, at any time",
        rounds,
        "each request had a beginning of its answer and one ENGINE_FAILED, or its whole answer",
    )


def test_a_hundred_streams_at_once(crashing: Runtime) -> None:
    requests = [crashing.complete(f"slow {100 + number}") for number in range(100)]
    for number, request in enumerate(requests):
        assert receive_all(request) == (words(100 + number), None)
    assert crashing.statistics()["tokens"]["received"] == sum(range(100, 200))


def test_backpressure_bounds_both_processes() -> None:
    """The child waits while its stream is not read, and nothing is lost."""
    with Runtime(isolated(stream={"capacity": 16})) as runtime:
        request = runtime.complete("fast 20000")
        wait_until(lambda: runtime.statistics()["streams"]["full"] > 0)
        time.sleep(0.2)
        pushed = runtime.statistics()["tokens"]["pushed"]
        assert pushed <= 16 + 1
        assert text_of(runtime, "fine 5") == words(5)
        assert receive_all(request) == (words(20000), None)


def test_cancel_and_deadline(crashing: Runtime) -> None:
    request = crashing.complete("slow 1000000")
    assert request.receive(patience) is not None
    request.cancel()
    _, error = receive_all(request)
    assert isinstance(error, dynamo_llm.CancelledError)
    _, error = receive_all(crashing.complete("slow 1000000", timeout=0.2))
    assert isinstance(error, dynamo_llm.DeadlineExceededError)
    wait_until(lambda: crashing.statistics()["requests"]["in_flight"] == 0)


def test_a_start_that_fails(tmp_path: Path) -> None:
    with pytest.raises(dynamo_llm.EngineNotFoundError, match="no engine is called"):
        Runtime({"engine": "ecko", "isolation": "process"})
    with pytest.raises(dynamo_llm.ModelNotFoundError, match="nowhere"):
        Runtime({"model": str(tmp_path / "nowhere"), "isolation": "process"})
    for how, said in (("abort", "was killed by SIGABRT"), ("exit", "exited with status 3")):
        with pytest.raises(EngineFailedError, match=said) as caught:
            Runtime(isolated(options={"at_start": how}))
        assert caught.value.details["child"]["stderr"]
    with pytest.raises(EngineFailedError, match="did not start in its child process within 3000 ms"):
        Runtime(isolated(options={"at_start": "block"}, isolation={"start_timeout_ms": 3000}))


def test_starts_again_with_a_delay(tmp_path: Path) -> None:
    """The first restart is immediate, later ones are delayed; waiting requests get the error."""
    marks = tmp_path / "marks"
    options = {"marks": str(marks), "starts": 2}
    delays = {"restart_delay_ms": 300, "max_restart_delay_ms": 1000}
    with Runtime(isolated(options=options, isolation=delays)) as runtime:
        receive_all(runtime.complete("abort"))
        assert text_of(runtime, "fine 5") == words(5)
        assert marks.read_bytes() == b".."
        receive_all(runtime.complete("abort"))
        times = []
        for _ in range(3):
            requests = [runtime.complete("fine 5") for _ in range(3)]
            for request in requests:
                _, error = receive_all(request)
                assert isinstance(error, EngineFailedError)
                assert "could not be restarted" in error.message
                assert "it starts no more" in error.message
            times.append(time.monotonic())
        assert marks.read_bytes() == b"....."
        assert times[2] - times[1] >= 0.9
        _, error = receive_all(runtime.complete("fine 5", timeout=0.05))
        assert isinstance(error, dynamo_llm.DeadlineExceededError)


def test_close_ends_the_child() -> None:
    runtime = Runtime(isolated())
    pid = pid_of(runtime)
    runtime.close()
    assert not is_there(pid)
    runtime = Runtime(isolated(options={"at_stop": "block"}, isolation={"stop_timeout_ms": 300}))
    pid = pid_of(runtime)
    runtime.close()
    assert not is_there(pid)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """tests/engines/crash.c as a shared library."""
    path = tmp_path_factory.mktemp("library") / "libcrash.so"
    flags = dynamo_config("--cflags", "--libs").split()
    compile_c(engines_dir / "crash.c", path, "-shared", "-fPIC", "-D_GNU_SOURCE", *flags)
    return str(path)


def in_c(library: str, **more: Any) -> dict[str, Any]:
    return {
        "engine": "crash",
        "isolation": "process",
        "isolation_options": {
            "engine_library": library,
            "restart_delay_ms": 10,
            "heartbeat_timeout_ms": 5000,
        },
        **more,
    }


def test_an_engine_in_c(library: str) -> None:
    hows = {
        "abort": "was killed by SIGABRT",
        "segfault": "was killed by SIGSEGV",
        "exit": "exited with status 6",
        "corrupt": "was killed by SIG(ABRT|SEGV)",
        "hang": "did not answer for 5000 ms",
    }
    with Runtime(in_c(library)) as runtime:
        (model,) = runtime.models()
        assert (model["id"], model["engine"], model["context_length"]) == ("crash", "crash", 77)
        assert model["request_keys"] == ["shape"]
        for how, said in hows.items():
            text, error = receive_all(runtime.complete(how))
            assert isinstance(error, EngineFailedError)
            assert re.search(said, error.message)
            assert text == "before" or how == "hang"
            assert runtime.request({"prompt": "good", "shape": 1}).result().text == "before"
        _, error = receive_all(runtime.chat("good"))
        assert isinstance(error, dynamo_llm.NotSupportedError)
        assert error.message == "it takes prompts"
        assert error.details["why"] == 7
        wait_until(lambda: "crash_risk 0.5\n" in runtime.metrics())
        assert runtime.metrics().count("# TYPE dynamo_llm_requests_total") == 1
    reliability(
        "an isolated engine in C aborts, writes to a wrong address, exits, corrupts its heap, hangs",
        len(hows),
        "its requests ended with ENGINE_FAILED, after what had come; the next one had its answer",
    )


def test_an_engine_in_c_that_does_not_start(library: str, tmp_path: Path) -> None:
    with pytest.raises(dynamo_llm.ModelNotFoundError, match="there is no such model"):
        Runtime(in_c(library, model="refuse"))
    with pytest.raises(EngineFailedError, match="was killed by SIGABRT"):
        Runtime(in_c(library, model="crash at start"))
    with pytest.raises(dynamo_llm.EngineUnavailableError, match="cannot be used"):
        Runtime(in_c(str(tmp_path / "none.so")))
    with pytest.raises(dynamo_llm.EngineNotFoundError):
        Runtime(in_c(library, engine="crush"))


def test_memory_of_the_child_is_bounded() -> None:
    """Exceeding the limit fails in the child; the request gets the engine's error."""
    with Runtime(isolated(isolation={"memory_limit_mib": 4096})) as runtime:
        _, error = receive_all(runtime.complete("memory"))
        assert isinstance(error, dynamo_llm.OutOfMemoryError)
        assert text_of(runtime, "fine 5") == words(5)


def test_raw_requests() -> None:
    """Raw requests: JSON and bytes, in both directions."""
    values: list[Any] = [{"a": [1, None, "ü"]}, [], "text", 0.5, None, b"", b"\x00\xff", b"x" * 3_000_000]
    folder = {"path": [str(tests_dir / "python" / "api")]}
    with Runtime({**isolated("test_raw_requests:Async"), "python": folder}) as runtime:
        for value in values:
            assert runtime.data(value).result() == [value]
    with Runtime({**isolated("test_raw_requests:Plain"), "python": folder}) as runtime:
        assert runtime.data(3).result() == [{"number": number} for number in range(3)]
        with pytest.raises(dynamo_llm.NotSupportedError, match="accepts raw requests only"):
            runtime.complete("a").result()


def test_records_and_output() -> None:
    """The child's log records and output go to the log, each record with its level."""
    records: list[tuple[int, str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append((record.levelno, record.name, record.getMessage()))

    handler = Handler()
    logger = logging.getLogger("dynamo_llm.child")
    logger.addHandler(handler)
    try:
        with Runtime(isolated("talking:Talker")) as runtime:
            assert text_of(runtime, "a") == "talked"
        name = "dynamo_llm.child.talking:Talker"
        wanted = [
            (logging.WARNING, name, "printed to stderr"),
            (logging.WARNING, name, "talker.inner: a warning record: é"),
            (logging.ERROR, name, "talker.inner: an error record"),
        ]
        wait_until(lambda: all(record in records for record in wanted), lambda: repr(records))
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("config", "bodies"),
    [
        (
            engine("uttering:Uttering"),
            [
                {"n": 2},
                {"n": 2, "stream": False},
                {"n": 3, "stop": "cache"},
                {"stream_options": {"include_usage": True}},
            ],
        ),
        (
            {},
            [{"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "stream": False}, {"stop": " model"}],
        ),
    ],
    ids=["choices", "logprobs"],
)
def test_the_json_of_answers(config: dict[str, Any], bodies: list[dict[str, Any]]) -> None:
    """A response's JSON is the same as in process: choices, roles, log-probs, reasons, counts."""
    answers: list[list[Any]] = []
    for more in ({}, {"isolation": "process"}):
        answers.append([])
        with Runtime({**config, **more}) as runtime:
            for body in bodies:
                responses = list(runtime.chat("What is a KV cache?", max_tokens=8, temperature=0, **body))
                merged: dict[int, dict[str, Any]] = {}
                for choice in (choice for one in responses for choice in one.json()["choices"]):
                    new = {"text": "", "logprobs": [], "roles": 0, "reason": None}
                    into = merged.setdefault(choice["index"], new)
                    message = choice.get("delta", choice.get("message"))
                    into["text"] += message.get("content") or ""
                    into["roles"] += "role" in message
                    into["logprobs"] += (choice["logprobs"] or {}).get("content") or []
                    into["reason"] = choice["finish_reason"] or into["reason"]
                answers[-1].append((merged, responses[-1].usage and responses[-1].usage.json()))
    assert answers[0] == answers[1]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("state", ["runs", "is stopped", "holds the GIL"])
def test_the_child_ends_with_its_parent(how: signal.Signals, state: str) -> None:
    code = f"""
import sys, threading, dynamo_llm
runtime = dynamo_llm.Runtime({isolated(isolation={"heartbeat_timeout_ms": 0})!r})
print(runtime.complete("pid").result().text, flush=True)
request = runtime.complete({"spin 3" if state == "holds the GIL" else "slow 1000000"!r})
request.receive()
print("runs", flush=True)
request.receive(3600)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "runs\n"
        if state == "is stopped":
            os.kill(pid, signal.SIGSTOP)
        if state == "holds the GIL":
            time.sleep(0.3)
        parent.send_signal(how)
        parent.wait(patience)
    wait_until(lambda: not is_there(pid))
    reliability(f"{how.name} to the host of an isolated engine whose child {state}", 1, "the child ended")


def test_a_host_that_ignores_sigchld() -> None:
    """The kernel discards the exit status; the error says that it is unknown."""
    code = f"""
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
import dynamo_llm
with dynamo_llm.Runtime({isolated()!r}) as runtime:
    for how in ("abort", "exit", "kill"):
        try:
            runtime.complete(how + " 3").result()
        except dynamo_llm.EngineFailedError as error:
            print(error.retriable, "child process" in error.message)
        print(runtime.complete("fine 2").result().text)
assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
"""
    result = run([sys.executable, "-c", code])
    assert result.stdout == "True True\n0 1 \n" * 3, result.stdout + result.stderr
    assert result.returncode == 0


def test_a_host_in_c(ask: Ask, library: str) -> None:
    """The same as from Python; the host's own engines of that name are not affected."""
    assert ask.text({"engine": "echo", "isolation": "process"}, "hello world") == "hello world"
    assert ask.text(isolated(), "fine 4") == words(4)
    assert ask.text(in_c(library), "good") == "before"
    for how in ("abort", "segfault", "exit", "kill"):
        status, message = ask.error(isolated(), prompt=f"{how} 3")
        assert status == "DYNAMO_ERROR_ENGINE_FAILED"
        assert 'the child process of the engine "crashing:Crashing"' in message
    status, message = ask.error({"engine": "ecko", "isolation": "process"})
    assert (status, "no engine is called" in message) == ("DYNAMO_ERROR_ENGINE_NOT_FOUND", True)


def test_options_are_checked() -> None:
    for options, says in (
        ({"heartbeat_timeout_ms": -1}, "isolation_options.heartbeat_timeout_ms"),
        ({"heartbeat": 1}, 'unknown key "isolation_options.heartbeat"'),
        ({"engine_library": 7}, "isolation_options.engine_library"),
        ({"config": {}}, 'unknown key "isolation_options.config"'),
    ):
        with pytest.raises(dynamo_llm.InvalidConfigError, match=re.escape(says)):
            Runtime({"engine": "echo", "isolation": "process", "isolation_options": options})
    with pytest.raises(dynamo_llm.InvalidConfigError, match="isolation"):
        Runtime({"engine": "echo", "isolation": "thread"})

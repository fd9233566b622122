# SPDX-License-Identifier: Apache-2.0
"""Batches: results, lines with mistakes, and what another run continues."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from conftest import patience
from dynamo_llm import Batch, BatchReport, InvalidArgumentError, Runtime
from dynamo_llm.api import batch as batch_module
from waiting import wait_until

SLOW = {"repeat": 1000000, "tokens_per_second": 20}


@pytest.fixture(scope="module")
def echo() -> Iterator[Runtime]:
    """An engine that repeats the prompt."""
    with Runtime(engine="echo") as runtime:
        yield runtime


def completion(custom_id: str, prompt: Any = "a b", **body: Any) -> dict[str, Any]:
    """Returns a line with a completion."""
    body = {"prompt": prompt, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body}


def write(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    """Writes the input of a batch."""
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    )
    return path


def results(path: Path) -> dict[str | None, dict[str, Any]]:
    """Reads the output of a batch, by ``custom_id``; each may occur once."""
    assert path.read_bytes()[-1:] in (b"", b"\n")
    listed = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_id = {one["custom_id"]: one for one in listed}
    assert len(by_id) == len(listed)
    return by_id


def run(source: Path, target: Path, runtime: Runtime, **more: Any) -> BatchReport:
    """Runs a batch."""
    with Batch(source, target) as batch:
        return batch.run(runtime, **more)


def test_results(echo: Runtime, tmp_path: Path) -> None:
    """A result has OpenAI's object, and the report counts."""
    messages = [{"role": "user", "content": "hé 世界"}]
    chat = {
        "custom_id": "chat",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": messages},
    }
    source = write(tmp_path / "in", b"\xef\xbb\xbf", chat, b"\r\n", completion("text", "a b c", max_tokens=2))
    report = run(source, tmp_path / "out", echo)
    assert (report.done, report.failed, report.skipped, report.is_complete) == (2, 0, 0, True)
    assert (report.prompt_tokens, report.completion_tokens, report.problems) == (5, 4, [])
    assert report.tokens_per_second == 9 / report.seconds
    found = results(tmp_path / "out")
    assert found["chat"].keys() == {"id", "custom_id", "response", "error"}
    assert found["chat"]["error"] is None
    response = found["chat"]["response"]
    assert response["status_code"] == 200
    assert response["request_id"].startswith("req-")
    assert response["body"]["object"] == "chat.completion"
    assert response["body"]["choices"][0]["message"]["content"] == "hé 世界"
    assert response["body"]["usage"]["total_tokens"] == 4
    text = found["text"]["response"]["body"]
    assert (text["object"], text["choices"][0]["text"]) == ("text_completion", "a b")
    assert text["choices"][0]["finish_reason"] == "length"


def test_embeddings(tmp_path: Path) -> None:
    """Embeddings come as OpenAI's list."""
    url = "/v1/embeddings"
    lines = [
        {"custom_id": "a", "method": "POST", "url": url, "body": {"input": ["one", "two"]}},
        {"custom_id": "b", "method": "POST", "url": url, "body": {"input": "x", "encoding_format": "base64"}},
    ]
    with Runtime(model=tiny_models.embedder(tmp_path / "model")) as runtime:
        report = run(write(tmp_path / "in", *lines), tmp_path / "out", runtime)
    assert (report.done, report.failed) == (2, 0)
    assert report.prompt_tokens > 0
    found = results(tmp_path / "out")
    assert [one["index"] for one in found["a"]["response"]["body"]["data"]] == [0, 1]
    assert isinstance(found["b"]["response"]["body"]["data"][0]["embedding"], str)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (b"{bad\n", "invalid_json_line", "line 2: it is not valid JSON at column 2"),
        (b'"text"\n', "invalid_json_line", 'must be an object with "custom_id"'),
        (b'{"a": "\xff"}\n', "invalid_json_line", "it is not UTF-8 at byte 7"),
        (b"[" * 100000 + b"\n", "invalid_json_line", "nested too deeply"),
        (b'{"custom_id": ' + b"9" * 5000 + b"}\n", "invalid_json_line", "its JSON cannot be read"),
        (completion(""), "invalid_custom_id", '"custom_id" must be a string'),
        ({**completion("x"), "custom_id": 5}, "invalid_custom_id", "not 5"),
        ({**completion("x"), "method": "GET"}, "invalid_method", '"method" must be "POST", not "GET"'),
        ({**completion("x"), "url": "/v1/chat"}, "invalid_url", '/classify, not "/v1/chat"'),
        ({**completion("x"), "url": ["/v1"]}, "invalid_url", "not an array"),
        ({**completion("x"), "body": None}, "invalid_body", '"body" must be an object, not missing'),
        ({**completion("x"), "body": {"messages": []}}, "invalid_body", '"body" needs "prompt"'),
        (completion("first"), "duplicate_custom_id", 'line 2: "custom_id" is the same as on line 1'),
    ],
)
def test_bad_line(echo: Runtime, tmp_path: Path, line: Any, code: str, message: str) -> None:
    """A line that is not a request is named; the others are answered."""
    source = write(tmp_path / "in", completion("first"), line, completion("last"))
    report = run(source, tmp_path / "out", echo)
    assert (report.done, report.failed) == (2, 1)
    assert report.problems[0].startswith("line 2: ")
    (failed,) = [
        one
        for one in map(json.loads, (tmp_path / "out").read_bytes().splitlines())
        if one["response"] is None
    ]
    assert failed["error"] == {"code": code, "message": report.problems[0]}
    assert message in report.problems[0]


def test_long_line(echo: Runtime, tmp_path: Path) -> None:
    """A line of more than 64 MiB is not kept in memory."""
    long = b'{"custom_id": "' + b"x" * (64 << 20) + b'"}\n'
    report = run(write(tmp_path / "in", long, completion("a")), tmp_path / "out", echo)
    assert (report.done, report.failed) == (1, 1)
    assert f"line 1: it has {len(long)} bytes; at most 67108864 are read (64 MiB)" in report.problems


def test_failed_request(echo: Runtime, tmp_path: Path) -> None:
    """A request that fails has an OpenAI server's status, and its error object."""
    script = [{"error": {"status": "OVERLOADED", "message": "too many"}}]
    lines = [
        completion("unknown", temperatur=1),
        completion("stream", stream=True),
        {**completion("e"), "url": "/v1/embeddings", "body": {"input": "x"}},
    ]
    run(write(tmp_path / "in", *lines), tmp_path / "out", echo)
    found = results(tmp_path / "out")
    assert {one["custom_id"]: one["response"]["status_code"] for one in found.values()} == {
        "unknown": 400,
        "stream": 400,
        "e": 501,
    }
    assert found["unknown"]["response"]["body"]["error"] == {
        "message": 'unknown key "temperatur" in the request; did you mean "temperature"?',
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_request",
    }
    assert '"stream" of the request must be false' in str(found["stream"])
    with Runtime(engine="scripted", options={"script": script}) as runtime:
        report = run(write(tmp_path / "in", completion("a")), tmp_path / "out2", runtime)
    assert report.problems == ["line 1: too many"]
    response = results(tmp_path / "out2")["a"]["response"]
    assert (response["status_code"], response["body"]["error"]["type"]) == (429, "rate_limit_error")
    assert response["request_id"].startswith("req-")


def test_continue(echo: Runtime, tmp_path: Path) -> None:
    """Another run answers what failed or is new, and leaves the other results as they are."""
    target = tmp_path / "out"
    source = write(tmp_path / "in", completion("a"), completion("b", temperatur=1), completion("c"))
    assert run(source, target, echo).failed == 1
    target.chmod(0o640)
    before = results(target)
    write(source, completion("a"), completion("b"), b"{}\n", completion("d"), completion("a"))
    report = run(source, target, echo)
    assert (report.done, report.failed, report.skipped) == (2, 2, 1)
    after = results_of_successes(target)
    assert after.keys() == {"a", "b", "c", "d"}
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "out"]
    assert 'line 5: "custom_id" is the same as on line 1' in report.problems


def results_of_successes(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the results without errors."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return {one["custom_id"]: one for one in lines if one["error"] is None}


def test_cut_off_line(echo: Runtime, tmp_path: Path) -> None:
    """A result that a crash cut off, anywhere, is repaired."""
    source, target = write(tmp_path / "in", completion("a"), completion("é")), tmp_path / "out"
    run(source, target, echo, max_concurrency=1)
    whole = target.read_bytes()
    first = whole.index(b"\n") + 1
    for end in [*range(first, len(whole) - 1, 5), len(whole) - 2, len(whole) - 1]:
        target.write_bytes(whole[:end])
        report = run(source, target, echo, max_concurrency=2)
        assert report.done + report.skipped == 2
        assert report.skipped == 1 + (end == len(whole) - 1)  # only the newline is missing
        found = results(target)
        assert found.keys() == {"a", "é"}
        assert target.read_bytes().startswith(whole[:first])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(completion("a")).encode() + b"\n", "line 1 of the output"),
        (b"a secret without a newline", "is not a result of a batch"),
        (b'{"id": "batch_req_0"}\n', "give the output of an earlier run"),
        (b'{"custom_id": "a", "response": null, "error": null}\n\xff\n', "line 2 of the output"),
    ],
)
def test_other_output(tmp_path: Path, content: bytes, message: str) -> None:
    """A file with other content, such as the input, stays as it is."""
    target = tmp_path / "out"
    target.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=message):
        Batch(write(tmp_path / "in", completion("a")), target)
    assert target.read_bytes() == content


def test_files(tmp_path: Path) -> None:
    """Errors name the file."""
    source = write(tmp_path / "in", completion("a"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(source)
    for source_name, target_name, message in (
        ("nope", "out", r'the input ".*nope" cannot be read: No such file'),
        (".", "out", r"cannot be read: Is a directory"),
        ("in", "none/out", r'the output ".*out" cannot be written: No such file'),
        ("in", "pipe", "is not a file"),
        ("in", "link", "is both the input and the output"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            Batch(tmp_path / source_name, tmp_path / target_name)
    busy = pytest.raises(dynamo_llm.InvalidStateError, match="another batch is writing")
    with Batch(source, tmp_path / "out"), busy:
        Batch(source, tmp_path / "out")
    Batch(source, tmp_path / "out").close()


def test_pipe(echo: Runtime, tmp_path: Path) -> None:
    """Lines are read as they come, and a result is written before the next line is there."""
    pipe, target = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("wb", buffering=0) as writer:
            for number in range(5):
                writer.write(json.dumps(completion(str(number))).encode() + b"\n")
                wait_until(lambda count=number: target.exists() and len(results(target)) > count)  # type: ignore[misc]

    thread = threading.Thread(target=feed)
    thread.start()
    assert run(pipe, target, echo).done == 5
    thread.join(patience)


def test_stop_while_a_pipe_is_empty(echo: Runtime, tmp_path: Path) -> None:
    """A batch stops although a thread waits for a line that does not come."""
    pipe, target = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    with closing(os.fdopen(os.open(pipe, os.O_RDWR), "wb", buffering=0)) as writer:
        writer.write(json.dumps(completion("a")).encode() + b"\n")
        with Batch(pipe, target) as batch:
            report = batch.run(echo, on_line=lambda size, report: batch.stop())
        assert (report.done, report.is_complete) == (1, False)
        writer.write(b"\n")  # lets the thread end


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Runs a function in a thread. Returns a function that waits for its result."""
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(function()))
    thread.start()

    def join() -> Any:
        thread.join(patience)
        return values[0]

    return join


def test_stop_and_cancel(tmp_path: Path) -> None:
    """stop() lets requests in flight end; cancel() leaves them to the next run."""
    lines = [completion(str(number), max_tokens=20) for number in range(8)]
    source, target = write(tmp_path / "in", *lines), tmp_path / "out"
    with Runtime(engine="echo", options=SLOW) as runtime:
        with Batch(source, target) as batch:
            wait = in_thread(lambda: batch.run(runtime, max_concurrency=3))
            wait_until(lambda: batch.in_flight == 3)
            batch.stop()
            report = wait()
        assert (report.done, report.failed, report.is_complete) == (3, 0, False)
        assert len(results(target)) == 3
        with Batch(source, target) as batch:
            wait = in_thread(lambda: batch.run(runtime, max_concurrency=3))
            wait_until(lambda: batch.in_flight == 3)
            batch.cancel()
            report = wait()
        assert (report.done, report.failed, report.skipped, report.is_complete) == (0, 0, 3, False)
        assert len(results(target)) == 3
        assert run(source, target, runtime).done == 5
        assert results(target).keys() == {str(number) for number in range(8)}


def test_closed_runtime(tmp_path: Path) -> None:
    """A runtime that is closed ends the batch; the lines are left to the next run."""
    source = write(tmp_path / "in", *(completion(str(number)) for number in range(5)))
    runtime = Runtime(engine="echo")
    runtime.close()
    with pytest.raises(dynamo_llm.ClosedError):
        run(source, tmp_path / "out", runtime)
    assert results(tmp_path / "out") == {}


def test_error_in_the_callback(echo: Runtime, tmp_path: Path) -> None:
    """An exception of the callback ends the batch."""
    source = write(tmp_path / "in", *(completion(str(number)) for number in range(50)))

    def fail(size: int, report: BatchReport) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out", echo, on_line=fail)
    with pytest.raises(InvalidArgumentError, match="max_concurrency must be an integer from 1 to 4096"):
        run(source, tmp_path / "out", echo, max_concurrency=0)
    report = run(source, tmp_path / "out", echo)
    assert report.done + report.skipped == 50


def test_bytes_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines are sent one after another, whatever the concurrency, so that memory stays bounded."""
    lines = [completion(str(number), "x" * 600, max_tokens=2) for number in range(4)]
    source = write(tmp_path / "in", *lines)
    monkeypatch.setattr(batch_module, "_most_bytes", 1000)
    counts: set[int] = set()
    with Runtime(engine="echo", options=SLOW) as runtime, Batch(source, tmp_path / "out") as batch:
        wait = in_thread(lambda: batch.run(runtime, max_concurrency=4))
        end = time.monotonic() + patience
        while len(results(tmp_path / "out")) < 4 and time.monotonic() < end:
            counts.add(batch.in_flight)
            time.sleep(0.01)
        assert wait().done == 4
    assert counts <= {0, 1}


def test_concurrency(tmp_path: Path) -> None:
    """As many requests are in flight as the caller allows, and the engine sees them at once."""
    source = write(tmp_path / "in", *(completion(str(number), max_tokens=20) for number in range(6)))
    with Runtime(engine="echo", options=SLOW) as runtime, Batch(source, tmp_path / "out") as batch:
        wait = in_thread(lambda: batch.run(runtime, max_concurrency=6))
        wait_until(lambda: runtime.statistics()["requests"]["in_flight"] == 6)
        assert wait().done == 6


def test_engine_in_python(tmp_path: Path) -> None:
    """The demo model answers a batch with several choices."""
    source = write(tmp_path / "in", completion("a", "What is a KV cache?", max_tokens=4, n=2))
    with Runtime() as runtime:
        assert run(source, tmp_path / "out", runtime).failed == 0
    body = results(tmp_path / "out")["a"]["response"]["body"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1]

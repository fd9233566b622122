# SPDX-License-Identifier: Apache-2.0
"""Answers a file of requests, in OpenAI's batch format."""

import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dynamo_llm.api.batch_input import BadLineError, BatchInput, BatchLine
from dynamo_llm.api.batch_output import BatchOutput, CustomIds
from dynamo_llm.api.numbers import integer
from dynamo_llm.api.request import Request
from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import (
    ClosedError,
    DynamoError,
    InvalidArgumentError,
    InvalidRequestError,
    SystemFailedError,
)
from dynamo_llm.runtime.http_status import http_status_of
from dynamo_llm.runtime.openai_errors import error_object_of

#: Bytes of the lines in flight: a longer line is sent alone.
_most_bytes = 256 << 20
#: Failed lines that a report names.
_most_problems = 10
#: Threads that wait for answers.
_most_threads = 4096
#: Seconds between two looks at what a signal handler asked for.
_interval = 0.1


@dataclass
class BatchReport:
    """What a batch did, or has done so far."""

    done: int = 0
    """Lines that were answered."""
    failed: int = 0
    """Lines with an error. The output has its message."""
    skipped: int = 0
    """Lines that an earlier run has answered."""
    prompt_tokens: int = 0
    """Of the answered lines, as far as the engine counts."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """From the first line to the last result."""
    is_complete: bool = False
    """Whether all lines were read: the batch was not stopped."""
    problems: list[str] = field(default_factory=list)
    """Messages of the first ten failed lines; each names its line."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens of prompts and answers by the seconds."""
        return (self.prompt_tokens + self.completion_tokens) / self.seconds if self.seconds else 0.0


class Batch:
    """A file of requests, each a line of OpenAI's batch format: ``{"custom_id": ..., "method": "POST", "url":
    "/v1/chat/completions", "body": {...}}``, likewise for the other paths of
    docs/recipe-batch.md. The output has a line for each, in the order of completion: ``{"id",
    "custom_id", "response": {"status_code", "request_id", "body"}, "error"}``.

    A request that fails has the status of an OpenAI server, and OpenAI's error object as its body. A line
    that is not a request has an ``error`` with ``code`` and ``message`` instead.

    A batch can be continued: with the output of an earlier run, also one that crashed, it answers what is
    missing or failed. Lines are read as they are needed: memory is bounded by the requests in flight, of at
    most 256 MiB of lines together, whatever the size of the file. The constructor opens and checks the files,
    before a model is loaded for them; :meth:`close`, or the end of a ``with`` block, closes them.

    :param source: the file with the requests; it may be a pipe.
    :param target: the file for the results; it is created, or continued.
    :raises InvalidArgumentError: a file cannot be read or written, or the output has other content.
    :raises InvalidStateError: another batch is writing the output.
    """

    def __init__(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        self._input = BatchInput(source)
        self._ids = CustomIds()
        try:
            if os.path.exists(target) and os.path.samefile(source, target):
                raise InvalidArgumentError(f'"{target}" is both the input and the output')
            self._output = BatchOutput(target, self._ids)
        except BaseException:
            self._input.close()
            self._ids.close()
            raise
        self._report = BatchReport()
        self._start = 0.0
        self._on_line: Callable[[int, BatchReport], None] | None = None
        self._turn = threading.Lock()
        """Of the thread that reads the next line."""
        self._changed = threading.Condition()
        """Guards the following; a set changes atomically, so it is read without the lock."""
        self._threads = 0
        self._in_flight: set[Request[Any]] = set()
        self._bytes = 0
        self._problem: BaseException | None = None
        # Set by signal handlers, which must not wait for a lock.
        self._is_stopping = False
        self._is_cancelled = False

    @property
    def input_bytes(self) -> int:
        """Size of the input; 0 if it is a pipe."""
        return self._input.size

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return len(self._in_flight)

    def stop(self) -> None:
        """Sends no further requests; :meth:`run` returns when those in flight have ended. Any thread, also a
        signal handler.
        """
        self._is_stopping = True

    def cancel(self) -> None:
        """Stops, and cancels the requests in flight, which get no result. Any thread, also a signal
        handler.
        """
        self._is_stopping = self._is_cancelled = True
        for request in list(self._in_flight):
            request.cancel()

    def run(
        self,
        runtime: Runtime,
        *,
        max_concurrency: int = 64,
        on_line: Callable[[int, BatchReport], None] | None = None,
    ) -> BatchReport:
        """Answers the lines; call it once. Blocks, without holding the GIL, until the last one has its
        result. Ctrl-C cancels the requests in flight; the output can be continued.

        :param max_concurrency: requests in flight at the same time, from 1 to 4096. Each has a thread.
        :param on_line: called after each line with the bytes of the line, and the report so far; from other
            threads, one call at a time.
        :raises InvalidArgumentError: the input cannot be read any further.
        :raises SystemFailedError: the output cannot be written.
        :raises DynamoError: the runtime cannot be used any more. The output can be continued.
        """
        count = integer(max_concurrency, "max_concurrency", 1, _most_threads)
        self._on_line = on_line
        self._start = time.perf_counter()
        try:
            self._start_threads(runtime, count)
            self._wait()
        except BaseException:
            self.cancel()
            self._wait()
            raise
        if self._problem is not None:
            raise self._problem
        self._report.seconds = time.perf_counter() - self._start
        self._report.is_complete = not self._is_stopping
        return self._report

    def _start_threads(self, runtime: Runtime, count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=self._work, args=(runtime,), name="dynamo-batch", daemon=True)
            with self._changed:
                self._threads += 1
            try:
                thread.start()
            except RuntimeError as error:
                with self._changed:
                    self._threads -= 1
                    if self._threads == 0:
                        raise SystemFailedError(f"no thread can be started: {error}") from error
                return  # the machine has no more threads; those that run do the work

    def _wait(self) -> None:
        """Waits until all threads have ended, or none has a request and no further line is wanted: then one
        may still wait for a line of a pipe.
        """
        with self._changed:
            while self._threads and not (self._is_stopping and self._bytes == 0):
                self._changed.wait(_interval)

    def close(self) -> None:
        """Closes the files. Requests in flight are cancelled."""
        self.cancel()
        self._wait()
        # A thread that waits for a line of a pipe still uses the input, and nothing else.
        is_idle = self._turn.acquire(timeout=1)
        self._output.close()
        self._ids.close()
        if is_idle:
            self._input.close()
            self._turn.release()

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- the threads

    def _work(self, runtime: Runtime) -> None:
        try:
            while (line := self._next()) is not None:
                try:
                    self._answer(runtime, line)
                finally:
                    with self._changed:
                        self._bytes -= line.size
                        self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._problem = self._problem or error
            self.cancel()
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _next(self) -> BatchLine | None:
        """Returns the next line to answer; None if there is none. Lines before it that need no answer have
        got their results.
        """
        with self._turn:
            while not self._is_stopping and (raw := self._input.read()) is not None:
                if self._is_stopping:
                    break
                if raw.is_blank:
                    continue
                try:
                    line = raw.parse()
                    earlier = self._ids.add(line.custom_id, raw.number)
                    if earlier:
                        raise BadLineError(
                            "duplicate_custom_id",
                            f'line {raw.number}: "custom_id" is the same as on line {earlier}',
                            line.custom_id,
                        )
                except BadLineError as error:
                    self._output.append(
                        _result(error.custom_id, None, {"code": error.code, "message": error.message})
                    )
                    self._count_failure(raw.size, error.message)
                    continue
                if earlier is not None:
                    self._count_line(raw.size, lambda report: setattr(report, "skipped", report.skipped + 1))
                    continue
                if self._enter(line):
                    return line
        return None

    def _enter(self, line: BatchLine) -> bool:
        """Waits until the lines in flight leave enough memory for a line. Returns False if the batch was
        stopped meanwhile.
        """
        with self._changed:
            while self._bytes and self._bytes + line.size > _most_bytes and not self._is_stopping:
                self._changed.wait(_interval)
            if self._is_stopping:
                return False
            self._bytes += line.size
            return True

    def _answer(self, runtime: Runtime, line: BatchLine) -> None:
        request: Request[Any] | None = None
        try:
            request = runtime.request(_whole(line))
            self._in_flight.add(request)
            if self._is_cancelled:
                request.cancel()
            answer = request.result()
        except DynamoError as error:
            if self._is_cancelled:
                return  # without a result, the next run answers the line
            if error.fatal or isinstance(error, ClosedError):
                raise
            response = {
                "status_code": http_status_of(error),
                "request_id": str(error.details.get("request_id", "")),
                "body": {"error": error_object_of(error)},
            }
            self._output.append(_result(line.custom_id, response, None))
            self._count_failure(line.size, f"line {line.number}: {error}")
            return
        finally:
            if request is not None:
                self._in_flight.discard(request)
        response = {"status_code": 200, "request_id": request.id, "body": answer.json()}
        self._output.append(_result(line.custom_id, response, None))
        usage = answer.usage

        def count(report: BatchReport) -> None:
            report.done += 1
            if usage is not None:
                report.prompt_tokens += usage.prompt_tokens
                report.completion_tokens += usage.completion_tokens

        self._count_line(line.size, count)

    def _count_failure(self, size: int, message: str) -> None:
        def count(report: BatchReport) -> None:
            report.failed += 1
            if len(report.problems) < _most_problems:
                report.problems.append(message)

        self._count_line(size, count)

    def _count_line(self, size: int, count: Callable[[BatchReport], None]) -> None:
        with self._changed:
            count(self._report)
            self._report.seconds = time.perf_counter() - self._start
            if self._on_line is not None:
                self._on_line(size, self._report)


def _whole(line: BatchLine) -> dict[str, Any]:
    """Returns a body whose answer comes as a whole."""
    if line.body.get("stream"):
        raise InvalidRequestError('"stream" of the request must be false in a batch')
    return {**line.body, "stream": False} if line.streams else line.body


def _result(
    custom_id: str | None, response: dict[str, Any] | None, error: dict[str, str] | None
) -> dict[str, Any]:
    """Returns a line of the output."""
    number = uuid.uuid4().hex
    return {"id": f"batch_req_{number}", "custom_id": custom_id, "response": response, "error": error}

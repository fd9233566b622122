# SPDX-License-Identifier: Apache-2.0
"""An engine that owns its step loop: a thread gives each request that is there a token, step by step. The
prompt says what a request does."""

import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from dynamo_llm.runtime.sink import Sink, push_many


@dataclass
class Row:
    """A request in the batch."""

    sink: Sink
    words: list[str]
    how: str
    at: int = 0


class Stepping:
    """Says the words of the prompt again. Option "pause": seconds between two steps."""

    kind = "steps"
    #: What happened, for tests in the same process.
    cancelled: ClassVar[list[str]] = []
    full: ClassVar[list[int]] = []
    spaces: ClassVar[list[str]] = []

    def __init__(self, config: Any) -> None:
        self.pause = config.options.get("pause", 0.0)
        self.changed = threading.Condition()
        self.rows: dict[Sink, Row] = {}
        self.thread = threading.Thread(target=self.run, name="steps")
        self.is_over = False

    def start(self) -> None:
        self.thread.start()

    def describe(self) -> dict[str, Any]:
        return {"capabilities": ["completion"], "context_length": 100_000}

    def add(self, request: Any, sink: Sink) -> None:
        how, _, rest = request.body["prompt"].partition(":")
        if how == "refuse":
            raise ValueError("it is not wanted")
        if how == "exit":
            raise SystemExit("no more")
        if how == "span":
            from opentelemetry import trace

            with trace.get_tracer("engine").start_as_current_span("inner"):
                pass
        if how == "at once":
            assert sink.push({"text": rest, "token_ids": [1], "finish_reason": "stop"})
            sink.finish()
            return
        words = [f"{word} " for word in rest.split()] if rest else []
        if how == "long":
            words = ["word "] * int(rest)
        with self.changed:
            self.rows[sink] = Row(sink, words, how)
            self.changed.notify()

    def cancel(self, sink: Sink) -> None:
        self.cancelled.append(sink.id)
        with self.changed:
            row = self.rows.pop(sink, None)
        if row is not None and row.how == "raise in cancel":
            raise RuntimeError("cannot cancel")
        sink.finish()

    def on_writable(self, sink: Sink) -> None:
        self.spaces.append(sink.id)

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.rows or self.is_over)
                if self.is_over:
                    return
                rows = list(self.rows.values())
            self.step(rows)
            time.sleep(self.pause)

    def step(self, rows: list[Row]) -> None:
        for row in [row for row in rows if row.at == len(row.words)]:
            self.end(row)
            rows.remove(row)
        if not rows:
            return
        full = push_many(
            [row.sink for row in rows], [row.at for row in rows], [row.words[row.at] for row in rows]
        )
        self.full.extend(full)
        for number, row in enumerate(rows):
            row.at += number not in full
        if full:
            time.sleep(0.001)

    def end(self, row: Row) -> None:
        with self.changed:
            if self.rows.pop(row.sink, None) is None:
                return  # cancelled meanwhile
        if row.how == "fail":
            row.sink.fail(ValueError("the batch is broken"))
        elif row.how == "length":
            row.sink.finish("length", {"prompt_tokens": 3, "completion_tokens": row.at, "cached_tokens": 1})
        else:
            row.sink.finish()

    def stop(self) -> None:
        with self.changed:
            self.is_over = True
            self.changed.notify()
        self.thread.join()

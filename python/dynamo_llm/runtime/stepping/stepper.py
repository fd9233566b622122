# SPDX-License-Identifier: Apache-2.0
"""Computes the steps of a model in a thread."""

import heapq
import threading
from collections.abc import Callable
from typing import Any

import torch

from dynamo_llm.errors import ClosedError, DynamoError, EngineFailedError, OverloadedError
from dynamo_llm.runtime.engine import TokenChunk
from dynamo_llm.runtime.stepping.batch import Batch, Row
from dynamo_llm.runtime.stepping.network import Network

#: The results of one step for its rows: part of an answer, or the error that ends it.
Results = list[tuple[Row, TokenChunk | DynamoError]]


class Stepper:
    """Computes the answers of many requests at once in its own thread.

    A request joins the batch as soon as its prompt is computed, and leaves it with its last token,
    independently of the other requests. Prompts are computed one after the other, in pieces, between the
    steps of the batch, so that a long prompt does not stop the answers in progress.

    :param deliver: called by the thread after each step.
    :param max_batch: maximum number of requests in the batch; others are queued.
    :param max_batch_tokens: maximum number of prompt tokens computed between two steps.
    """

    def __init__(
        self, network: Network, deliver: Callable[[Results], None], max_batch: int, max_batch_tokens: int
    ) -> None:
        self._network = network
        self._deliver = deliver
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        self._lock = threading.Condition()
        self._new: list[Row] = []
        self._end: DynamoError | None = None
        # Used only by the thread.
        self._waiting: list[tuple[int, int, Row]] = []  # ordered by priority, then by arrival
        self._number = 0
        self._prompt: Row | None = None
        self._batch = Batch(network)
        self._results: Results = []
        self._thread = threading.Thread(target=self._run, name="dynamo-transformers", daemon=True)
        self._thread.start()

    def add(self, row: Row) -> None:
        """Adds a request to compute. Thread-safe.

        :raises DynamoError: the thread has ended.
        """
        with self._lock:
            if self._end is not None:
                raise type(self._end)(self._end.message, self._end.details) from self._end.__cause__
            self._new.append(row)
            self._lock.notify()

    def close(self) -> None:
        """Ends the thread after the current step; unfinished requests fail. Blocks."""
        with self._lock:
            self._end = self._end or ClosedError("the engine was stopped")
            self._lock.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._take():
                    self._prefill()
                    self._decode()
                    self._flush()
        except BaseException as error:
            with self._lock:
                self._end = EngineFailedError(
                    f"the thread that computes the steps failed: {error!r}", {"fatal": True}
                )
                self._end.__cause__ = error
        assert self._end is not None
        waiting = [row for _, _, row in self._waiting]
        prompt = [self._prompt] if self._prompt else []
        for row in [*self._batch.rows, *prompt, *waiting, *self._new]:
            self._fail(row, self._end)
        self._batch.clear()
        self._flush()

    def _take(self) -> bool:
        """Waits until there is work. Returns False if the thread must end."""
        is_idle = not (self._batch.rows or self._prompt or self._waiting)
        with self._lock:
            while is_idle and not self._new and self._end is None:
                self._lock.wait()
            for row in self._new:
                self._number += 1
                heapq.heappush(self._waiting, (-row.request.priority, self._number, row))
            self._new = []
            return self._end is None

    def _prefill(self) -> None:
        budget = self._max_batch_tokens
        while budget > 0 and (row := self._next_prompt()):
            before = row.computed
            try:
                logits = row.prefill(self._network, budget)
                budget -= row.computed - before
                if logits is None:
                    return
                self._prompt = None
                if self._choose(row, logits):
                    self._batch.join(row)
            except Exception as error:
                self._prompt = None
                self._fail(row, self._explain(error))

    def _next_prompt(self) -> Row | None:
        if self._prompt is not None and self._prompt.is_cancelled:
            self._prompt = None
        while self._prompt is None and self._waiting and len(self._batch.rows) < self._max_batch:
            _, _, row = heapq.heappop(self._waiting)
            if not row.is_cancelled:
                self._prompt = row
                row.request.set_queued(False)
        return self._prompt

    def _decode(self) -> None:
        try:
            self._batch.keep(lambda row: not row.is_cancelled)
            if not self._batch.rows:
                return
            logits = self._batch.step()
            likeliest = _likeliest(logits)
            goes_on = {
                id(row): self._choose(row, logits[index : index + 1], likeliest[index])
                for index, row in enumerate(self._batch.rows)
            }
            self._batch.keep(lambda row: goes_on[id(row)])
        except Exception as error:
            for row in self._batch.rows:
                self._fail(row, self._explain(error))
            self._batch.clear()

    def _choose(self, row: Row, logits: torch.Tensor, likeliest: int | None = None) -> bool:
        """Samples a row's next token. Returns False if it was the last one."""
        request = row.request
        chunk: TokenChunk = {}
        try:
            if row.sampler.is_plain:
                token = _likeliest(logits)[0] if likeliest is None else likeliest
                if token is None:
                    raise ValueError("its logits are not numbers")
            else:
                token, logprob = row.sampler.choose(logits)
                if logprob is not None:
                    chunk["logprobs"] = [logprob]
        except Exception as error:  # fails only this request, for example if logits are NaN
            self._fail(row, self._explain(error))
            return False
        row.answer.append(token)
        chunk["token_ids"] = [token]
        if token in request.stop_token_ids and len(row.answer) > request.min_tokens:
            chunk["finish_reason"] = "stop"
        elif len(row.answer) >= request.max_tokens:
            chunk["finish_reason"] = "length"
        self._results.append((row, chunk))
        return "finish_reason" not in chunk

    def _explain(self, error: Exception) -> DynamoError:
        kind: Any = OverloadedError if isinstance(error, torch.OutOfMemoryError) else EngineFailedError
        hint = '; a smaller "options.max_batch" needs less memory' if kind is OverloadedError else ""
        result: DynamoError = kind(f"the model failed: {type(error).__name__}: {error}{hint}")
        result.__cause__ = error
        return result

    def _fail(self, row: Row, error: DynamoError) -> None:
        own = type(error)(error.message, error.details)  # a copy, so that requests do not share a traceback
        own.__cause__ = error.__cause__
        self._results.append((row, own))

    def _flush(self) -> None:
        results, self._results = self._results, []
        if results:
            self._deliver(results)


def _likeliest(logits: torch.Tensor) -> list[int | None]:
    """Returns the most likely token of each row; None if a logit is NaN."""
    values, tokens = logits.max(-1)
    pairs = zip(values.isnan().tolist(), tokens.tolist(), strict=True)
    return [None if is_nan else token for is_nan, token in pairs]

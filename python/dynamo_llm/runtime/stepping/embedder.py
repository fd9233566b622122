# SPDX-License-Identifier: Apache-2.0
"""Computes embeddings with a model of transformers."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from dynamo_llm.errors import ClosedError
from dynamo_llm.runtime.stepping.sentence_modules import SentenceModules


class Embedder:
    """A model that makes vectors of token ids. Thread-safe.

    :param max_batch: rows that are computed together.
    :param max_batch_tokens: tokens, padding included, that are computed together; a longer row is alone.
    """

    def __init__(self, model: Any, modules: SentenceModules, max_batch: int, max_batch_tokens: int) -> None:
        self._model = model
        self._modules = modules
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        pad = getattr(model.config, "pad_token_id", None)
        self._pad = pad if isinstance(pad, int) else 0
        self._lock = threading.Lock()
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        """Size of the vocabulary."""

    def embed(self, rows: list[list[int]], is_cancelled: Callable[[], bool]) -> list[list[float]]:
        """Returns a vector for each row of token ids, none of which is empty. Blocks.

        :param is_cancelled: checked between batches; then the result is not complete.
        :raises ClosedError: the engine was stopped.
        """
        vectors: list[list[float]] = [[]] * len(rows)
        for numbers in self._batches(rows):
            # For each batch, so that other requests get their turn.
            with self._lock:
                if self._model is None:
                    raise ClosedError("the engine was stopped")
                if is_cancelled():
                    break
                for number, vector in zip(numbers, self._compute([rows[n] for n in numbers]), strict=True):
                    vectors[number] = vector
        return vectors

    def close(self) -> None:
        """Frees the model. Blocks until the current batch has ended."""
        with self._lock:
            self._model = None

    def _batches(self, rows: list[list[int]]) -> Iterator[list[int]]:
        """Yields the numbers of rows to compute together, of similar lengths, so that little is padded."""
        batch: list[int] = []
        for number in sorted(range(len(rows)), key=lambda number: len(rows[number])):
            longest = len(rows[number])  # of the batch, if the row joins it
            is_full = len(batch) == self._max_batch or (len(batch) + 1) * longest > self._max_batch_tokens
            if batch and is_full:
                yield batch
                batch = []
            batch.append(number)
        yield batch

    def _compute(self, rows: list[list[int]]) -> list[list[float]]:
        longest = max(map(len, rows))
        padded = [row + [self._pad] * (longest - len(row)) for row in rows]
        lengths = torch.tensor([len(row) for row in rows], device=self._model.device)
        ids = torch.tensor(padded, device=self._model.device)
        mask = (torch.arange(longest, device=ids.device)[None] < lengths[:, None]).long()
        with torch.inference_mode():
            output = self._model(input_ids=ids, attention_mask=mask, return_dict=True)
            pooled = self._pool(output.last_hidden_state.float(), mask, lengths)
            if self._modules.normalizes:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
        vectors: list[list[float]] = pooled.tolist()
        return vectors

    def _pool(self, states: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Makes one vector of those of the tokens of each row."""
        kind = self._modules.pooling
        if kind == "cls":
            return states[:, 0]
        if kind == "last":
            return states[torch.arange(len(states), device=states.device), lengths - 1]
        if kind == "max":
            return states.masked_fill(mask[..., None] == 0, -torch.inf).amax(1)
        return (states * mask[..., None]).sum(1) / lengths[:, None]

# SPDX-License-Identifier: Apache-2.0
"""Computes something of rows of token ids in batches, with a model of transformers."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch

from dynamo_llm.errors import ClosedError


class RowBatches(ABC):
    """A model that makes a list of numbers of each row of token ids. Thread-safe.

    :param max_batch: rows that are computed together.
    :param max_batch_tokens: tokens, padding included, that are computed together; a longer row is alone.
    """

    def __init__(self, model: Any, max_batch: int, max_batch_tokens: int) -> None:
        self._model = model
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        pad = getattr(model.config, "pad_token_id", None)
        self._pad = pad if isinstance(pad, int) else 0
        self._lock = threading.Lock()
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        """Size of the vocabulary."""

    def compute(
        self,
        rows: list[list[int]],
        is_cancelled: Callable[[], bool],
        type_ids: list[list[int]] | None = None,
    ) -> list[list[float]]:
        """Returns the numbers for each row, none of which is empty. Blocks.

        :param is_cancelled: checked between batches; then the result is not complete.
        :param type_ids: which of two texts each token belongs to, 0 or 1; None if all rows are one text.
        :raises ClosedError: the engine was stopped.
        """
        results: list[list[float]] = [[]] * len(rows)
        for numbers in self._batches(rows):
            # For each batch, so that other requests get their turn.
            with self._lock:
                if self._model is None:
                    raise ClosedError("the engine was stopped")
                if is_cancelled():
                    break
                types = None if type_ids is None else self._padded([type_ids[n] for n in numbers], 0)
                computed = self._compute_rows([rows[n] for n in numbers], types)
                for number, result in zip(numbers, computed, strict=True):
                    results[number] = result
        return results

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

    def _padded(self, rows: list[list[int]], value: int) -> torch.Tensor:
        longest = max(map(len, rows))
        padded = [row + [value] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, device=self._model.device)

    def _compute_rows(self, rows: list[list[int]], types: torch.Tensor | None) -> list[list[float]]:
        ids = self._padded(rows, self._pad)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        mask = (torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]).long()
        with torch.inference_mode():
            result: list[list[float]] = self._of(ids, mask, lengths, types).tolist()
        return result

    @abstractmethod
    def _of(
        self, ids: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor, types: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes a batch; returns float32 of shape (rows, numbers).

        :param ids: token ids, padded on the right.
        :param mask: 1 for tokens, 0 for padding.
        :param lengths: tokens of each row.
        :param types: as ``type_ids`` of :meth:`compute`, padded.
        """

# SPDX-License-Identifier: Apache-2.0
"""Defines the batch of requests whose steps are computed together."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from dynamo_llm.runtime.engine import TokenRequest
from dynamo_llm.runtime.stepping.network import Network
from dynamo_llm.runtime.stepping.sampler import Sampler


class Row:
    """One request: queued, in prefill, or in the batch.

    :param receiver: passed back with the results, to the function that delivers them.
    """

    def __init__(self, request: TokenRequest, sampler: Sampler, receiver: Any) -> None:
        self.request = request
        self.receiver = receiver
        self.sampler = sampler
        self.is_cancelled = False
        """May be set by any thread: the row leaves the batch before the next step."""
        self.answer: list[int] = []
        self.cache = DynamicCache()
        """Keys and values of the prompt, until the row joins the batch."""
        self.computed = 0
        """Number of prompt tokens in the cache."""

    @property
    def length(self) -> int:
        """Number of tokens with keys and values, once the row is in the batch: all but the last."""
        return len(self.request.token_ids) + len(self.answer) - 1

    def prefill(self, network: Network, budget: int) -> torch.Tensor | None:
        """Computes part of the prompt.

        :param budget: maximum number of tokens.
        :return: logits, of shape (1, vocabulary), if the prompt is now complete.
        """
        prompt = self.request.token_ids
        piece = prompt[self.computed : self.computed + budget]
        self.computed += len(piece)
        mask = torch.ones((1, self.computed), dtype=torch.long, device=network.device)
        logits = network([piece], mask, self.cache)
        return logits if self.computed == len(prompt) else None


class Batch:
    """Rows whose next tokens are computed together.

    The keys and values of all rows are in one cache, in which shorter rows are padded on the left. A row that
    joins or leaves costs one copy of the cache, as does each step of a DynamicCache.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.rows: list[Row] = []
        self._cache = DynamicCache()
        self._mask = torch.empty(0)

    def join(self, row: Row) -> None:
        """Adds a row whose prompt was computed and whose first token was sampled."""
        self._arrange([*self.rows, row], [self._cache, row.cache] if self.rows else [row.cache])
        row.cache = DynamicCache()

    def keep(self, is_kept: Callable[[Row], bool]) -> None:
        """Removes the rows that are not to be kept."""
        kept = [index for index, row in enumerate(self.rows) if is_kept(row)]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if kept:
            self._arrange(self.rows, [self._cache], torch.tensor(kept, device=self._network.device))
        else:
            self.clear()

    def clear(self) -> None:
        """Removes all rows."""
        self.rows = []
        self._cache = DynamicCache()
        self._mask = torch.empty(0)

    def step(self) -> torch.Tensor:
        """Computes the next token of each row.

        :return: logits, of shape (rows, vocabulary).
        """
        self._mask = pad(self._mask, (0, 1), value=1)
        return self._network([[row.answer[-1]] for row in self.rows], self._mask, self._cache)

    def _arrange(self, rows: list[Row], caches: list[DynamicCache], kept: torch.Tensor | None = None) -> None:
        """Makes a batch of rows, whose caches are joined into one.

        :param kept: indexes of the rows in the caches; None for all.
        """
        width = max(row.length for row in rows)

        def fit(values: torch.Tensor) -> torch.Tensor:
            if kept is not None:
                values = values.index_select(0, kept.to(values.device))
            values = values[:, :, -width:]
            return pad(values, (0, 0, width - values.shape[2], 0))

        pairs = []
        for layers in zip(*(cache.layers for cache in caches), strict=True):
            keys = torch.cat([fit(layer.keys) for layer in layers])
            pairs.append((keys, torch.cat([fit(layer.values) for layer in layers])))
        self._cache = DynamicCache(pairs)
        self.rows = rows
        padding = torch.tensor([[width - row.length] for row in rows], device=self._network.device)
        self._mask = (torch.arange(width, device=self._network.device) >= padding).long()

# SPDX-License-Identifier: Apache-2.0
"""Computes embeddings with a model of transformers."""

from typing import Any

import torch

from dynamo_llm.runtime.stepping.row_batches import RowBatches
from dynamo_llm.runtime.stepping.sentence_modules import SentenceModules


class Embedder(RowBatches):
    """A model that makes vectors of token ids. The parameters are those of :class:`RowBatches`."""

    def __init__(self, model: Any, modules: SentenceModules, max_batch: int, max_batch_tokens: int) -> None:
        super().__init__(model, max_batch, max_batch_tokens)
        self._modules = modules

    def _of(
        self, ids: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor, types: torch.Tensor | None
    ) -> torch.Tensor:
        output = self._model(input_ids=ids, attention_mask=mask, return_dict=True)
        pooled = self._pool(output.last_hidden_state.float(), mask, lengths)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._modules.normalizes else pooled

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

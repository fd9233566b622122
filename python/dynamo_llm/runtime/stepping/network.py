# SPDX-License-Identifier: Apache-2.0
"""Calls a model for its next logits."""

import inspect
from typing import Any

import torch
from transformers import DynamicCache


class Network:
    """A causal language model of transformers, called as its ``generate()`` calls it: prompts are padded on
    the left, and positions are counted without the padding.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device: torch.device = model.device
        """Where its inputs go."""
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        """How many tokens it knows."""
        known = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # before 5.20
        self._takes_positions = "position_ids" in known
        self._takes_logits_to_keep = "logits_to_keep" in known

    def __call__(self, token_ids: list[list[int]], mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Compute the tokens that follow what is in the cache.

        :param token_ids: a row of tokens for each request, all of the same length.
        :param mask: 1 for tokens, 0 for padding, of those in the cache and the new ones.
        :param cache: keys and values; they grow by the new tokens.
        :return: logits after the last token of each row, in float32.
        """
        ids = torch.tensor(token_ids, device=self.device)
        more: dict[str, Any] = {self._cache_name: cache}
        if self._takes_positions:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if self._takes_logits_to_keep:
            more["logits_to_keep"] = 1
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=True, return_dict=True, **more)
        return output.logits[:, -1].float()

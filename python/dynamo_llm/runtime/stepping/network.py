# SPDX-License-Identifier: Apache-2.0
"""Calls a model to compute logits."""

import inspect
from typing import Any

import torch
from transformers import DynamicCache


class Network:
    """A causal language model of transformers, called in the same way as by ``generate()``: prompts are
    padded on the left, and positions do not count the padding.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.config: Any = model.config
        """The content of ``config.json``, as read by transformers."""
        self.device: torch.device = model.device
        """The device for inputs."""
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        """Size of the vocabulary."""
        known = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # before 5.20
        self._takes_positions = "position_ids" in known
        self._takes_logits_to_keep = "logits_to_keep" in known

    def __call__(self, token_ids: list[list[int]], mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Computes logits for tokens that follow those in the cache.

        :param token_ids: a row of tokens for each request, all of the same length.
        :param mask: 1 for tokens, 0 for padding; covers the cached and the new tokens.
        :param cache: keys and values; the new tokens are appended.
        :return: logits after the last token of each row, in float32.
        """
        ids = torch.tensor(token_ids, device=self.device)
        more: dict[str, Any] = {self._cache_name: cache, "use_cache": True}
        if self._takes_positions:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if self._takes_logits_to_keep:
            more["logits_to_keep"] = 1
        output = self._model(input_ids=ids, attention_mask=mask, return_dict=True, **more)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def whole(self, token_ids: list[int]) -> torch.Tensor:
        """Computes one row at once, without cache, padding, or positions.

        :return: logits after each token, of shape (tokens, vocabulary), in float32.
        """
        ids = torch.tensor([token_ids], device=self.device)
        output = self._model(input_ids=ids, use_cache=False, return_dict=True)
        logits: torch.Tensor = output.logits[0].float()
        return logits

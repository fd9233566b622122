# SPDX-License-Identifier: Apache-2.0
"""Classifies texts with a model of transformers for sequence classification."""

import inspect
from typing import Any

import torch

from dynamo_llm.errors import NotSupportedError
from dynamo_llm.runtime.stepping.row_batches import RowBatches

#: Keys of config.json with the activation of a cross-encoder, by sentence-transformers and older versions.
_activation_key, _old_activation_key = "activation_fn", "sbert_ce_default_activation_function"


class Classifier(RowBatches):
    """A model that makes a number for each label of a row of token ids: logits. The parameters are those of
    :class:`RowBatches`.

    :raises NotSupportedError: config.json names an activation that is not supported.
    """

    def __init__(self, model: Any, max_batch: int, max_batch_tokens: int) -> None:
        config = model.config
        # A decoder finds the end of each row by the padding, and takes one row at a time without it.
        super().__init__(model, max_batch if config.pad_token_id is not None else 1, max_batch_tokens)
        known = inspect.signature(model.forward).parameters
        self._takes_types = "token_type_ids" in known and getattr(config, "type_vocab_size", 0) > 1
        self._activation = _activation_of(config)
        self.labels = [str(config.id2label.get(number, number)) for number in range(config.num_labels)]
        """Name of each label."""

    def activated(self, logits: list[float]) -> list[float]:
        """Returns what logits stand for: probabilities, unless the model was trained for numbers."""
        row = torch.tensor(logits)
        if self._activation == "softmax":
            row = row.softmax(-1)
        elif self._activation == "sigmoid":
            row = row.sigmoid()
        values: list[float] = row.tolist()
        return values

    def _of(
        self, ids: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor, types: torch.Tensor | None
    ) -> torch.Tensor:
        more = {"token_type_ids": types} if types is not None and self._takes_types else {}
        output = self._model(input_ids=ids, attention_mask=mask, return_dict=True, **more)
        logits: torch.Tensor = output.logits.float()
        return logits


def _activation_of(config: Any) -> str:
    """Returns ``softmax``, ``sigmoid``, or ``identity``, by the rules of sentence-transformers and vLLM."""
    settings = getattr(config, "sentence_transformers", None)
    named = settings.get(_activation_key) if isinstance(settings, dict) else None
    named = named or getattr(config, _old_activation_key, None)
    if named is not None:
        name = str(named).rpartition(".")[2].lower()
        if name not in ("identity", "sigmoid", "softmax"):
            raise NotSupportedError(
                f'config.json has the activation "{named}"; the engine "transformers" supports Identity, '
                f"Sigmoid, and Softmax"
            )
        return name
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return "identity"
    return "sigmoid" if problem == "multi_label_classification" or config.num_labels == 1 else "softmax"

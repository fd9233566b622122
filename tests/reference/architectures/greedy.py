# SPDX-License-Identifier: Apache-2.0
"""What transformers' generate() answers, one prompt at a time, without padding."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from architecture import max_tokens, tokenizer

#: A token is decided if its logit is the largest by this much of the spread of all logits. Engines add up
#: numbers in different orders, so what is nearer may change places.
margin = 2e-3


@dataclass
class Answer:
    """A greedy answer."""

    token_ids: list[int]
    decided: int
    """How many tokens come before the first that is not decided."""

    @cached_property
    def text(self) -> str:
        """Text of the decided tokens."""
        text: str = tokenizer().decode(self.token_ids[: self.decided])
        return text


def greedy(model: Any, token_ids: list[int]) -> Answer:
    """Answer a prompt."""
    ids = torch.tensor([token_ids])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_tokens,
            output_logits=True,
            return_dict_in_generate=True,
        )
    decided = 0
    for logits in output.logits:
        first, second = logits[0].topk(2).values.tolist()
        if first - second < margin * float(logits[0].std()):
            break
        decided += 1
    return Answer(output.sequences[0, len(token_ids) :].tolist(), decided)

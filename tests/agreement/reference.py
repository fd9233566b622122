# SPDX-License-Identifier: Apache-2.0
"""What transformers' generate() answers, one prompt at a time, without padding."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from dynamo_llm.paths import demo_model_dir
from transformers import AutoModelForCausalLM, AutoTokenizer

max_tokens = 40

#: Two logits that are nearer than this, in float32, may change places: engines add up in different orders.
epsilon = 1e-3


@dataclass
class Answer:
    """Greedy tokens, the one that ended them included, and the logits that each was chosen by."""

    token_ids: list[int]
    logits: list[Any]


class Reference:
    """The demo model in float32."""

    @cached_property
    def model(self) -> Any:
        """The model."""
        return AutoModelForCausalLM.from_pretrained(
            demo_model_dir(), dtype=torch.float32, use_safetensors=True, local_files_only=True
        )

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return AutoTokenizer.from_pretrained(demo_model_dir(), local_files_only=True)

    def prompt(self, question: str) -> list[int]:
        """A question as the model's chat template has it."""
        messages = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def generate(self, token_ids: list[int], tokens: int = max_tokens) -> Answer:
        """Answer a prompt."""
        ids = torch.tensor([token_ids])
        with torch.inference_mode():
            output = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=tokens,
                output_logits=True,
                return_dict_in_generate=True,
            )
        return Answer(output.sequences[0, len(token_ids) :].tolist(), [one[0] for one in output.logits])

    def text(self, token_ids: list[int]) -> str:
        """Tokens as the text that a caller gets."""
        text: str = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        return text

    def ids(self, text: str) -> list[int]:
        """A text as tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

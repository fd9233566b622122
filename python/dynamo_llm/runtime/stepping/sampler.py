# SPDX-License-Identifier: Apache-2.0
"""Samples the tokens of one answer."""

import torch
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.engine import TokenLogprob, TokenRequest


class Sampler:
    """Applies a request's logits processors, in the order of transformers' ``generate()``, and samples with
    the request's own random numbers.

    :param vocabulary: size of the vocabulary.
    :param device: device of the logits.
    :raises InvalidRequestError: the processors do not accept a value.
    """

    def __init__(self, request: TokenRequest, vocabulary: int, device: torch.device) -> None:
        chosen = request.sampling
        self._logprobs = request.logprobs
        self._vocabulary = vocabulary
        self._is_greedy = not chosen.temperature  # None and 0
        self._frequency = chosen.frequency_penalty or 0.0
        self._presence = chosen.presence_penalty or 0.0
        self._counts_tokens = bool(self._frequency or self._presence)
        self._prompt_length = self._length = len(request.token_ids)
        try:
            self._processors = self._make_processors(request, device)
            self._warpers = LogitsProcessorList() if self._is_greedy else self._make_warpers(request)
        except (ValueError, TypeError) as error:
            raise InvalidRequestError(f"transformers refuses the request: {error}") from error
        self.is_plain = (
            self._is_greedy and not self._processors and not self._counts_tokens and request.logprobs is None
        )
        """Whether sampling is greedy without log-probs, so that the caller can choose the token itself."""
        if self.is_plain:
            return
        self._tokens = torch.empty(self._length + request.max_tokens, dtype=torch.long, device=device)
        self._tokens[: self._length] = torch.tensor(request.token_ids, device=device)
        self._random = torch.Generator(device)
        if chosen.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(chosen.seed % 2**64)

    def _make_processors(self, request: TokenRequest, device: torch.device) -> LogitsProcessorList:
        chosen = request.sampling
        made = LogitsProcessorList()
        if chosen.logit_bias:
            made.append(SequenceBiasLogitsProcessor([[[t], float(b)] for t, b in chosen.logit_bias.items()]))
            if not all(0 <= token < self._vocabulary for token in chosen.logit_bias):
                raise ValueError(f'"logit_bias" has a token id that is not in 0 to {self._vocabulary - 1}')
        if chosen.repetition_penalty is not None and chosen.repetition_penalty != 1:
            made.append(RepetitionPenaltyLogitsProcessor(float(chosen.repetition_penalty)))
        if request.min_tokens and request.stop_token_ids:
            made.append(
                MinNewTokensLengthLogitsProcessor(
                    self._prompt_length, request.min_tokens, list(request.stop_token_ids), device=str(device)
                )
            )
        return made

    @staticmethod
    def _make_warpers(request: TokenRequest) -> LogitsProcessorList:
        chosen = request.sampling
        made = LogitsProcessorList()
        if chosen.temperature != 1:
            made.append(TemperatureLogitsWarper(float(chosen.temperature or 1)))
        if chosen.top_k is not None and chosen.top_k > 0:
            made.append(TopKLogitsWarper(chosen.top_k))
        if chosen.top_p is not None and chosen.top_p < 1:
            made.append(TopPLogitsWarper(float(chosen.top_p)))
        if chosen.min_p:
            made.append(MinPLogitsWarper(float(chosen.min_p)))
        return made

    def choose(self, logits: torch.Tensor) -> tuple[int, TokenLogprob | None]:
        """Samples the next token.

        :param logits: the model's logits, of shape (1, vocabulary), in float32.
        :return: the token's id, and its log-prob if the request asks for log-probs. Log-probs are the
            model's, before penalties, biases, and temperature.
        """
        before = self._tokens[None, : self._length]
        scores = self._processors(before, logits)
        if self._counts_tokens:
            answer = self._tokens[self._prompt_length : self._length]
            counts = torch.bincount(answer, minlength=self._vocabulary)[: scores.shape[-1]]
            scores = scores - self._frequency * counts - self._presence * (counts > 0)
        if self._is_greedy:
            chosen = scores.argmax(-1)
        else:
            likely = torch.softmax(self._warpers(before, scores), dim=-1)
            chosen = torch.multinomial(likely, 1, generator=self._random)[0]
        self._tokens[self._length] = chosen[0]
        self._length += 1
        token = int(chosen)
        return token, None if self._logprobs is None else self._logprob_of(token, logits)

    def _logprob_of(self, token: int, logits: torch.Tensor) -> TokenLogprob:
        logprobs = torch.log_softmax(logits[0], dim=-1)
        values, ids = logprobs.topk(min(self._logprobs or 0, len(logprobs)))
        top = list(zip(ids.tolist(), values.tolist(), strict=True))
        return {"logprob": float(logprobs[token]), "top": top}

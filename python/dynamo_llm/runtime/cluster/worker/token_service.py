# SPDX-License-Identifier: Apache-2.0
"""Answers Dynamo's token-level requests: the inverse of
:mod:`dynamo_llm.runtime.cluster.token_protocol`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields
from typing import Any

from dynamo_llm.errors import ContextLengthError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engine import Sampling

#: Sends a body to the engine and returns its request.
Send = Callable[[dict[str, Any]], Any]

#: Keys that a body has, too, with the same meaning.
_sampling = [field.name for field in fields(Sampling) if field.name != "logit_bias"]
_guided = ("json", "regex", "grammar", "choice")
#: The finish reasons that Dynamo knows.
_reasons = {"stop", "length", "content_filter"}
#: Keys of a request that the engine gets in the body's "nvext".
_passed_on = ("prefill_result", "bootstrap_info")


@dataclass(frozen=True)
class TokenService:
    """Serves a token-level engine."""

    context_length: int
    adapters: list[str]
    """Names of the engine's LoRA adapters."""
    role: str
    has_ranks: bool
    """Whether the engine has several data parallel ranks, so that requests may select one."""

    async def answer(self, request: Any, trace: dict[str, str], send: Send) -> AsyncIterator[dict[str, Any]]:
        """Yields the items of the answer to Dynamo's PreprocessedRequest."""
        body = self._body(request, trace)
        count = _n(request)
        wants_logprobs = "logprobs" in body
        if count == 1:
            async for item in _choice(send(body), 0, len(body["prompt"]), wants_logprobs):
                yield item
            return
        seed = body.get("seed")
        bodies = [body if seed is None else {**body, "seed": seed + index} for index in range(count)]
        choices = [
            _choice(answer, index, len(body["prompt"]), wants_logprobs)
            for index, answer in enumerate([send(one) for one in bodies])
        ]
        async for item in _merged(choices):
            yield item

    def _body(self, request: Any, trace: dict[str, str]) -> dict[str, Any]:
        """Returns the completion body that ``dynamo_llm/engine.h`` describes."""
        if not isinstance(request, dict) or not isinstance(request.get("token_ids"), list):
            raise InvalidRequestError('the request must be an object with an array of "token_ids"')
        prompt = request["token_ids"]
        stop = _object(request, "stop_conditions")
        sampling = _object(request, "sampling_options")
        output = _object(request, "output_options")
        routing = _object(request, "routing")
        if sampling.get("use_beam_search"):
            raise NotSupportedError('"use_beam_search" of the request is not supported')
        if output.get("prompt_logprobs") is not None:
            raise NotSupportedError('"prompt_logprobs" of the request is not supported')
        ignores_eos = bool(stop.get("ignore_eos"))
        stops = [*(stop.get("stop_token_ids_hidden") or []), *(stop.get("stop_token_ids") or [])]
        stops += stop.get("stop_token_ids_visible") or []
        if not ignores_eos:
            stops += request.get("eos_token_ids") or []
        body: dict[str, Any] = {
            "prompt": prompt,
            "max_tokens": self._max_tokens(len(prompt), stop.get("max_tokens")),
            "min_tokens": stop.get("min_tokens") or 0,
            "stop_token_ids": list(dict.fromkeys(stops)),
            "ignore_eos": ignores_eos,
            "logprobs": output.get("logprobs"),
            "priority": routing.get("priority"),
            **{key: sampling.get(key) for key in _sampling},
            **trace,
        }
        if sampling.get("logit_bias"):
            bias = _object(sampling, "logit_bias")
            body["logit_bias"] = {str(token): value for token, value in bias.items()}
        guided = _object(sampling, "guided_decoding")
        body |= {f"guided_{kind}": guided.get(kind) for kind in _guided}
        if unknown := [key for key, value in guided.items() if value and key not in (*_guided, "backend")]:
            raise NotSupportedError(f'"guided_decoding.{unknown[0]}" of the request is not supported')
        adapter = routing.get("lora_name") or request.get("model")
        if adapter in self.adapters:
            body["adapter"] = adapter
        extension = {key: request[key] for key in _passed_on if request.get(key) is not None}
        extension |= {key: routing[key] for key in ("cache_salt",) if routing.get(key) is not None}
        if self.has_ranks and routing.get("dp_rank") is not None:
            extension["dp_rank"] = routing["dp_rank"]
        if extension:
            body["nvext"] = extension
        return {key: value for key, value in body.items() if value is not None}

    def _max_tokens(self, prompt: int, wanted: int | None) -> int:
        available = self.context_length - prompt
        needed = 1 if wanted is None or self.role == "prefill" else wanted
        if available < max(1, needed):
            raise ContextLengthError(
                f"the prompt has {prompt} tokens and the answer may have {needed}, but the model's context "
                f"length is {self.context_length} tokens for both together"
            )
        return needed if wanted is not None else 1 if self.role == "prefill" else available


def _n(request: dict[str, Any]) -> int:
    sampling = _object(request, "sampling_options")
    count = sampling.get("n") or 1
    if sampling.get("best_of") not in (None, count):
        raise NotSupportedError('"best_of" other than "n" in the request is not supported')
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidRequestError(f'"n" of the request must be an integer of at least 1, not {count!r}')
    return count


def _object(request: dict[str, Any], key: str) -> dict[str, Any]:
    value = request.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f'"{key}" of the request must be an object')
    return value


async def _choice(
    answer: Any, index: int, prompt_tokens: int, wants_logprobs: bool
) -> AsyncIterator[dict[str, Any]]:
    """Yields the items of one choice. Tokens that are ready together share an item."""
    count = 0
    reason = usage = None
    last: dict[str, Any] = {"token_ids": [], "index": index}
    #: The choice with its other keys, such as a prefill engine's parameters for the decode worker.
    choice: dict[str, Any] = {}
    async for response in answer:
        item: dict[str, Any] = {"token_ids": response.token_ids, "index": index}
        count += len(response.token_ids)
        if wants_logprobs and response.token_ids:
            item |= _logprobs(response.json())
        usage = response.usage or usage
        reason = response.finish_reason or reason
        if reason is not None:
            last = _joined(last, item)
            choice = response.json()["choices"][0] or choice
        elif response.token_ids:
            yield item
    completion: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": count,
        "total_tokens": prompt_tokens + count,
    }
    if usage is not None and usage.cached_tokens:
        completion["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if "disaggregated_params" in choice:
        last["disaggregated_params"] = choice["disaggregated_params"]
    yield {
        **last,
        "finish_reason": reason if reason in _reasons else "stop",
        "completion_usage": completion,
    }


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merges two items by concatenating their arrays."""
    arrays = {key for key in (*first, *second) if key != "index"}
    return {"index": second["index"], **{key: first.get(key, []) + second.get(key, []) for key in arrays}}


def _logprobs(response: dict[str, Any]) -> dict[str, Any]:
    given = response["choices"][0].get("logprobs") or {}
    tokens = given.get("tokens") or []
    return {
        "log_probs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            [
                {"rank": rank, "token_id": id, "token": None, "logprob": logprob}
                for rank, (id, logprob) in enumerate(token.get("top") or [], 1)
            ]
            for token in tokens
        ],
    }


async def _merged(choices: list[AsyncIterator[dict[str, Any]]]) -> AsyncIterator[dict[str, Any]]:
    """Yields the items of several choices as they arrive."""
    items: asyncio.Queue[dict[str, Any] | BaseException | None] = asyncio.Queue()

    async def read(choice: AsyncIterator[dict[str, Any]]) -> None:
        try:
            async for item in choice:
                items.put_nowait(item)
            items.put_nowait(None)
        except BaseException as error:
            items.put_nowait(error)
            raise

    tasks = [asyncio.ensure_future(read(choice)) for choice in choices]
    try:
        left = len(tasks)
        while left:
            item = await items.get()
            if isinstance(item, BaseException):
                raise item
            left -= item is None
            if item is not None:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

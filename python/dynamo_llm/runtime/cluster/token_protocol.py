# SPDX-License-Identifier: Apache-2.0
"""Requests and chunks of token-level engines in Dynamo's wire format: its PreprocessedRequest and
LLMEngineOutput.
"""

from typing import Any

from dynamo_llm.errors import CancelledError, EngineFailedError
from dynamo_llm.runtime.engine import TokenChunk, TokenLogprob, TokenRequest, Usage


def to_dynamo(request: TokenRequest, model: str) -> dict[str, Any]:
    """Converts a request to Dynamo's PreprocessedRequest, in which missing values are None."""
    sampling = request.sampling
    stop_ids = list(request.stop_token_ids)
    routing: dict[str, Any] = dict(request.routing or {})
    agent_context = routing.pop("agent_context", None)
    if request.priority:
        routing["priority"] = request.priority
    if request.cache_salt is not None:
        routing["cache_salt"] = request.cache_salt
    return {
        "token_ids": list(request.token_ids),
        "model": model,
        "stop_conditions": {
            "max_tokens": request.max_tokens,
            "min_tokens": request.min_tokens or None,
            "stop": None,  # the pipeline handles stop strings
            "stop_token_ids": stop_ids or None,
            "stop_token_ids_hidden": stop_ids or None,
            "ignore_eos": request.ignore_eos,
            "max_thinking_tokens": None,
        },
        "sampling_options": {
            **vars(sampling),
            "temperature": 0.0 if sampling.temperature is None else sampling.temperature,
            "n": 1,
            "best_of": None,
            "use_beam_search": None,
            "length_penalty": None,
            "include_stop_str_in_output": None,
            "guided_decoding": request.guided,
        },
        "output_options": {
            "logprobs": request.logprobs,
            "prompt_logprobs": None,
            "skip_special_tokens": None,
            "formatted_prompt": None,
            "return_tokens_as_token_ids": None,
        },
        "eos_token_ids": [] if request.ignore_eos else stop_ids,
        "annotations": [],
        "routing": routing or None,
        "agent_context": agent_context,
        "extra_args": None,
    }


def from_dynamo(given: dict[str, Any], logprobs: int | None) -> TokenChunk:
    """Converts Dynamo's LLMEngineOutput to a chunk. ``logprobs`` is that of the :class:`TokenRequest`.

    :raises EngineFailedError: it reports an error.
    :raises CancelledError: the worker aborted the request.
    """
    chunk: TokenChunk = {"token_ids": given.get("token_ids") or []}
    if logprobs is not None and given.get("log_probs"):
        chunk["logprobs"] = _logprobs(given, logprobs)
    if usage := given.get("completion_usage"):
        chunk["usage"] = _usage(usage)
    if reason := given.get("finish_reason"):
        chunk["finish_reason"] = _finish_reason(reason)
    return chunk


def _finish_reason(reason: Any) -> str:
    """Converts a finish reason like Dynamo's frontend; raises one that reports an error."""
    if isinstance(reason, dict) and "error" in reason:
        raise EngineFailedError(f"the engine failed: {reason['error']}")
    text = str(reason)
    if text.startswith("error"):
        raise EngineFailedError(f"the engine failed: {text.removeprefix('error').lstrip(': ') or text}")
    if text in ("cancelled", "abort"):
        raise CancelledError("the engine aborted the request")
    return "stop" if text == "eos" else text


def _usage(given: dict[str, Any]) -> Usage:
    usage: Usage = {}
    if given.get("prompt_tokens") is not None:
        usage["prompt_tokens"] = given["prompt_tokens"]
    if given.get("completion_tokens") is not None:
        usage["completion_tokens"] = given["completion_tokens"]
    if (cached := (given.get("prompt_tokens_details") or {}).get("cached_tokens")) is not None:
        usage["cached_tokens"] = cached
    return usage


def _logprobs(given: dict[str, Any], count: int) -> list[TokenLogprob]:
    chosen = given["log_probs"]
    tops = given.get("top_logprobs") or [[] for _ in chosen]
    if not len(chosen) == len(tops) == len(given.get("token_ids") or []):
        raise EngineFailedError(
            "the engine's log_probs and top_logprobs must have one entry for each of its token_ids"
        )
    result: list[TokenLogprob] = []
    for logprob, top in zip(chosen, tops, strict=True):
        entries = sorted(((one["token_id"], one["logprob"]) for one in top or []), key=lambda one: -one[1])
        result.append({"logprob": logprob, "top": entries[:count]})
    return result

# SPDX-License-Identifier: Apache-2.0
"""Requests, in the forms that the kinds of engines take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A request to a text engine or a step-level engine."""

    id: str
    """Unique in this process; also in logs and errors."""
    body: dict[str, Any]
    """The OpenAI body of a chat (``messages``), a completion (``prompt``), or an embedding request
    (``input``); keys and types were checked."""
    is_cancelled: Callable[[], bool]
    """Returns whether the request was cancelled. Any thread. For engines that work for long between
    chunks."""
    remaining: Callable[[], float | None] = lambda: None
    """Returns the seconds until the request's deadline; None without one. Any thread. The library enforces
    the deadline itself; this is for engines that pass it on."""
    set_queued: Callable[[bool], None] = lambda is_queued: None
    """The engine calls this with True when the request enters a queue of its own, and with False when work
    begins: the time in between is the request's ``queue_us``. Any thread. Without a call, work begins when
    ``generate()`` is called, or, for a plain generator, when it gets a thread."""


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A raw request."""

    id: str
    """Unique in this process; also in logs and errors."""
    data: Any
    """The payload: bytes, or the value of its JSON."""
    is_cancelled: Callable[[], bool] = bool
    """Returns whether the request was cancelled. Any thread."""
    remaining: Callable[[], float | None] = lambda: None
    """Returns the seconds until the request's deadline, as in :class:`EngineRequest`."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters. None means the engine's default, which should be greedy decoding."""

    temperature: float | None = None
    """0 is greedy decoding."""
    top_p: float | None = None
    top_k: int | None = None
    """None or -1 means all tokens."""
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[int, float] | None = None
    """Values to add to logits, by token id."""


@dataclass(frozen=True)
class TokenRequest:
    """One choice of a request to a token-level engine. All values were checked, and defaults applied."""

    id: str
    """Unique in this process; each choice of a request has its own."""
    token_ids: list[int]
    """The prompt; together with ``max_tokens`` it fits the context length."""
    max_tokens: int
    """Maximum number of tokens of the answer; at least 1."""
    sampling: Sampling
    min_tokens: int = 0
    """Number of tokens before which no token of ``stop_token_ids`` may end the answer."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the answer with ``stop``: the model's EOS (unless ``ignore_eos``) and the request's
    own. The pipeline detects stop strings itself, and then closes the generator."""
    ignore_eos: bool = False
    """Whether EOS must not end the answer; for engines that know EOS themselves."""
    logprobs: int | None = None
    """Number of alternatives per token, 0 for none; None means no log-probs."""
    guided: dict[str, Any] | None = None
    """Structured output: one of ``{"json": schema}``, ``{"regex": text}``, ``{"grammar": text}``,
    ``{"choice": [texts]}``; only for engines that declare the capability."""
    adapter: str | None = None
    """LoRA adapter, one of ``adapters`` in the engine's description."""
    priority: int = 0
    """Higher values are scheduled sooner."""
    cache_salt: str | None = None
    """Only requests with the same cache salt may share prefixes."""
    trace: dict[str, str] | None = None
    """W3C trace context of the request, ``traceparent`` and ``tracestate``, for engines that create spans
    themselves."""
    routing: dict[str, Any] | None = None
    """Dynamo's routing hints for the request. In a worker with several ranks, ``dp_rank`` is the rank that
    was selected. Only for engines with the capability ``routing``."""
    disaggregated: dict[str, Any] | None = None
    """For the decode role of disaggregated serving: ``prefill_result``, with the ``disaggregated_params``
    that the prefill worker's engine put into the ``delta`` of its last chunk, and ``bootstrap_info``. Only
    for engines with the capability ``disaggregation``."""
    extra: dict[str, Any] | None = None
    """The body's ``extra``, unchanged; only for engines that declare ``extra`` in their ``request_keys``."""
    keys: dict[str, Any] | None = None
    """Other keys of the body that the engine declares in its ``request_keys``, unchanged."""
    is_cancelled: Callable[[], bool] = bool
    """Returns whether the request was cancelled. Any thread."""
    remaining: Callable[[], float | None] = lambda: None
    """Returns the seconds until the request's deadline, as in :class:`EngineRequest`."""
    set_queued: Callable[[bool], None] = lambda is_queued: None
    """Reports a queue of the engine's own, as in :class:`EngineRequest`."""

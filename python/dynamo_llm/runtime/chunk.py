# SPDX-License-Identifier: Apache-2.0
"""What engines yield: parts of an answer."""

from typing import Any, TypedDict


class Usage(TypedDict, total=False):
    """Token counts of a whole request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Chunk(TypedDict, total=False):
    """A part of an answer. All keys are optional."""

    text: str | bytes
    """More text. Bytes may end within a UTF-8 code point: the library reassembles it."""
    token_ids: list[int]
    """Ids of the chunk's tokens; a chunk without them counts as one token."""
    index: int
    """Index of the choice, from 0; default: 0."""
    finish_reason: str | None
    """In the last chunk of a choice: ``stop``, ``length``, ``tool_calls``, ..."""
    delta: dict[str, Any]
    """More keys of OpenAI's delta: ``tool_calls``, ``reasoning_content``; for a completion, of its choice."""
    logprobs: dict[str, Any]
    """OpenAI's ``logprobs`` of the choice."""
    usage: Usage
    """Token counts of the request so far; the last ones count."""
    data: str | bytes
    """An item of the answer to a raw request: bytes, or JSON."""


class TokenLogprob(TypedDict, total=False):
    """Log-probs of one position (natural logarithm)."""

    logprob: float
    """Log-prob of the token that was sampled."""
    top: list[tuple[int, float]]
    """Alternatives as token id and log-prob, the most likely first; as many as requested."""


class TokenChunk(TypedDict, total=False):
    """A part of the answer of a token-level engine. All keys but ``token_ids`` are optional."""

    token_ids: list[int]
    """Ids of the new tokens. A token that ended the answer (EOS, a stop token) may be included or left
    out."""
    finish_reason: str | None
    """In the last chunk: ``stop``, ``length``, ..."""
    logprobs: list[TokenLogprob]
    """One entry per token in ``token_ids``, if the request asks for log-probs."""
    usage: Usage
    """Token counts that only the engine knows, ``cached_tokens``; the pipeline counts the others itself."""
    delta: dict[str, Any]
    """More keys of OpenAI's delta, if the engine parses answers itself: ``tool_calls``,
    ``reasoning_content``."""

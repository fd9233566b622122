# SPDX-License-Identifier: Apache-2.0
"""Whole answers, assembled from streamed responses."""

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dynamo_llm._core import Response, Timing, Usage


@dataclass(frozen=True)
class ToolCall:
    """A tool call that the model requests."""

    id: str
    """Goes into ``tool_call_id`` of the message with the tool's result."""
    name: str
    """Name of the tool."""
    arguments: str
    """Arguments as the model wrote them: JSON, unless the answer was cut off."""

    def json(self) -> dict[str, Any]:
        """Returns OpenAI's object, as in ``tool_calls`` of a message."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True)
class Logprob:
    """The log-probability of a token of the answer, or of an alternative to it."""

    text: str
    """Text of the token; a part of a character is named as the engine names it, such as ``bytes:\\xe2``."""
    logprob: float
    """Natural logarithm of the probability; NaN if the engine does not report it."""
    token_id: int | None = None
    """Token id, if it is known."""
    alternatives: list["Logprob"] = field(default_factory=list)
    """The most likely tokens in its place, most likely first; the token itself may be among them."""


@dataclass
class Choice:
    """One of the answers to a request."""

    index: int
    """Number of the choice, from 0."""
    text: str = ""
    """The whole text."""
    token_ids: list[int] = field(default_factory=list)
    """All token ids; empty if the engine does not report them."""
    finish_reason: str | None = None
    """Why the choice ended: ``stop``, ``length``, ``tool_calls``, ``content_filter``."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    """Tool calls that the model requests."""
    reasoning_content: str = ""
    """Reasoning; empty if the engine does not separate it from the text."""
    logprobs: list[Logprob] = field(default_factory=list)
    """Log-probs of the tokens; empty if the request did not ask for them."""

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message, to be appended to the messages of the next request. It has the reasoning
        if it has tool calls, because a model continues it after their results.
        """
        if not self.tool_calls:
            return {"role": "assistant", "content": self.text}
        reasoning = {"reasoning_content": self.reasoning_content} if self.reasoning_content else {}
        calls = [call.json() for call in self.tool_calls]
        return {"role": "assistant", "content": self.text or None, **reasoning, "tool_calls": calls}


class Completion:
    """The whole answer to a chat or completion request.

    :param responses: all responses of the request, in order.
    """

    def __init__(self, responses: Sequence[Response]) -> None:
        self._responses = responses
        choices: dict[int, Choice] = {}
        self.usage: Usage | None = None
        """Token counts of the request; None if the engine does not report them."""
        for response in responses:
            choice = choices.setdefault(response.index, Choice(response.index))
            choice.text += response.text
            choice.token_ids += response.token_ids
            choice.finish_reason = response.finish_reason or choice.finish_reason
            choice.tool_calls += response.tool_calls
            choice.reasoning_content += response.reasoning_content
            choice.logprobs += response.logprobs
            self.usage = response.usage or self.usage
        self.timing: Timing | None = responses[-1].timing if responses else None
        """Timestamps of the request; None without a response."""
        self._choices = [choices[index] for index in sorted(choices)] or [Choice(0)]

    @cached_property
    def choices(self) -> list[Choice]:
        """All choices, as many as the request's ``n``."""
        if len(self._responses) != 1:
            return self._choices
        # With "stream": false one response carries all choices; the first is parsed, the others are in its
        # JSON.
        others = self._responses[0].json().get("choices", ())[1:]
        return self._choices + [_choice_of(other) for other in others]

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self._choices[0].text

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the first choice; empty if the engine does not report them."""
        return self._choices[0].token_ids

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self._choices[0].finish_reason

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Tool calls of the first choice."""
        return self._choices[0].tool_calls

    @property
    def reasoning_content(self) -> str:
        """Reasoning of the first choice; empty if the engine does not separate it from the text."""
        return self._choices[0].reasoning_content

    @property
    def logprobs(self) -> list[Logprob]:
        """Log-probs of the first choice; empty if the request did not ask for them."""
        return self._choices[0].logprobs

    @property
    def message(self) -> dict[str, Any]:
        """The first choice as a message: see :attr:`Choice.message`."""
        return self._choices[0].message

    def json(self) -> dict[str, Any]:
        """Returns OpenAI's object, a ``chat.completion`` or ``text_completion``; {} without a response. It
        does not depend on whether the answer was streamed.
        """
        whole: dict[str, Any] = {}
        choices: dict[int, dict[str, Any]] = {}
        for response in self._responses:
            chunk = response.json()
            for choice in chunk.pop("choices", ()):
                if "delta" in choice:
                    choice["message"] = choice.pop("delta")
                _merge(choices.setdefault(choice["index"], {}), choice)
            whole.update(chunk)
        if whole:
            whole["object"] = whole["object"].removesuffix(".chunk")
            whole.pop("usage", None)
            whole["choices"] = [choices[index] for index in sorted(choices)]
            for choice in whole["choices"]:
                if "message" in choice:
                    choice["message"] = _whole_message(choice["message"])
            if self.usage is not None:
                whole["usage"] = _usage_of(self.usage)
        return whole

    def __repr__(self) -> str:
        return f"Completion(text={self.text!r}, finish_reason={self.finish_reason!r}, usage={self.usage!r})"


def _choice_of(given: dict[str, Any]) -> Choice:
    """Reads a choice of an OpenAI object."""
    message = given.get("message", {})
    return Choice(
        given["index"],
        (message["content"] if message else given["text"]) or "",
        given.get("token_ids", []),
        given["finish_reason"],
        [_tool_call_of(call) for call in message.get("tool_calls") or ()],
        message.get("reasoning_content") or "",
        _logprobs_of(given.get("logprobs") or {}, given.get("token_ids", [])),
    )


def _tool_call_of(given: dict[str, Any]) -> ToolCall:
    """Reads a tool call of an OpenAI object."""
    if "custom" in given:
        return ToolCall(given["id"], given["custom"].get("name", ""), given["custom"].get("input", ""))
    return ToolCall(given["id"], given["function"]["name"], given["function"]["arguments"])


def _logprobs_of(given: dict[str, Any], token_ids: list[int]) -> list[Logprob]:
    """Reads the log-probs of a choice of an OpenAI object: of a chat, or of a completion."""
    ids: list[int | None] = [*token_ids]
    if "content" in given:
        tokens = given["content"] or []
        tops = [[(one["token"], one["logprob"]) for one in token.get("top_logprobs", ())] for token in tokens]
        values = [(token["token"], token["logprob"]) for token in tokens]
    else:
        values = list(zip(given.get("tokens", ()), given.get("token_logprobs", ()), strict=True))
        tops = [
            sorted((top or {}).items(), key=lambda one: -one[1])
            for top in given.get("top_logprobs") or [None] * len(values)
        ]
    if len(ids) != len(values):
        ids = [None] * len(values)
    return [
        Logprob(text, _number(value), token_id, [Logprob(*one) for one in top])
        for (text, value), token_id, top in zip(values, ids, tops, strict=True)
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _usage_of(usage: Usage) -> dict[str, Any]:
    """Returns OpenAI's ``usage``."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _whole_message(merged: dict[str, Any]) -> dict[str, Any]:
    """Returns OpenAI's message for the merged deltas of a stream."""
    message = {"role": "assistant", "content": None, "refusal": None} | merged
    has_more = any(value is not None for key, value in message.items() if key not in ("role", "content"))
    # As in an answer that is not streamed: "" only if the message has nothing else.
    message["content"] = message["content"] or (None if has_more else "")
    for call in message.get("tool_calls") or ():
        call.pop("index", None)
        call.setdefault("id", "")
        if "custom" not in call:
            call.setdefault("type", "function")
            call["function"] = {"name": "", "arguments": ""} | call.get("function", {})
    return message


class ListAnswer:
    """The answer to a request whose answer is a list, with an entry for each text.

    :param responses: all responses of the request, in order.
    """

    def __init__(self, responses: Sequence[Response]) -> None:
        self._json: dict[str, Any] = {}
        self.usage: Usage | None = None
        """Token counts of the request; None if the engine does not report them."""
        self.timing: Timing | None = responses[-1].timing if responses else None
        """Timestamps of the request; None without a response."""
        for response in responses:
            _merge(self._json, response.json())
            self.usage = response.usage or self.usage

    def json(self) -> dict[str, Any]:
        """Returns the whole answer, in the form of OpenAI's or vLLM's server."""
        return self._json


class Embeddings(ListAnswer):
    """The answer to an embedding request."""

    @property
    def vectors(self) -> list[list[float]]:
        """One vector per input, in the order of the inputs."""
        data = sorted(self._json.get("data", ()), key=lambda entry: entry.get("index", 0))
        return [_floats(entry["embedding"]) for entry in data]

    def __repr__(self) -> str:
        vectors = self.vectors
        return f"Embeddings({len(vectors)} of {len(vectors[0]) if vectors else 0} dimensions)"


def _floats(embedding: list[float] | str) -> list[float]:
    if isinstance(embedding, str):  # "encoding_format": "base64": float32, little-endian
        data = base64.b64decode(embedding)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return embedding


#: Strings that a stream sends whole and may repeat; other strings are concatenated.
_identifying = ("id", "type", "role", "index", "object", "finish_reason")


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Merges deltas by OpenAI's rule: strings are concatenated, lists appended, items with an ``index``
    merged with the item of that index. The library numbers the parts of tool calls, so all of them have
    one.
    """
    for key, value in more.items():
        known = into.get(key)
        if value is None and known is not None:
            continue
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        elif isinstance(known, str) and isinstance(value, str) and key not in _identifying:
            into[key] = known + value
        elif isinstance(known, list) and isinstance(value, list):
            for item in value:
                index = item.get("index") if isinstance(item, dict) else None
                same = [one for one in known if index is not None and one.get("index") == index]
                if same:
                    _merge(same[0], item)
                else:
                    known.append(item)
        else:
            into[key] = value

# SPDX-License-Identifier: Apache-2.0
"""Whole answers."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dynamo_llm._core import Response, Timing, Usage


@dataclass
class Choice:
    """One of the answers to a request."""

    index: int
    """Its number, from 0."""
    text: str = ""
    """The whole text."""
    token_ids: list[int] = field(default_factory=list)
    """All token ids; empty if the engine gives none."""
    finish_reason: str | None = None
    """Why it ended: ``stop``, ``length``, ``tool_calls``, ``content_filter``."""


class Completion:
    """The whole answer to a chat or a completion, put together from its responses.

    :param responses: all of them, in order.
    """

    def __init__(self, responses: Sequence[Response]) -> None:
        self._responses = responses
        choices: dict[int, Choice] = {}
        self.usage: Usage | None = None
        """Token counts of the request, if the engine counts."""
        for response in responses:
            choice = choices.setdefault(response.index, Choice(response.index))
            choice.text += response.text
            choice.token_ids += response.token_ids
            choice.finish_reason = response.finish_reason or choice.finish_reason
            self.usage = response.usage or self.usage
        self.timing: Timing | None = responses[-1].timing if responses else None
        """When what happened to the request."""
        self.choices: list[Choice] = [choices[index] for index in sorted(choices)] or [Choice(0)]
        """The answers, as many as the request's ``n``."""

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.choices[0].text

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the first choice; empty if the engine gives none."""
        return self.choices[0].token_ids

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    def json(self) -> dict[str, Any]:
        """OpenAI's object: a ``chat.completion`` or ``text_completion``; {} if there was no response."""
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
            usage = whole.pop("usage", None)
            whole["choices"] = [choices[index] for index in sorted(choices)]
            if usage is not None:
                whole["usage"] = usage
        return whole

    def __repr__(self) -> str:
        return f"Completion(text={self.text!r}, finish_reason={self.finish_reason!r}, usage={self.usage!r})"


class Embeddings:
    """The answer to an embedding request.

    :param responses: all of them.
    """

    def __init__(self, responses: Sequence[Response]) -> None:
        self._json: dict[str, Any] = {}
        self.usage: Usage | None = None
        """Token counts of the request, if the engine counts."""
        self.timing: Timing | None = responses[-1].timing if responses else None
        """When what happened to the request."""
        for response in responses:
            _merge(self._json, response.json())
            self.usage = response.usage or self.usage

    @property
    def vectors(self) -> list[list[float]]:
        """A vector for each input, in their order."""
        data = sorted(self._json.get("data", ()), key=lambda entry: entry.get("index", 0))
        return [_floats(entry["embedding"]) for entry in data]

    def json(self) -> dict[str, Any]:
        """OpenAI's object: a ``list`` of ``embedding``."""
        return self._json

    def __repr__(self) -> str:
        vectors = self.vectors
        return f"Embeddings({len(vectors)} of {len(vectors[0]) if vectors else 0} dimensions)"


def _floats(embedding: list[float] | str) -> list[float]:
    if isinstance(embedding, str):  # "encoding_format": "base64" is OpenAI's: float32, little-endian
        data = base64.b64decode(embedding)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return embedding


#: What identifies something is not said in pieces.
_identifying = ("id", "type", "role", "name", "index", "object", "finish_reason")


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """OpenAI's rule for putting deltas together: texts and lists are joined, lists of numbered items by
    their ``index``.
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

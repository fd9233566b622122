# SPDX-License-Identifier: Apache-2.0
"""Parses a forced tool call, whose form structured output enforces."""

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from dynamo_llm.runtime.pipeline.answer_parser import Found

_head = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')


class ForcedCall:
    """Converts the text of a forced tool call to OpenAI's deltas."""

    def __init__(self) -> None:
        self._held = ""
        self._arguments: str | None = None

    def feed(self, text: str) -> list[dict[str, Any]]:
        """Converts more text to deltas: first one with the name, then the arguments piece by piece."""
        self._held += text
        deltas = []
        if self._arguments is None:
            head = _head.match(self._held)
            if head is None:
                return []
            try:
                name = json.loads(head[1])
            except ValueError:  # the engine did not obey the schema, so this is text
                return []
            self._arguments = ""
            self._held = self._held[head.end() :]
            call = {"id": f"call-{uuid.uuid4()}", "type": "function"}
            deltas.append(_delta({**call, "function": {"name": name, "arguments": ""}}))
        if not self._arguments:
            self._held = self._held.lstrip()
        # The last brace closes the call, not its arguments, so a final one is held back for now.
        ready = len(self._held) - self._held.endswith("}")
        deltas += self._more(ready)
        return deltas

    def finish(self) -> list[dict[str, Any]]:
        """Returns the remaining deltas when the answer has ended, maybe in the middle of the call."""
        if self._arguments is None:
            return []
        try:
            json.loads(self._arguments)
        except ValueError:
            return self._more(len(self._held))
        return []

    def _more(self, count: int) -> list[dict[str, Any]]:
        more, self._held = self._held[:count], self._held[count:]
        self._arguments = (self._arguments or "") + more
        return [_delta({"function": {"arguments": more}})] if more else []


def _delta(call: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **call}]}


class ForcedCallParser:
    """Parses an answer that must be a tool call, as an
    :class:`~dynamo_llm.runtime.pipeline.answer_parser.AnswerParser`. Text that is not a call, because the
    engine did not obey the schema or the answer ended too early, becomes content.
    """

    def __init__(self) -> None:
        self._call = ForcedCall()
        self._text = ""
        self._has_begun = False

    async def feed(self, text: str, token_ids: Sequence[int]) -> Found:
        """Parses more text."""
        return self._found(text, self._call.feed(text))

    async def finish(self, finish_reason: str, text: str, token_ids: Sequence[int]) -> Found:
        """Parses the last text, and returns it with the rest."""
        found = self._found(text, [*self._call.feed(text), *self._call.finish()])
        return found if self._has_begun else Found(content=self._text)

    async def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def _found(self, text: str, deltas: list[dict[str, Any]]) -> Found:
        self._has_begun = self._has_begun or bool(deltas)
        self._text = "" if self._has_begun else self._text + text
        return Found(calls=[call for delta in deltas for call in delta["tool_calls"]])

# SPDX-License-Identifier: Apache-2.0
"""The interface of parsers, which find reasoning and tool calls in the text of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Found(NamedTuple):
    """What a parser found in the text that it was fed."""

    content: str = ""
    reasoning: str = ""
    calls: Sequence[Mapping[str, Any]] = ()
    """Parts of tool calls in OpenAI's form, as in the ``tool_calls`` of a delta, in their order."""


class AnswerParser(Protocol):
    """Parses the text of one choice. Its methods run on the event loop, one at a time."""

    async def feed(self, text: str) -> Found:
        """Parses more text. What later text could change is returned later."""

    async def finish(self, finish_reason: str) -> Found:
        """Ends the text, and returns what was left."""

    async def close(self) -> None:
        """Frees the parser; also before the end of the text."""


class AnswerParsers(Protocol):
    """Creates the parsers of one model."""

    finds_calls: bool
    """Whether a tool call parser is configured."""
    finds_reasoning: bool
    """Whether a reasoning parser is configured."""

    async def begin(self, tools: Sequence[Mapping[str, Any]], prompt_end: str) -> AnswerParser:
        """Returns the parser of a new choice.

        :param tools: that the model may call, in OpenAI's form; without any, calls stay text.
        :param prompt_end: the end of the prompt's text, which may begin the reasoning.
        """

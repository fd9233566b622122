# SPDX-License-Identifier: Apache-2.0
"""The interface of parsers, which find reasoning and tool calls in the text of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Found(NamedTuple):
    """What a parser found in the text that it was fed."""

    content: str = ""
    reasoning: str = ""
    calls: Sequence[Mapping[str, Any]] = ()
    """Parts of tool calls in OpenAI's form, as in the ``tool_calls`` of a delta, in their order."""


def joined(*found: Found) -> Found:
    """Returns what was found in several pieces of a text, in their order."""
    return Found(
        "".join(one.content for one in found),
        "".join(one.reasoning for one in found),
        [call for one in found for call in one.calls],
    )


@dataclass(frozen=True)
class AskedChat:
    """The chat whose answer is parsed."""

    body: Mapping[str, Any]
    """OpenAI's body."""
    tools: Sequence[Mapping[str, Any]]
    """Those that the model may call, in OpenAI's form; without any, calls stay text."""
    token_ids: list[int]
    """The prompt."""
    prompt_end: str
    """The end of the prompt's text, which may begin the reasoning."""


class AnswerParser(Protocol):
    """Parses the text of one choice. Its methods run on the event loop, one at a time."""

    async def feed(self, text: str, token_ids: Sequence[int]) -> Found:
        """Parses more text. What later text could change is returned later.

        :param token_ids: of the same chunk; a part of their text may come with a later one.
        """

    async def finish(self, finish_reason: str, text: str, token_ids: Sequence[int]) -> Found:
        """Parses the last text, and returns it with what was left."""

    async def close(self) -> None:
        """Frees the parser; also before the end of the text."""


class AnswerParsers(Protocol):
    """Creates the parsers of one model."""

    finds_calls: bool
    """Whether a tool call parser is configured."""
    finds_reasoning: bool
    """Whether a reasoning parser is configured."""

    async def begin(self, chat: AskedChat) -> AnswerParser:
        """Returns the parser of a new choice."""

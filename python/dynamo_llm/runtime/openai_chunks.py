# SPDX-License-Identifier: Apache-2.0
"""Converts the events of an OpenAI stream to chunks."""

from collections.abc import Iterator
from typing import Any, TypeVar

from dynamo_llm.errors import EngineFailedError
from dynamo_llm.runtime.engine import Chunk, Usage
from dynamo_llm.runtime.openai_client import excerpt
from dynamo_llm.runtime.surrogate_halves import SurrogateHalves

_T = TypeVar("_T")

#: Largest integer that every JSON parser represents exactly.
_most = 2**53 - 1


def usage_of(given: Any, where: str = "the server") -> Usage:
    """Converts OpenAI's token counts to the library's.

    :param where: who sent them, for errors.
    :raises EngineFailedError: they are not valid token counts.
    """
    given = _checked(dict, given, "usage", where)
    usage: Usage = {
        "prompt_tokens": _number(given, "prompt_tokens", where),
        "completion_tokens": _number(given, "completion_tokens", where),
    }
    details = _checked(dict, given.get("prompt_tokens_details"), "usage", where)
    if cached := _number(details, "cached_tokens", where):
        usage["cached_tokens"] = cached
    return usage


def _wrong(name: str, value: Any, where: str) -> EngineFailedError:
    return EngineFailedError(
        f'{where} sent a value of "{name}" that is not valid in OpenAI\'s API: {excerpt(value)}'
    )


def _checked(kind: type[_T], value: Any, name: str, where: str) -> _T:
    """Returns an object or a list; an empty one for null."""
    if value is not None and not isinstance(value, kind):
        raise _wrong(name, value, where)
    return value or kind()


def _number(given: dict[str, Any], key: str, where: str) -> int:
    value = given.get(key) or 0
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not is_whole or not 0 <= value <= _most:
        raise _wrong(key, value, where)
    return int(value)


class OpenAIChunks:
    """Converts the stream of one answer. Finish reasons are held back until its end, since only then it is
    known whether the stream ended properly.

    :param choices: number of choices that the request asks for.
    :param where: who sends the stream, for errors.
    """

    def __init__(self, choices: int, where: str = "the server") -> None:
        self._choices = choices
        self._where = where
        self._ends: dict[int, Chunk] = {}
        self._usage: Usage | None = None
        self._halves = SurrogateHalves()
        self._begun: set[int] = set()

    def feed(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """Yields the chunks of one event, a ``chat.completion.chunk`` or a ``text_completion``.

        :raises EngineFailedError: the event is not valid.
        """
        if usage := event.get("usage"):
            self._usage = usage_of(usage, self._where)
        for given in _checked(list, event.get("choices"), "choices", self._where):
            choice = _checked(dict, given, "choices", self._where)
            index = _number(choice, "index", self._where)
            if index >= self._choices:
                raise EngineFailedError(
                    f"{self._where} sent choice {index}, but the request has {self._choices} choice(s)"
                )
            if reason := choice.get("finish_reason"):
                if not isinstance(reason, str):
                    raise _wrong("finish_reason", reason, self._where)
                self._ends[index] = {"index": index, "finish_reason": reason}
            if chunk := self._chunk(index, choice):
                chunk["index"] = index
                self._begun.add(index)
                yield chunk

    def end(self) -> Iterator[Chunk]:
        """Yields the last chunk of each choice; the very last chunk has the token counts.

        :raises EngineFailedError: a choice has no finish reason, so the answer was cut off.
        """
        missing = [index for index in range(self._choices) if index not in self._ends]
        if missing:
            raise EngineFailedError(
                f"{self._where} ended the stream without a finish_reason for choice {missing[0]}: "
                f"the answer is incomplete"
            )
        for index, delta in self._halves.rest():
            yield {"index": index, "delta": delta}
        *others, last = (self._ends[index] for index in range(self._choices))
        yield from others
        if self._usage is not None:
            last["usage"] = self._usage
        yield last

    def _chunk(self, index: int, choice: dict[str, Any]) -> Chunk:
        delta = _checked(dict, choice.get("delta"), "delta", self._where)
        if not delta and index not in self._begun:  # some servers send the whole message in one event
            delta = _checked(dict, choice.get("message"), "message", self._where)
        chunk: Chunk = {}
        text, more = _content(choice.get("text") or delta.get("content"), self._where)
        if text:
            chunk["text"] = text
        more |= {key: value for key, value in delta.items() if key not in _plain and value is not None}
        if calls := _calls(delta.get("tool_calls"), self._where):
            more["tool_calls"] = calls
        if more:
            chunk["delta"] = self._halves.join(index, more)
        if logprobs := _checked(dict, choice.get("logprobs"), "logprobs", self._where):
            chunk["logprobs"] = logprobs
        if token_ids := choice.get("token_ids"):  # vLLM and SGLang, if the request asks for them
            chunk["token_ids"] = [
                _token_id(one, self._where) for one in _checked(list, token_ids, "token_ids", self._where)
            ]
        return chunk


#: Keys of a delta that are not passed on as they are: the library adds the role itself, and the others are
#: converted above.
_plain = ("role", "content", "tool_calls")


def _content(given: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Returns a content's text, and more keys of the delta: Mistral's servers put reasoning into it."""
    if not given or isinstance(given, str):
        return given or "", {}
    text, reasoning = "", ""
    for one in _checked(list, given, "content", where):
        part = _checked(dict, one, "content", where)
        kind = part.get("type")
        if kind == "text":
            text += str(part.get("text") or "")
        elif kind == "thinking":
            reasoning += _content(part.get("thinking"), where)[0]
        else:
            raise _wrong("content", part, where)
    return text, {"reasoning_content": reasoning} if reasoning else {}


def _calls(given: Any, where: str) -> list[dict[str, Any]]:
    """Returns the parts of tool calls in a delta."""
    pieces = [given] if isinstance(given, dict) else _checked(list, given, "tool_calls", where)
    return [_checked(dict, piece, "tool_calls", where) for piece in pieces if piece is not None]


def _token_id(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise _wrong("token_ids", value, where)
    return value

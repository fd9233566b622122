# SPDX-License-Identifier: Apache-2.0
"""Parses the text of a choice with NVIDIA Dynamo's parsers."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from dynamo_llm.errors import EngineFailedError, InvalidRequestError
from dynamo_llm.runtime import untrusted_json
from dynamo_llm.runtime.cluster.parsers.dropped_text import DroppedText
from dynamo_llm.runtime.cluster.parsers.service import ParserService
from dynamo_llm.runtime.pipeline.answer_parser import Found, joined

_T = TypeVar("_T")

#: Seconds for the parser to process a piece of text.
_timeout = 60.0
#: Bytes of an event, which may have all arguments of a tool call.
_longest_event = 64 << 20
#: The finish reasons that Dynamo knows.
_reasons = {"stop", "length", "content_filter"}
#: First characters of markers. A marker whose first character comes alone is not recognized.
_openings = ("<", "[")
#: The text of the second choice; no parser sees the beginning of a marker in it.
_mark = ord(".")


class DynamoParser:
    """Parses one choice; an :class:`~dynamo_llm.runtime.pipeline.answer_parser.AnswerParser`. Created by
    :meth:`begin`.

    The text is the first choice of a request to the service's frontend. After each piece of it, the second
    choice gets a character: once that arrives, the frontend has returned all that it found in the piece.
    """

    def __init__(
        self, service: ParserService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id: str
    ) -> None:
        self.id = id
        """Unique, and unknown to other processes."""
        self._service = service
        self._reader = reader
        self._writer = writer
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._dropped: DroppedText | None = None
        self._has_head = False
        self._held = ""

    @classmethod
    async def begin(
        cls,
        service: ParserService,
        model: str,
        tools: Sequence[Mapping[str, Any]],
        prompt_end: str,
        finds_reasoning: bool,
    ) -> "DynamoParser":
        """Starts to parse.

        :param model: the service's model.
        :param tools: that the model may call.
        :param prompt_end: the end of the prompt's text, by which Dynamo sees that the answer begins with
            reasoning.
        :raises EngineFailedError: the frontend cannot be reached.
        """
        id = secrets.token_hex(16)
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": f"{id}\n{prompt_end}"}],
            "stream": True,
            "n": 2,
        }
        if tools:
            body["tools"] = tools
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1:{service.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=_longest_event)
        except OSError as error:
            raise EngineFailedError(f"Dynamo's frontend, which runs its parsers, fails: {error}") from error
        parser = cls(service, reader, writer, id)
        if tools:
            parser._dropped = DroppedText(has_markers=finds_reasoning)
        service.add(parser)
        writer.write(head.encode() + content)
        return parser

    async def items(self) -> AsyncIterator[dict[str, Any]]:
        """Yields the text as the answer of a worker, until it has a finish reason."""
        while True:
            item = await self._pieces.get()
            yield {**item, "index": 0}
            if "finish_reason" in item:
                yield {"token_ids": [], "index": 1, "finish_reason": "stop"}
                return
            yield {"token_ids": [_mark], "index": 1}

    async def feed(self, text: str, token_ids: Sequence[int]) -> Found:
        """Parses more text.

        :raises InvalidRequestError: Dynamo rejects the tools.
        :raises EngineFailedError: the parser fails.
        """
        text = self._held + text
        self._held = text[-1:] if text.endswith(_openings) else ""
        return await self._feed(text.removesuffix(self._held))

    async def _feed(self, text: str) -> Found:
        if not text:
            return Found()
        if self._dropped is not None:
            self._dropped.feed(text)
        self._pieces.put_nowait({"token_ids": list(text.encode("utf-8", "replace"))})
        return await _limited(self._read())

    async def finish(self, finish_reason: str, text: str, token_ids: Sequence[int]) -> Found:
        """Parses the last text, and returns it with what was left; errors as :meth:`feed`."""
        reason = finish_reason if finish_reason in _reasons else "stop"
        found = await self.feed(text, token_ids)
        held = await self._feed(self._held)
        self._pieces.put_nowait({"token_ids": [], "finish_reason": reason})
        last = await _limited(self._read())
        rest = "" if self._dropped is None else self._dropped.rest()
        return joined(found, held, last, Found(rest))

    async def close(self) -> None:
        """Ends the request."""
        self._service.remove(self)
        self._pieces.put_nowait({"token_ids": [], "finish_reason": "stop"})
        self._writer.transport.abort()

    async def _read(self) -> Found:
        """Returns what was found in the piece that was fed last."""
        content, reasoning = "", ""
        calls: list[Mapping[str, Any]] = []
        if not self._has_head:
            await self._read_head()
        async for delta in self._deltas():
            for key, is_reasoning in (("reasoning_content", True), ("content", False)):
                text = delta.get(key) or ""
                if not text:
                    continue
                if self._dropped is not None:
                    content += self._dropped.before(text, is_reasoning)
                if is_reasoning:
                    reasoning += text
                else:
                    content += text
            if found := delta.get("tool_calls"):
                calls += found
                if self._dropped is not None:
                    self._dropped.on_call()
        return Found(content, reasoning, calls)

    async def _deltas(self) -> AsyncIterator[dict[str, Any]]:
        """Yields the deltas of the first choice until the second one moves or the answer ends."""
        while line := await self._reader.readline():
            if line.startswith(b"event: error"):
                raise _failed((await self._reader.readline()).decode("utf-8", "replace").strip())
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                return
            event = untrusted_json.parse(data.decode())
            if "choices" not in event:
                raise _failed(data.decode())
            for choice in event["choices"]:
                delta = choice.get("delta") or {}
                if choice["index"] == 0:
                    yield delta
                elif delta.get("content") or delta.get("reasoning_content"):
                    return
        raise _failed("it ended the answer")

    async def _read_head(self) -> None:
        """Reads the head of the response; raises the error that it reports."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._has_head = True
        status = head.partition(b"\r\n")[0].split()[1:2]
        if status != [b"200"]:
            text = (await self._reader.read(65536)).decode("utf-8", "replace")
            if status == [b"400"]:
                raise InvalidRequestError(f"NVIDIA Dynamo rejects the tools: {_message_of(text)}")
            raise _failed(_message_of(text))


async def _limited(reading: Awaitable[_T]) -> _T:
    try:
        return await asyncio.wait_for(reading, _timeout)
    except asyncio.TimeoutError:
        raise _failed(f"no answer within {_timeout:g} s") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise _failed(str(error) or type(error).__name__) from error


def _message_of(text: str) -> str:
    """Returns the message of an error's JSON; other texts as they are."""
    try:
        message = untrusted_json.parse(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text
    return str(message)


def _failed(why: str) -> EngineFailedError:
    return EngineFailedError(f"NVIDIA Dynamo's parser fails: {why[:1000]}")

# SPDX-License-Identifier: Apache-2.0
"""Reads the requests of a batch: lines of OpenAI's batch format."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo_llm.api.endpoints import ENDPOINTS
from dynamo_llm.errors import InvalidArgumentError, InvalidRequestError

#: Bytes of a line: as many as the library reads of one body.
_longest = 64 << 20

#: What a text editor on Windows writes at the beginning.
_byte_order_mark = b"\xef\xbb\xbf"


class BadLineError(Exception):
    """A line is not a request.

    :param code: a word for the reason.
    :param message: the reason; it names the line.
    :param custom_id: of the line, if it has one.
    """

    def __init__(self, code: str, message: str, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.custom_id = custom_id


@dataclass(frozen=True)
class BatchLine:
    """A request of a batch."""

    number: int
    """Number of the line in the file, from 1."""
    size: int
    """Bytes of the line."""
    custom_id: str
    body: dict[str, Any]
    """The OpenAI body."""
    streams: bool
    """Whether the answer could be streamed."""


@dataclass(frozen=True)
class RawLine:
    """A line as it is in the file."""

    number: int
    size: int
    content: bytes | None
    """None if the line is too long, so that it was not kept."""

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing on the line."""
        return self.content is not None and not self.content.strip()

    def parse(self) -> BatchLine:
        """Reads the line.

        :raises BadLineError: it is not a request.
        """
        entry = self._object()
        custom_id = entry.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise self._bad("invalid_custom_id", f'"custom_id" must be a string, not {_shown(custom_id)}')
        if entry.get("method") != "POST":
            raise self._bad(
                "invalid_method", f'"method" must be "POST", not {_shown(entry.get("method"))}', custom_id
            )
        url, body = entry.get("url"), entry.get("body")
        endpoint = ENDPOINTS.get(url) if isinstance(url, str) else None
        if endpoint is None:
            raise self._bad(
                "invalid_url", f'"url" must be one of {", ".join(ENDPOINTS)}, not {_shown(url)}', custom_id
            )
        if not isinstance(body, dict):
            raise self._bad("invalid_body", f'"body" must be an object, not {_shown(body)}', custom_id)
        if not any(key in body for key in endpoint.keys):
            raise self._bad(
                "invalid_body", f'"body" needs "{endpoint.key}", because "url" is {url}', custom_id
            )
        try:
            body = endpoint.body_of(body)
        except InvalidRequestError as error:
            raise self._bad("invalid_body", error.message, custom_id) from None
        return BatchLine(self.number, self.size, custom_id, body, endpoint.streams)

    def _object(self) -> dict[str, Any]:
        if self.content is None:
            raise self._bad(
                "line_too_long",
                f"it has {self.size} bytes; at most {_longest} are read ({_longest >> 20} MiB)",
            )
        try:
            entry = json.loads(self.content.decode())
        except UnicodeDecodeError as error:
            raise self._bad("invalid_json_line", f"it is not UTF-8 at byte {error.start}") from None
        except RecursionError:
            raise self._bad("invalid_json_line", "its JSON is nested too deeply") from None
        except json.JSONDecodeError as error:
            why = f"it is not valid JSON at column {error.colno}: {error.msg}"
            raise self._bad("invalid_json_line", why) from None
        except ValueError as error:  # an integer of thousands of digits
            raise self._bad("invalid_json_line", f"its JSON cannot be read: {error}") from None
        if not isinstance(entry, dict):
            raise self._bad(
                "invalid_json_line",
                'it must be an object with "custom_id", "method", "url", and "body", not ' + _shown(entry),
            )
        return entry

    def _bad(self, code: str, why: str, custom_id: str | None = None) -> BadLineError:
        return BadLineError(code, f"line {self.number}: {why}", custom_id)


class BatchInput:
    """The file with the requests, read line by line.

    :raises InvalidArgumentError: the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("rb", buffering=1 << 20)
        except OSError as error:
            raise InvalidArgumentError(f'the input "{path}" cannot be read: {error.strerror}') from error
        self._number = 0

    @property
    def size(self) -> int:
        """Bytes of the file; 0 if it is a pipe."""
        return os.fstat(self._file.fileno()).st_size

    def read(self) -> RawLine | None:
        """Reads a line; None at the end of the file. Blocks while a pipe is empty.

        :raises InvalidArgumentError: the file cannot be read.
        """
        try:
            content = self._file.readline(_longest + 1)
            if not content:
                return None
            self._number += 1
            size = len(content)
            if size <= _longest:
                if self._number == 1:
                    content = content.removeprefix(_byte_order_mark)
                return RawLine(self._number, size, content)
            while content and not content.endswith(b"\n"):
                content = self._file.readline(1 << 20)
                size += len(content)
            return RawLine(self._number, size, None)
        except OSError as error:
            raise InvalidArgumentError(f'the input "{self.path}" cannot be read: {error.strerror}') from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _shown(value: Any) -> str:
    """Shows a value in an error: whole if it is short."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 100 else text[:100] + "..."

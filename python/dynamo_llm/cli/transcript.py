# SPDX-License-Identifier: Apache-2.0
"""The messages of a conversation, and its file."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dynamo_llm import Completion, Request

Message = dict[str, Any]

#: Bytes of a file that is loaded: as much as the largest body of a request.
_most_bytes = 1 << 26


class RefusedError(Exception):
    """A command of a conversation is refused; the message is the reason."""


class Transcript:
    """The messages of a conversation.

    :param system: the system message, or none; :meth:`clear` keeps it.
    """

    def __init__(self, system: list[Message]) -> None:
        self._system = system
        self.messages: list[Message] = []
        """All messages but the system message."""

    def all(self) -> list[Message]:
        """Returns all messages, in order."""
        return [*self._system, *self.messages]

    def clear(self) -> None:
        """Forgets all messages but the system message."""
        self.messages.clear()

    def save(self, path: Path) -> None:
        """Writes ``{"messages": [...]}``. The user alone can read a new file. A file that has another content
        is not overwritten.

        :raises RefusedError: it cannot be written, or there is nothing to save.
        """
        if not self.messages:
            raise RefusedError("there are no messages yet")
        if os.path.lexists(path) and "messages" not in _read(path, "is not overwritten: it"):
            raise RefusedError(f'"{path}" is not overwritten: it is not a conversation')
        text = json.dumps({"messages": self.all()}, ensure_ascii=True, indent=1) + "\n"
        try:  # through another file, so that a full disk does not destroy what was saved before
            fd, other = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with open(fd, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(other, path)
            except BaseException:
                os.unlink(other)
                raise
        except OSError as error:
            raise RefusedError(f'"{path}" cannot be written: {error.strerror}') from error

    def load(self, path: Path) -> list[str]:
        """Replaces all messages by those of a file.

        :returns: keys of the file that were ignored.
        :raises RefusedError: it cannot be read, or it is not a conversation.
        :raises DynamoError: the library refuses its messages.
        """
        content = _read(path)
        messages = content.pop("messages", None)
        if not isinstance(messages, list):
            raise RefusedError(
                f'"{path}" is not a conversation: it must be {{"messages": [...]}}, as /save writes it'
            )
        Request({"messages": messages}, Completion)  # the library checks them
        count = 0
        while count < len(messages) and messages[count]["role"] in ("system", "developer"):
            count += 1
        self._system, self.messages = messages[:count], messages[count:]
        return sorted(content)


def _read(path: Path, problem: str = "cannot be loaded: it") -> dict[str, Any]:
    try:
        if not path.exists():
            raise RefusedError(f'"{path}" does not exist')
        if not path.is_file():  # reading from a pipe or a terminal could wait for ever
            raise RefusedError(f'"{path}" {problem} is not a file')
        with path.open("rb") as file:
            data = file.read(_most_bytes + 1)
    except OSError as error:
        raise RefusedError(f'"{path}" cannot be read: {error.strerror}') from error
    if len(data) > _most_bytes:
        raise RefusedError(f'"{path}" {problem} has more than {_most_bytes} bytes')
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f'"{path}" {problem} is not JSON: {error}') from error
    if not isinstance(content, dict):
        raise RefusedError(f'"{path}" {problem} is not a JSON object')
    return content

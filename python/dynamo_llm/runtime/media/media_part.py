# SPDX-License-Identifier: Apache-2.0
"""Finds the parts of messages that are images or audio."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

Kind = Literal["image", "audio"]

_kinds: dict[str, Kind] = {"image_url": "image", "input_audio": "audio"}
_examples = {
    "image_url": '{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}',
    "input_audio": '{"type": "input_audio", "input_audio": {"data": "...", "format": "wav"}}',
}


@dataclass(frozen=True)
class MediaPart:
    """A part of a message that is an image or audio."""

    message: int
    """Index of the message."""
    number: int
    """Index of the part in the message's content."""
    type: str
    """``image_url`` or ``input_audio``."""
    value: dict[str, Any]
    """The object of the key that has the name of the type."""

    @property
    def kind(self) -> Kind:
        """What the part is."""
        return _kinds[self.type]

    @property
    def where(self) -> str:
        """The part's path in the body."""
        return f"messages[{self.message}].content[{self.number}]"

    def text(self, key: str) -> str:
        """Returns a value that must be a non-empty string.

        :raises InvalidRequestError: it is not.
        """
        value = self.value.get(key)
        if not isinstance(value, str) or not value:
            raise InvalidRequestError(
                f'"{self.where}.{self.type}.{key}" of the request must be a non-empty string, as in '
                f"{_examples[self.type]}"
            )
        return value


def parts_of(messages: list[Any]) -> Iterator[MediaPart]:
    """Yields the images and the audio in messages, in order. Other parts, also malformed ones, are skipped.

    :raises InvalidRequestError: a part has the type of an image or of audio, but not its form.
    """
    for at, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for number, part in enumerate(content if isinstance(content, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(kind, str) or kind not in _kinds:
                continue
            value = part.get(kind)
            if not isinstance(value, dict):
                raise InvalidRequestError(
                    f'"messages[{at}].content[{number}].{kind}" of the request must be an object, as in '
                    f"{_examples[kind]}"
                )
            yield MediaPart(at, number, kind, value)


def has_parts(messages: Any) -> bool:
    """Whether messages have a part that is not a text, so that they need more work than others."""
    return isinstance(messages, list) and any(
        isinstance(part, dict) and part.get("type") in (*_kinds, *_kinds.values())
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )


def refuse_replaced(messages: list[Any]) -> None:
    """Refuses parts such as ``{"type": "image"}``, which stand for images and audio that were read.

    :raises NotSupportedError: the messages have such a part.
    """
    for at, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for number, part in enumerate(content if isinstance(content, list) else ()):
            for name, kind in _kinds.items():
                if isinstance(part, dict) and part.get("type") == kind:
                    raise NotSupportedError(
                        f'"messages[{at}].content[{number}]" of the request has the type "{kind}"; send '
                        f"{_examples[name]}"
                    )


def require_text(messages: Any, taker: str) -> None:
    """Refuses images and audio.

    :param taker: what takes text only, such as ``the engine "transformers"``.
    :raises NotSupportedError: the messages have such a part.
    """
    if not has_parts(messages):
        return
    for part in parts_of(messages):
        raise NotSupportedError(
            f'"{part.where}" of the request has the type "{part.type}"; {taker} takes text only'
        )

# SPDX-License-Identifier: Apache-2.0
"""The commands of a conversation, such as ``/save``."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamo_llm import Completion, DynamoError, Request
from dynamo_llm.cli.transcript import Message, RefusedError, Transcript

HELP = """\
/set KEY VALUE   set a key of the requests, such as /set temperature 0.5
/set KEY         unset it; /set alone lists what is set
/save FILE       save the conversation as JSON
/load FILE       continue a saved conversation
/image FILE      send an image with the next message
/clear           forget the conversation so far
/exit            leave; so does Ctrl-D
/help            show this text
Enter sends a message; Alt-Enter or Ctrl-J starts a further line.
Ctrl-C stops an answer. At the prompt it discards the line; pressed twice, it leaves.
To send a message that starts with "/", type a space before it."""

#: Keys that a conversation sets itself, or whose answers it cannot show.
_not_settable = {
    "messages": "it is the conversation",
    "stream": "a conversation streams",
    "n": "a conversation has one answer to each message",
}

#: Engines that refuse messages with images, unless their models declare the capability "images". Others pass
#: messages on unchanged.
_text_only = ("dynamo-backend", "echo", "mistralrs", "scripted", "transformers", "vllm")

#: Bytes of an image. As base64 it still fits into the largest body of a request.
_most_image_bytes = 40_000_000

_image_types = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


class ChatCommands:
    """Runs the commands of a conversation.

    :param settings: keys of the requests' bodies, which ``/set`` changes.
    :param engine: name of the engine.
    :param takes_images: whether the model declares that it takes images.
    :param note: shows a text to the user.
    """

    def __init__(
        self,
        transcript: Transcript,
        settings: dict[str, Any],
        engine: str,
        takes_images: bool,
        note: Callable[[str], None],
    ) -> None:
        self._transcript = transcript
        self._settings = settings
        self._engine = engine
        self._takes_images = takes_images
        self._note = note
        self._images: list[str] = []  # data URLs that go into the next message

    def run(self, line: str) -> bool:
        """Runs a command. Returns False if the user leaves."""
        name, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        if name == "/exit":
            return False
        commands = {
            "/clear": self._clear,
            "/help": lambda _: self._note(HELP),
            "/image": self._image,
            "/load": self._load,
            "/save": self._save,
            "/set": self._set,
        }
        command = commands.get(name)
        if command is None:
            self._note(f"Unknown command {name}.\n{HELP}")
            return True
        try:
            command(argument)
        except (RefusedError, DynamoError) as error:
            self._note(f"{name}: {error}")
        return True

    def message(self, text: str) -> Message:
        """Returns the user's message, with the images that were attached since the last answer."""
        if not self._images:
            return {"role": "user", "content": text}
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in self._images]
        return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}

    def on_answered(self) -> None:
        """Detaches the images: they are part of the conversation now."""
        self._images.clear()

    def _clear(self, _: str) -> None:
        self._transcript.clear()
        self._images.clear()
        self._note("The conversation starts anew.")

    def _set(self, argument: str) -> None:
        key, _, text = argument.partition(" ")
        if not key:
            listed = [f"{name} = {json.dumps(value)}" for name, value in sorted(self._settings.items())]
            self._note("\n".join(listed) or "Nothing is set.")
            return
        if key in _not_settable:
            raise RefusedError(f'"{key}" cannot be set: {_not_settable[key]}')
        if not text.strip():
            self._note(
                f"{key} is unset." if self._settings.pop(key, None) is not None else f"{key} is not set."
            )
            return
        try:
            value = json.loads(text)
        except ValueError:
            value = text.strip()  # a string without quotes
        # The library checks key and value; what only the engine knows is checked with the next message.
        Request({"messages": [{"role": "user", "content": ""}], **self._settings, key: value}, Completion)
        self._settings[key] = value
        self._note(f"{key} = {json.dumps(value)}")

    def _save(self, argument: str) -> None:
        path = _path(argument)
        self._transcript.save(path)
        self._note(f"Saved {_count(len(self._transcript.all()))} to {path}.")

    def _load(self, argument: str) -> None:
        path = _path(argument)
        ignored = self._transcript.load(path)
        self._images.clear()
        more = f" Ignored: {', '.join(ignored)}." if ignored else ""
        self._note(f"Loaded {_count(len(self._transcript.all()))} from {path}.{more}")

    def _image(self, argument: str) -> None:
        if self._engine in _text_only and not self._takes_images:
            refused = f'the engine "{self._engine}" takes no images;'
            if self._engine == "mistralrs":
                refused = "this model takes no images; models of Gemma 3 do, and"
            raise RefusedError(
                f'{refused} the engines "openai" and "dynamo" pass them on to the model of a server or worker'
            )
        path = _path(argument)
        if not path.is_file():
            raise RefusedError(f'"{path}" is not a file')
        try:
            with path.open("rb") as file:
                data = file.read(_most_image_bytes + 1)
        except OSError as error:
            raise RefusedError(f'"{path}" cannot be read: {error.strerror}') from error
        kind = next((kind for start, kind in _image_types.items() if data.startswith(start)), None)
        if kind is None or (kind == "webp" and data[8:12] != b"WEBP"):
            raise RefusedError(f'"{path}" is not a PNG, JPEG, GIF, or WebP image')
        if len(data) > _most_image_bytes:
            raise RefusedError(f'"{path}" has more than {_most_image_bytes // 1_000_000} MB')
        self._images.append(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
        self._note(f"{path.name} goes with the next message.")


def _path(argument: str) -> Path:
    if not argument:
        raise RefusedError("give the name of a file")
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:  # the home directory of nobody
        raise RefusedError(str(error)) from error


def _count(messages: int) -> str:
    return f"{messages} message" + "s" * (messages != 1)

# SPDX-License-Identifier: Apache-2.0
"""Reads the images and the audio of a request, and checks them against the configuration."""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError, UnavailableError
from dynamo_llm.runtime.media import download, local_file
from dynamo_llm.runtime.media.audio import Audio
from dynamo_llm.runtime.media.image import Image
from dynamo_llm.runtime.media.image_header import ImageHeader
from dynamo_llm.runtime.media.local_file import too_large
from dynamo_llm.runtime.media.media_part import Kind, MediaPart, parts_of, refuse_replaced
from dynamo_llm.runtime.media.media_settings import MediaSettings

#: Maximum number of pixels of all images of a request, as their headers declare them: an image of a few
#: kilobytes may need gigabytes when it is decoded.
most_pixels = 100_000_000
#: Maximum number of bytes of all images and audio of a request, unless ``max_bytes`` allows more for one.
#: Each part is counted after it was read, so that a request has at most this and one part more in memory.
most_bytes = 64 << 20

_data_url = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+-]*)*)(;base64)?,", re.ASCII | re.IGNORECASE
)
_scheme = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_formats = "PNG, JPEG, GIF, or WebP"


class MediaReader:
    """Reads the images and the audio of requests.

    :param taker: what takes them, for errors, such as ``the engine "mistralrs"``.
    :param kinds: what it takes.
    """

    def __init__(self, settings: MediaSettings, taker: str, kinds: Collection[Kind]) -> None:
        self._settings = settings
        self._taker = taker
        self._kinds = kinds

    def read(
        self, messages: list[Any], is_cancelled: Callable[[], bool]
    ) -> tuple[list[dict[str, Any]], list[Image | Audio]]:
        """Returns messages with ``{"type": "image"}`` in place of each image and ``{"type": "audio"}`` in
        place of audio, and both in order. Blocks while files are read and URLs are downloaded.

        :raises InvalidRequestError: an image or audio is not allowed, or an image is not valid, or all have
            too many bytes.
        :raises NotSupportedError: a part is of a kind that is not taken, or asks for a ``detail``.
        :raises UnavailableError: a download fails.
        """
        refuse_replaced(messages)
        found: list[Image | Audio] = []
        pixels = size = 0
        replaced: list[dict[str, Any]] = list(messages)
        for part in self._parts(messages):
            if part.kind == "audio":
                format = _audio_format_of(part)
                data = self._data(part, is_cancelled)
                size = self._total(part, size, data)
                found.append(Audio(format, data, f"{part.where}.input_audio.data"))
                _replace(replaced, part, {"type": "audio"})
                continue
            if (detail := part.value.get("detail")) not in (None, "auto"):
                raise NotSupportedError(
                    f'"{part.where}.image_url.detail" of the request is {detail!r}; {self._taker} computes '
                    'each image in one resolution; leave it out, or set it to "auto"'
                )
            data = self._data(part, is_cancelled)
            size = self._total(part, size, data)
            header = _header_of(part, data)
            pixels += header.width * header.height
            if pixels > most_pixels:
                raise InvalidRequestError(
                    f'"{part.where}.image_url.url" of the request has {header.width} x {header.height} '
                    f"pixels; all images of a request may have {most_pixels} together"
                )
            found.append(Image(header.format, data))
            _replace(replaced, part, {"type": "image"})
        return replaced, found

    def passed_on(self, messages: list[Any], is_cancelled: Callable[[], bool]) -> list[dict[str, Any]]:
        """Returns messages for a server: files become data URLs, http and https URLs that are allowed stay as
        they are, and data is checked, except for formats that only the server knows. Blocks as
        :meth:`read`.

        :raises InvalidRequestError: an image or audio is not allowed, or is not valid, or all have too many
            bytes; those that stay URLs do not count.
        """
        size = 0
        replaced: list[dict[str, Any]] = list(messages)
        for part in self._parts(messages):
            if part.kind == "audio":
                size = self._total(part, size, self._data(part, is_cancelled))
                continue
            url = part.text("url")
            scheme = _scheme_of(url)
            if scheme in ("http", "https"):
                with _naming(part, "url"):
                    download.check(url, self._settings)
                continue
            data = self._data(part, is_cancelled)
            size = self._total(part, size, data)
            if scheme == "data":
                continue
            image = Image(_header_of(part, data).format, data)
            _replace(replaced, part, {"type": "image_url", "image_url": {**part.value, "url": image.url}})
        return replaced

    def _parts(self, messages: list[Any]) -> list[MediaPart]:
        """Returns the images and the audio, whose number and kinds are allowed."""
        parts = list(parts_of(messages))
        if len(parts) > self._settings.max_parts:
            raise InvalidRequestError(
                f'"messages" of the request has {len(parts)} images and audio; at most '
                f'{self._settings.max_parts} are allowed ("media.max_parts" of the configuration)'
            )
        for part in parts:
            if part.kind not in self._kinds:
                taken = " and ".join({"image": "images", "audio": "audio"}[kind] for kind in self._kinds)
                raise NotSupportedError(
                    f'"{part.where}" of the request has the type "{part.type}"; {self._taker} takes text and '
                    f"{taken} only"
                )
        return parts

    def _total(self, part: MediaPart, earlier: int, data: bytes) -> int:
        """Returns the number of bytes of this part and of all earlier ones, which is limited."""
        total, most = earlier + len(data), max(most_bytes, self._settings.max_bytes)
        if total > most:
            raise InvalidRequestError(
                f'"{part.where}" of the request exceeds the limit of {most} bytes for all images and audio '
                f"of a request: with the parts before it, it has {total}; send fewer or smaller ones"
            )
        return total

    def _data(self, part: MediaPart, is_cancelled: Callable[[], bool]) -> bytes:
        """Returns the bytes of a part."""
        most = self._settings.max_bytes
        if part.kind == "audio":
            text, format = part.text("data"), part.text("format")
            with _naming(part, "data"):
                data = _decoded(text, 0, most)
                if format.lower() == "wav" and (data[:4], data[8:12]) != (b"RIFF", b"WAVE"):
                    raise InvalidRequestError('is not a WAV file, which "format" declares')
                return data
        url = part.text("url")
        with _naming(part, "url"):
            scheme = _scheme_of(url)
            if scheme == "data":
                return _of_data_url(url, most)
            if scheme == "file":
                return local_file.read(url, self._settings.allow_files, most)
            if scheme in ("http", "https"):
                return download.read(url, self._settings, is_cancelled)
            given = f"has the scheme {scheme!r}" if scheme else "is not a URL"
            raise InvalidRequestError(
                f'{given}; it must be a URL such as "data:image/png;base64,...", "file:///folder/name.png", '
                'or "https://example.com/name.png"'
            )


def _replace(messages: list[dict[str, Any]], part: MediaPart, other: dict[str, Any]) -> None:
    """Puts another part in the place of one, in a copy of its message."""
    message = messages[part.message]
    content = [*message["content"]]
    content[part.number] = other
    messages[part.message] = {**message, "content": content}


def _audio_format_of(part: MediaPart) -> str:
    format = part.text("format").lower()
    if format not in ("wav", "mp3"):
        raise InvalidRequestError(
            f'"{part.where}.input_audio.format" of the request is {format!r:.60}; it must be "wav" or "mp3"'
        )
    return format


@contextmanager
def _naming(part: MediaPart, key: str) -> Iterator[None]:
    """Puts the path of a part's key before the messages of errors, which continue it."""
    try:
        yield
    except (InvalidRequestError, NotSupportedError, UnavailableError) as error:
        raise type(error)(f'"{part.where}.{part.type}.{key}" of the request {error.message}') from error


def _scheme_of(url: str) -> str:
    found = _scheme.match(url)
    return found[1].lower() if found else ""


def _of_data_url(url: str, most: int) -> bytes:
    head = _data_url.match(url)
    if head is None or head[3] is None:
        raise InvalidRequestError('must be a data URL in base64, such as "data:image/png;base64,..."')
    kind = (head[1] or "text/plain").lower()
    if not kind.startswith("image/"):
        raise InvalidRequestError(f'has data of the type "{kind}"; it must be an image: {_formats}')
    return _decoded(url, head.end(), most)


def _decoded(text: str, start: int, most: int) -> bytes:
    """Decodes base64.

    :param start: where it begins in the text.
    """
    length = len(text) - start
    size = length // 4 * 3 - (text.endswith("=") + text.endswith("==") if length else 0)
    if size > most:
        raise too_large(most, size)
    try:
        data = base64.b64decode(text[start:].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        why = "it has a character that is not ASCII" if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidRequestError(f"is not valid base64: {why}") from error
    if not data:
        raise InvalidRequestError("has no data")
    return data


def _header_of(part: MediaPart, data: bytes) -> ImageHeader:
    name = f'"{part.where}.image_url.url" of the request'
    try:
        header = ImageHeader.of(data)
    except ValueError as error:
        raise InvalidRequestError(f"{name} is not a valid image: {error}") from error
    if header is None:
        raise InvalidRequestError(f"{name} is not an image in one of the formats {_formats}")
    return header

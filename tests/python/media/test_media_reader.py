# SPDX-License-Identifier: Apache-2.0
"""All images and audio of a request together."""

from pathlib import Path
from typing import Any

import pytest
from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.media import media_reader
from dynamo_llm.runtime.media.media_reader import MediaReader
from dynamo_llm.runtime.media.media_settings import MediaSettings
from pictures import audio_part, image_part, message, noise


def reader(**settings: Any) -> MediaReader:
    """Returns a reader of images and audio."""
    return MediaReader(MediaSettings(**settings), "this engine", frozenset({"image", "audio"}))


def never() -> bool:
    """The request is not cancelled."""
    return False


def test_bytes_of_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes of a body may name a file many times: 64 of 40 MiB would need 2.5 GiB."""
    assert media_reader.most_bytes == 64 << 20
    monkeypatch.setattr(media_reader, "most_bytes", 64 << 10)
    (tmp_path / "large.png").write_bytes(noise(1) + bytes((20 << 10) - len(noise(1))))
    part = image_part((tmp_path / "large.png").as_uri())
    one = reader(allow_files=(str(tmp_path),), max_bytes=40 << 10)
    assert len(one.read([message(part, part), message(part)], never)[1]) == 3
    for read in (one.read, one.passed_on):
        with pytest.raises(InvalidRequestError) as caught:
            read([message(part, part), message(part, "text", part, part)], never)
        assert caught.value.message == (
            '"messages[1].content[2]" of the request exceeds the limit of 65536 bytes for all images and '
            "audio of a request: with the parts before it, it has 81920; send fewer or smaller ones"
        )


def test_bytes_of_a_request_if_one_may_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is never below that of one image."""
    monkeypatch.setattr(media_reader, "most_bytes", 64)
    image, sound = noise(1), b"RIFF\0\0\0\0WAVE" + bytes(80)
    one = reader(max_bytes=len(image))
    assert len(one.read([message(image_part(image))], never)[1]) == 1
    for parts in ([image_part(image), image_part(image)], [image_part(image), audio_part(sound)]):
        with pytest.raises(InvalidRequestError, match=rf"\[1\]\" .* {len(image)} bytes for all images"):
            one.passed_on([message(*parts)], never)

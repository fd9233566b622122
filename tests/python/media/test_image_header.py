# SPDX-License-Identifier: Apache-2.0
"""Format and size of an image, from its first bytes."""

import io

import pytest
from dynamo_llm.runtime.media.image_header import ImageHeader
from hypothesis import given
from hypothesis import strategies as st
from pictures import noise
from PIL import Image


def encoded(format: str, width: int, height: int, **options: object) -> bytes:
    """Returns an image file as Pillow writes it."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, format, **options)
    return file.getvalue()


kinds: dict[str, tuple[str, dict[str, object]]] = {
    "png": ("png", {}),
    "jpeg": ("jpeg", {}),
    "progressive jpeg": ("jpeg", {"progressive": True}),
    "jpeg with metadata": ("jpeg", {"exif": b"Exif\0\0" + b"x" * 60000, "comment": b"c" * 60000}),
    "gif": ("gif", {}),
    "webp": ("webp", {}),
    "webp, lossless": ("webp", {"lossless": True}),
    "webp, extended": ("webp", {"exif": b"Exif\0\0x"}),
}


@pytest.mark.parametrize("name", kinds)
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (1025, 2)])
def test_header(name: str, size: tuple[int, int]) -> None:
    """The header agrees with Pillow about all formats and their variants."""
    format, options = kinds[name]
    assert ImageHeader.of(encoded(format.upper(), *size, **options)) == (format, *size)


def test_other_files() -> None:
    """What is not an image of these formats has no header."""
    for data in (
        b"",
        b"\x89PN",
        b"BM" + bytes(60),
        b"RIFF\0\0\0\0WAVEfmt ",
        b"<svg/>",
        b"\0" * 100,
        b"GIF88a",
    ):
        assert ImageHeader.of(data) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x89PNG\r\n\x1a\n", "no header"),
        (noise(1)[:20], "cut off"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(13), "0 x 0"),
        (b"\xff\xd8\xff", "cut off"),
        (b"\xff\xd8\xff\xe0\0\0" * 100, "no frame"),  # imagesize would read this forever
        (b"\xff\xd8\xff\xe0\0\4xxyy", "not a sequence of segments"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 5000, "no frame"),
        (b"\xff\xd8\xff\xda\0\2", "no frame"),
        (b"\xff\xd8" + b"\xff" * 66, "more than 64 fill bytes"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" + b"\xff" * 66, "more than 64 fill bytes"),
        (b"GIF89a\1", "cut off"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "cut off"),
        (b"RIFF\0\0\0\0WEBPXXXX" + bytes(20), "no header"),
    ],
)
def test_damaged_files(data: bytes, why: str) -> None:
    """What begins like an image says what it lacks, and is read only once."""
    with pytest.raises(ValueError, match=why):
        ImageHeader.of(data)


def test_fill_bytes() -> None:
    """Up to 64 bytes may precede each marker of a JPEG file."""
    file = encoded("JPEG", 9, 7)
    assert ImageHeader.of(file[:2] + b"\xff" * 64 + file[2:]) == ("jpeg", 9, 7)


starts = [encoded(format.upper(), 9, 9, **options) for format, options in kinds.values()]


@given(st.sampled_from(starts), st.integers(0, 700), st.binary(max_size=40))
def test_any_bytes(start: bytes, at: int, other: bytes) -> None:
    """Whatever the bytes are, there is a header, none, or an error."""
    try:
        header = ImageHeader.of(start[:at] + other)
    except ValueError:
        return
    assert header is None or min(header.width, header.height) > 0

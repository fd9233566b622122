# SPDX-License-Identifier: Apache-2.0
"""Reads format and size of an image from its first bytes, without decoding it.

The package imagesize does the same, but never returns for a JPEG file with a segment of length 0.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

#: Markers of JPEG segments with the size of the image: all kinds of frames, without tables (C4, C8, CC).
_jpeg_frames = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers of JPEG without a length: restarts, start and end of the image.
_jpeg_bare = frozenset([0x01, *range(0xD0, 0xDA)])
#: Maximum number of JPEG segments before the frame; each has at most 64 KiB.
_most_segments = 4096
#: Maximum number of bytes 0xFF that fill the space before a JPEG marker; most files have none.
_most_fill = 64


class ImageHeader(NamedTuple):
    """Format and size of an image."""

    format: str
    """``png``, ``jpeg``, ``gif``, or ``webp``."""
    width: int
    height: int

    @classmethod
    def of(cls, data: bytes) -> "ImageHeader | None":
        """Returns the header of a file; None if it is not an image of one of the formats.

        :raises ValueError: it begins like one, but has no size.
        """
        for name, start, read in _formats:
            if data.startswith(start) and (name != "webp" or data[8:12] == b"WEBP"):
                try:
                    width, height = read(data)
                except (struct.error, IndexError):
                    raise ValueError("it is cut off") from None
                if width < 1 or height < 1:
                    raise ValueError(f"its size is {width} x {height} pixels")
                return cls(name, width, height)
        return None


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ValueError("it has no header")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_most_segments):
        if data[at] != 0xFF:
            raise ValueError("it is not a sequence of segments")
        first = at
        while data[at] == 0xFF:  # fill bytes may precede a marker
            at += 1
            if at - first > _most_fill + 1:
                raise ValueError(f"it has more than {_most_fill} fill bytes before a marker")
        marker = data[at]
        at += 1
        if marker in _jpeg_bare:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _jpeg_frames:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if length < 2 or marker == 0xDA:  # the pixels begin
            break
        at += length
    raise ValueError("it has no frame")


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        low = struct.unpack_from("<HBHB", data, 24)
        return 1 + low[0] + (low[1] << 16), 1 + low[2] + (low[3] << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("it has no header")


_formats: tuple[tuple[str, bytes, Callable[[bytes], tuple[int, int]]], ...] = (
    ("png", b"\x89PNG\r\n\x1a\n", _png),
    ("jpeg", b"\xff\xd8\xff", _jpeg),
    ("gif", b"GIF87a", _gif),
    ("gif", b"GIF89a", _gif),
    ("webp", b"RIFF", _webp),
)

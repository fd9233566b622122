# SPDX-License-Identifier: Apache-2.0
"""Creates images, and the parts of messages that contain them."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def png(pixels: Any) -> bytes:
    """Returns an array of rows of pixels (red, green, blue) as a PNG file."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def noise(seed: int, width: int = 16, height: int = 16) -> bytes:
    """Returns a PNG file with random pixels."""
    return png(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def files(folder: Path) -> list[Path]:
    """Writes two images into a folder."""
    paths = [folder / "one.png", folder / "other.png"]
    for seed, path in enumerate(paths, 1):
        path.write_bytes(noise(seed))
    return paths


def data_url(data: bytes, kind: str = "image/png") -> str:
    """Returns data as a URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_part(url: str | bytes, **more: Any) -> dict[str, Any]:
    """Returns the part of a message with an image: its URL, or the bytes of a file."""
    return {
        "type": "image_url",
        "image_url": {"url": data_url(url) if isinstance(url, bytes) else url, **more},
    }


def audio_part(data: bytes | str, format: str = "wav") -> dict[str, Any]:
    """Returns the part of a message with audio: its base64, or the bytes of a file."""
    text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return {"type": "input_audio", "input_audio": {"data": text, "format": format}}


def message(*parts: dict[str, Any] | str, role: str = "user") -> dict[str, Any]:
    """Returns a message. Strings become text parts."""
    return {
        "role": role,
        "content": [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts],
    }

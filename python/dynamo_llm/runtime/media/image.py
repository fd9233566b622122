# SPDX-License-Identifier: Apache-2.0
"""An image of a request."""

import base64
from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """An image of a request, whose format and size were checked."""

    format: str
    """``png``, ``jpeg``, ``gif``, or ``webp``."""
    data: bytes
    """The file."""

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:image/{self.format};base64,{base64.b64encode(self.data).decode('ascii')}"

# SPDX-License-Identifier: Apache-2.0
"""URLs in messages."""

import re


def without_password(url: str) -> str:
    """A URL, or what should have been one, as messages may show it: without user and password."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1", url, flags=re.S)

# SPDX-License-Identifier: Apache-2.0
"""Escapes untrusted text (from models, servers, files, errors) for terminals and for lines of a log."""

import json
import re
from typing import Any

# C0 and C1 controls, DEL, line and paragraph separators, bidirectional controls, lone surrogates. Keep the
# list equal to that of the library's own log output, cpp/base/one_line.cpp.
_separators = "\u2028\u2029"
_bidirectional = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_unsafe_in_line = f"\x00-\x08\x0a-\x1f\x7f-\x9f{_separators}{_bidirectional}\ud800-\udfff"
_in_line = re.compile(f"[{_unsafe_in_line}]")
_in_text = re.compile(f"(?!\n)[{_unsafe_in_line}]")


def _escape(found: "re.Match[str]") -> str:
    sign = found[0]
    known = {"\n": "\\n", "\r": "\\r"}.get(sign)
    return known or (f"\\x{ord(sign):02x}" if ord(sign) < 0x80 else f"\\u{ord(sign):04x}")


def printable(text: str) -> str:
    r"""Escapes characters that could control a terminal, such as ``\x1b``. Tabs and newlines stay."""
    return _in_text.sub(_escape, text)


def one_line(text: str) -> str:
    """Escapes the same characters and newlines, so that the text cannot begin a line of its own."""
    return _in_line.sub(_escape, text)


def without_controls(text: str) -> str:
    """Replaces the same characters, except newlines, by one sign each, which keeps the width of a layout."""
    return _in_text.sub("\ufffd", text)


def dump_json(value: Any, indent: int | None = None) -> str:
    """Serializes to JSON that cannot control a terminal and that can be encoded as UTF-8."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # json.dumps() escapes C0 controls itself; the other unsafe characters can only be inside strings.
    return _in_text.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

# SPDX-License-Identifier: Apache-2.0
"""Finds text that a parser dropped: Dynamo's parsers leave malformed tool calls out of the answer."""

#: Characters of the longest marker around reasoning.
_longest_marker = 64


class DroppedText:
    """Compares the text that a parser was fed with what it found. Text that is missing was a tool call if one
    was found there, a marker around reasoning if it is short, and otherwise was dropped.

    :param has_markers: whether the parser removes markers around reasoning.
    """

    def __init__(self, has_markers: bool) -> None:
        self._has_markers = has_markers
        self._text = ""  # not found yet
        self._has_call = False
        self._was_reasoning: bool | None = None  # None: at the beginning

    def feed(self, text: str) -> None:
        """Adds text that the parser was fed."""
        self._text += text

    def on_call(self) -> None:
        """Reports that the parser found a tool call."""
        self._has_call = True

    def before(self, text: str, is_reasoning: bool) -> str:
        """Returns what was dropped before the text that the parser has found."""
        # What follows dropped text is found as soon as it is fed, so it is at the end.
        at = 0 if self._text.startswith(text) else self._text.rfind(text)
        missing = self._text[:at] if at >= 0 else ""
        self._text = self._text[at + len(text) :] if at >= 0 else ""
        is_marker = is_reasoning is not self._was_reasoning
        self._was_reasoning = is_reasoning
        return self._dropped(missing, is_marker)

    def rest(self) -> str:
        """Returns what was dropped at the end of the text."""
        missing, self._text = self._text, ""
        return self._dropped(missing, self._was_reasoning is not False)

    def _dropped(self, missing: str, may_be_marker: bool) -> str:
        if not missing.strip():
            return ""
        has_call, self._has_call = self._has_call, False
        is_marker = may_be_marker and len(missing) <= _longest_marker and "{" not in missing
        return "" if has_call or (self._has_markers and is_marker) else missing

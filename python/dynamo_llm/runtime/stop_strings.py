# SPDX-License-Identifier: Apache-2.0
"""Ends a stream of text at a stop string, also at one that is split across chunks."""

import copy
from collections.abc import Sequence


class StopStrings:
    """Passes text through up to the stop string that is completed first. Text that may be the beginning of a
    stop string is held back until that is decided.

    :param stops: the stop strings; empty ones are ignored.
    :param include: whether the stop string itself is passed through.
    """

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._stops = [stop for stop in stops if stop]
        self._include = include
        self._held = ""
        self.has_matched = False
        """Whether a stop string came; from then on no text is passed through."""

    def feed(self, text: str) -> str:
        """Takes more text. Returns what can be shown now."""
        if self.has_matched or not self._stops:
            return "" if self.has_matched else text
        text = self._held + text
        # The end and the start of each match. The match that ends first counts: the result must not depend on
        # how the text is split into chunks.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.has_matched = True
            self._held = ""
            end, start = min(found)
            return text[: end if self._include else start]
        keep = max(partial_match(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Returns the text that was held back. Call it when the text has ended."""
        held, self._held = self._held, ""
        return held

    def copy(self) -> "StopStrings":
        """Returns an independent copy with the same state."""
        return copy.copy(self)

    @property
    def is_empty(self) -> bool:
        """Whether there are no stop strings."""
        return not self._stops


def partial_match(text: str, pattern: str) -> int:
    """Returns the length of the longest suffix of a text that is a proper prefix of a pattern."""
    for length in range(min(len(text), len(pattern) - 1), 0, -1):
        if text.endswith(pattern[:length]):
            return length
    return 0

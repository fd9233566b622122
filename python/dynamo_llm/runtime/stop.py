# SPDX-License-Identifier: Apache-2.0
"""Cuts a text at a stop string, wherever the borders of its chunks are."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the stop string that is whole first, and never a part of one.

    Text that may be the beginning of a stop string is held back until it is known.

    :param stops: the strings; empty ones are ignored.
    :param include: whether the stop string itself is let through.
    """

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._stops = [stop for stop in stops if stop]
        self._include = include
        self._held = ""
        self.has_matched = False
        """Whether a stop string came; nothing is let through any more."""

    def feed(self, text: str) -> str:
        """What of the text so far can be shown."""
        if self.has_matched or not self._stops:
            return "" if self.has_matched else text
        text = self._held + text
        # Where each is found first: its end, its start. The one that ends first is what a reader of single
        # letters would have met first.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.has_matched = True
            self._held = ""
            end, start = min(found)
            return text[: end if self._include else start]
        keep = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What is left when the text has ended."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of a text that is a beginning of a stop string."""
        for length in range(min(len(text), len(stop) - 1), 0, -1):
            if text.endswith(stop[:length]):
                return length
        return 0

# SPDX-License-Identifier: Apache-2.0
"""Finds a string that a stream of text may have begun."""


def partial_match(text: str, pattern: str) -> int:
    """Returns the length of the longest suffix of a text that is a proper prefix of a pattern."""
    for length in range(min(len(text), len(pattern) - 1), 0, -1):
        if text.endswith(pattern[:length]):
            return length
    return 0

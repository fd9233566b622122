# SPDX-License-Identifier: Apache-2.0
"""Stop strings, compared with a reference that sees the whole text at once."""

import itertools

import pytest
from dynamo_llm._core import StopStrings


def cut(text: str, stops: list[str]) -> str:
    """Returns the text before the first stop string."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(found)] if found else text


def fed(pieces: list[str], stops: list[str]) -> list[str]:
    """Returns the text that is emitted after each piece, and at the end."""
    filter_ = StopStrings(stops)
    shown = [filter_.feed(piece) for piece in pieces]
    return [*shown, filter_.flush()]


@pytest.mark.parametrize("stops", [["ab"], ["aab", "ba"], ["bbb"], ["a"], ["", "ba"], []])
def test_borders_do_not_change_the_text(stops: list[str]) -> None:
    """Every text of seven letters, letter by letter and in threes; no part of a stop string leaks."""
    wanted = [stop for stop in stops if stop]
    for letters in itertools.product("ab", repeat=7):
        text = "".join(letters)
        for size in (1, 3):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            assert "".join(fed(pieces, stops)) == cut(text, wanted)


def test_text_that_cannot_become_a_stop_string_is_not_held_back() -> None:
    """Only the possible beginning of a stop string is held back."""
    assert fed(["one", " two K", "V"], [" KV"]) == ["one", " two", "", ""]
    assert fed(["one", " two K", "ing"], [" KV"]) == ["one", " two", " King", ""]

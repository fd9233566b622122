# SPDX-License-Identifier: Apache-2.0
"""Finds what a parser dropped, by comparing its input with its output."""

from dynamo_llm.runtime.cluster.parsers.dropped_text import DroppedText


def fed(text: str, has_markers: bool = False) -> DroppedText:
    dropped = DroppedText(has_markers)
    dropped.feed(text)
    return dropped


def test_nothing_is_dropped() -> None:
    dropped = fed("One two")
    assert [dropped.before(text, False) for text in ("One", " ", "two")] == ["", "", ""]
    assert dropped.rest() == ""


def test_dropped_text() -> None:
    """It is found where the text goes on, or at the end."""
    dropped = fed("One <a>bad</a>two <b>worse")
    assert dropped.before("One ", False) == ""
    assert dropped.before("two ", False) == "<a>bad</a>"
    assert dropped.rest() == "<b>worse"
    assert dropped.rest() == ""


def test_calls() -> None:
    """A tool call takes the text before what follows it."""
    dropped = fed("<a>good</a>two <a>good</a>\n")
    dropped.on_call()
    assert dropped.before("two ", False) == ""
    dropped.on_call()
    assert dropped.rest() == ""
    dropped.feed("<a>bad</a>")
    assert dropped.rest() == "<a>bad</a>"


def test_markers_of_reasoning() -> None:
    """A short text without braces, where reasoning begins or ends, is a marker."""
    dropped = fed("<think>Hm</think>Yes<end>No", has_markers=True)
    assert dropped.before("Hm", True) == ""
    assert dropped.before("Yes", False) == ""
    assert dropped.before("No", False) == "<end>"
    dropped = fed('<think>Hm</think>{"broken"Yes', has_markers=True)
    assert dropped.before("Hm", True) == ""
    assert dropped.before("Yes", False) == '</think>{"broken"'
    assert fed("<think>Hm").before("Hm", True) == "<think>"


def test_text_that_the_parser_changed() -> None:
    """Text that was not fed ends the comparison of what came before."""
    dropped = fed("  One")
    assert dropped.before("one", False) == ""
    assert dropped.rest() == ""

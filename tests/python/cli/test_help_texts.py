# SPDX-License-Identifier: Apache-2.0
"""Help texts are whole, however wide the terminal is."""

import click
import pytest
from conftest import run
from dynamo_llm.cli import main
from test_commands import COMMAND


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [20, 60, 80, 200])
@pytest.mark.parametrize("name", ["", *sorted(main.commands)])
def test_help(name: str, width: int) -> None:
    """Each sentence of a command and its options, and in the list of commands each first sentence."""
    shown = run([*COMMAND, *name.split(), "--help"], {"COLUMNS": str(width)}).stdout
    command = main.commands[name] if name else main
    expected = [command.help or "", *(getattr(option, "help", None) or "" for option in command.params)]
    if isinstance(command, click.Group):
        firsts = {one: (command.commands[one].help or "").split("\n\n")[0] for one in command.commands}
        expected += [one + first.rstrip(".") for one, first in firsts.items()]
        assert len(firsts) > 8
    assert len(expected) > 1 and expected[0]
    for text in expected:
        assert squeezed(text) in squeezed(shown), shown
    if width >= 60:
        assert max(map(len, shown.splitlines())) <= min(width, 80)

# SPDX-License-Identifier: Apache-2.0
"""Reads messages of one or several lines from a terminal."""

from prompt_toolkit import PromptSession
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

# Not readline: prompt_toolkit takes a pasted text of several lines as one message, and measures wide
# characters the same way with every Python, also those built with libedit or without either.


class LineEditor:
    """Reads messages. Enter ends one; Alt-Enter and Ctrl-J start a further line of it.

    :param history: what was typed earlier, for the keys Up and Ctrl-R; it gets what is typed.
    """

    def __init__(self, history: History) -> None:
        keys = KeyBindings()
        keys.add("escape", "enter")(_start_line)
        keys.add("c-j")(_start_line)
        self._session: PromptSession[str] = PromptSession(
            history=history, key_bindings=keys, prompt_continuation="  "
        )

    def read(self) -> str:
        """Returns a message. Blocks.

        :raises EOFError: Ctrl-D was pressed.
        :raises KeyboardInterrupt: Ctrl-C was pressed.
        """
        return self._session.prompt([("bold", "> ")])


def _start_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")

# SPDX-License-Identifier: Apache-2.0
"""Holds a conversation on a terminal."""

from typing import Any

from prompt_toolkit import PromptSession

from dynamo_llm import ContextLengthError, DynamoError, Runtime, __version__
from dynamo_llm.cli import output
from dynamo_llm.cli.print_answer import Message, print_answer
from dynamo_llm.printable import printable

_help = """\
/clear   forget the conversation so far
/exit    leave; so does Ctrl-D
/help    show this text
Ctrl-C stops an answer. At the prompt it discards the line; pressed twice, it leaves.
To send a message that starts with "/", type a space before it."""


class Conversation:
    """A conversation. Each request contains all messages before it.

    :param system: the system message, or empty.
    :param sampling: more keys of the requests' bodies.
    """

    def __init__(self, runtime: Runtime, system: list[Message], sampling: dict[str, Any]) -> None:
        self._runtime = runtime
        self._system = system
        self._sampling = sampling
        self._history: list[Message] = []
        self._console = output.console()
        # Not readline: prompt_toolkit takes a pasted text of several lines as one message, and measures wide
        # characters the same way with every Python, also those built with libedit or without either.
        self._session: PromptSession[str] = PromptSession()

    def run(self) -> None:
        """Reads and answers messages until the user leaves."""
        engine = self._runtime.statistics()["engine"]
        self._note(f"dynamo-llm {__version__}, engine {engine}. /help lists the commands.")
        was_interrupted = False  # by Ctrl-C, the last time at the prompt
        while True:
            is_answering = False
            try:
                line = self._session.prompt([("bold", "> ")])
                is_answering = True
                was_interrupted = False
                if not self._handle(line):
                    return
            except EOFError:
                return
            except KeyboardInterrupt:
                if is_answering:
                    self._note("stopped")
                elif was_interrupted:
                    return
                else:
                    was_interrupted = True
                    self._note("Press Ctrl-C again to leave.")

    def _handle(self, line: str) -> bool:
        """Runs a command or answers a message. Returns False if the user leaves."""
        command = line.rstrip()
        if command == "/exit":
            return False
        if command == "/clear":
            self._history.clear()
            self._note("The conversation starts anew.")
        elif command == "/help":
            self._note(_help)
        elif command.startswith("/"):
            self._note(f"Unknown command {command.split()[0]}.\n{_help}")
        elif command:
            self._answer(line.strip())
        return True

    def _answer(self, question: str) -> None:
        answer: list[str] = []
        asked = [*self._history, {"role": "user", "content": question}]
        try:
            timing = print_answer(self._runtime, [*self._system, *asked], self._sampling, answer)
            self._note(timing.summary())
        except DynamoError as error:
            is_too_long = isinstance(error, ContextLengthError) and self._history
            hint = "\n/clear starts a new conversation." if is_too_long else ""
            self._note(str(error) + hint, "red")
            if error.fatal:
                raise
        finally:
            # A partial answer stays in the history; a question without any answer does not.
            if any(answer):
                self._history = [*asked, {"role": "assistant", "content": "".join(answer)}]

    def _note(self, text: str, style: str = "dim") -> None:
        self._console.print(printable(text), style=style)

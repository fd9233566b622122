# SPDX-License-Identifier: Apache-2.0
"""A conversation on a terminal."""

from typing import Any

from prompt_toolkit import PromptSession

from dynamo_llm import ContextLengthError, DynamoError, Runtime, __version__
from dynamo_llm.cli import output
from dynamo_llm.cli.chat import Message, say

_help = """\
/clear   forget what was said
/exit    leave; Ctrl-D does, too
/help    this text
Ctrl-C stops an answer; at the prompt it drops the line, and leaves when pressed twice.
A message that starts with "/" is sent with a space before it."""


class Conversation:
    """Questions and answers; the model is told all that was said before."""

    def __init__(self, runtime: Runtime, system: list[Message], sampling: dict[str, Any]) -> None:
        self._runtime = runtime
        self._system = system
        self._sampling = sampling
        self._said: list[Message] = []
        self._console = output.console()
        # Not readline: a pasted text of several lines is one message, and wide characters are measured
        # the same with every Python, also those built with libedit or without either.
        self._session: PromptSession[str] = PromptSession()

    def run(self) -> None:
        """Talk until the user leaves."""
        engine = self._runtime.statistics()["engine"]
        self._note(f"dynamo-llm {__version__}, engine {engine}. /help says what can be typed.")
        pressed = False  # Ctrl-C was the last thing at the prompt
        while True:
            is_answering = False
            try:
                line = self._session.prompt([("bold", "> ")])
                is_answering = True
                pressed = False
                if not self._take(line):
                    return
            except EOFError:
                return
            except KeyboardInterrupt:
                if is_answering:
                    self._note("stopped")
                elif pressed:
                    return
                else:
                    pressed = True
                    self._note("Ctrl-C again leaves.")

    def _take(self, line: str) -> bool:
        """Do what a line says; False to leave."""
        command = line.rstrip()
        if command == "/exit":
            return False
        if command == "/clear":
            self._said.clear()
            self._note("Forgotten.")
        elif command == "/help":
            self._note(_help)
        elif command.startswith("/"):
            self._note(f"There is no command {command.split()[0]}.\n{_help}")
        elif command:
            self._answer(line.strip())
        return True

    def _answer(self, question: str) -> None:
        said: list[str] = []
        asked = [*self._said, {"role": "user", "content": question}]
        try:
            timing = say(self._runtime, [*self._system, *asked], self._sampling, said)[1]
            self._note(timing.summary())
        except DynamoError as error:
            hint = "\n/clear makes room." if isinstance(error, ContextLengthError) and self._said else ""
            self._console.print(output.printable(str(error)) + hint, style="red")
            if error.fatal:
                raise
        finally:
            # The part of an answer that was stopped counts; a question without answer never was asked.
            if any(said):
                self._said = [*asked, {"role": "assistant", "content": "".join(said)}]

    def _note(self, text: str) -> None:
        self._console.print(text, style="dim")

# SPDX-License-Identifier: Apache-2.0
"""Holds a conversation on a terminal."""

from typing import Any

from prompt_toolkit.history import History, InMemoryHistory

from dynamo_llm import ContextLengthError, DynamoError, Runtime, __version__
from dynamo_llm.cli import output, terminal_input
from dynamo_llm.cli.answer_printer import printer
from dynamo_llm.cli.chat_commands import ChatCommands
from dynamo_llm.cli.history_file import HistoryFile, default_path
from dynamo_llm.cli.line_editor import LineEditor
from dynamo_llm.cli.print_answer import print_answer
from dynamo_llm.cli.transcript import Message, Transcript
from dynamo_llm.printable import printable


class Conversation:
    """A conversation. Each request contains all messages before it.

    :param system: the system message, or empty.
    :param settings: more keys of the requests' bodies.
    :param is_plain: whether answers are printed as they are, not rendered as Markdown.
    :param keeps_history: whether what is typed is kept for later runs.
    """

    def __init__(
        self,
        runtime: Runtime,
        system: list[Message],
        settings: dict[str, Any],
        is_plain: bool = False,
        keeps_history: bool = True,
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._is_plain = is_plain
        self._console = output.console()
        self._transcript = Transcript(system)
        self._engine = runtime.statistics()["engine"]
        models = runtime.models()
        takes_images = bool(models) and "images" in models[0].get("capabilities", ())
        self._commands = ChatCommands(self._transcript, settings, self._engine, takes_images, self._note)
        self._history = self._open_history() if keeps_history else InMemoryHistory()
        self._editor = LineEditor(self._history)

    def _open_history(self) -> History:
        try:
            return HistoryFile(default_path())
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
            self._note(f"What is typed is not kept for later runs: {error}")
            return InMemoryHistory()

    def run(self) -> None:
        """Reads and answers messages until the user leaves."""
        self._note(f"dynamo-llm {__version__}, engine {self._engine}. /help lists the commands.")
        was_interrupted = False  # by Ctrl-C, the last time at the prompt
        while True:
            is_answering = False
            try:
                line = self._editor.read()
                is_answering = True
                was_interrupted = False
                with terminal_input.held():
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
        if isinstance(self._history, HistoryFile) and self._history.problem is not None:
            self._note(f"This was not kept for later runs: {self._history.problem}")
        if line.startswith("/"):
            return self._commands.run(line)
        if line.strip():
            self._answer(line.strip())
        return True

    def _answer(self, question: str) -> None:
        answer: list[str] = []
        transcript = self._transcript
        message = self._commands.message(question)
        body = {"messages": [*transcript.all(), message], **self._settings}
        try:
            timing = print_answer(self._runtime, body, printer(self._is_plain), answer)
            self._note(timing.summary())
        except DynamoError as error:
            is_too_long = isinstance(error, ContextLengthError) and transcript.messages
            hint = "\n/clear starts a new conversation." if is_too_long else ""
            self._note(str(error) + hint, "red")
            if error.fatal:
                raise
        finally:
            # A partial answer stays in the conversation; a question without any answer does not.
            if any(answer):
                self._commands.on_answered()
                transcript.messages += [message, {"role": "assistant", "content": "".join(answer)}]

    def _note(self, text: str, style: str = "dim") -> None:
        self._console.print(printable(text), style=style)

# SPDX-License-Identifier: Apache-2.0
"""Prints an answer while it streams, rendered as Markdown."""

from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import CodeBlock, Markdown, MarkdownElement
from rich.segment import Segment
from rich.text import Text

from dynamo_llm.cli.answer_printer import PlainPrinter
from dynamo_llm.printable import printable, without_controls

#: How often the unfinished end of an answer is drawn, per second.
_refreshes = 8
#: Characters of one block, such as a list or a code block, that are rendered. The rest of an answer with a
#: longer one is printed as it is: the block is rendered again for each refresh.
_longest_block = 16384


class MarkdownPrinter:
    """Renders an answer as Markdown on a terminal.

    Finished blocks are printed once. The last block, which may still change, is drawn again a few times per
    second; of one that is higher than the terminal, only the end is drawn until it is finished.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tail = ""
        self._is_first = True
        self._plain: PlainPrinter | None = None  # set once a block was too long
        self._live = Live(
            console=console,
            get_renderable=lambda: _Tail(self._tail, self._is_first),
            refresh_per_second=_refreshes,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def write(self, text: str) -> None:
        """Prints more of the answer."""
        if self._plain is not None:
            self._plain.write(text)
            return
        if not self._live.is_started:
            self._live.start()
        # Escaped before it is parsed, so that the reader sees what the model wrote.
        self._tail += printable(text)
        if "\n" in text:
            self._print_finished_blocks()
        if len(self._tail) > _longest_block:
            rest, self._tail = self._tail, ""
            self._live.stop()
            self._plain = PlainPrinter()
            self._plain.write(("" if self._is_first else "\n") + rest)

    def finish(self) -> None:
        """Prints the last block."""
        rest, self._tail = self._tail, ""
        if self._live.is_started:
            self._live.stop()
        if self._plain is not None:
            self._plain.finish()
        elif rest.strip():
            self._print(rest)

    def _print_finished_blocks(self) -> None:
        starts = [token.map[0] for token in _parser.parse(self._tail) if token.level == 0 and token.map]
        if len(starts) < 2:
            return
        lines = self._tail.splitlines(keepends=True)
        last = max(starts)
        self._tail = "".join(lines[last:])
        self._print("".join(lines[:last]))

    def _print(self, markup: str) -> None:
        is_first, self._is_first = self._is_first, False
        self._console.print(_Blocks(markup, is_first))


# Without HTML: a part such as <int> of a text is shown as it is, not taken for a tag and left out.
_parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")


class _Code(CodeBlock):
    """Code without highlighting, which would run regular expressions on what the model wrote."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip("\n"), style="cyan", overflow="fold")


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
    }

    def __init__(self, markup: str) -> None:
        # Links are shown as text and URL: a terminal must not hide where a model's link leads.
        super().__init__("", hyperlinks=False)
        self.markup = markup
        self.parsed = _parser.parse(markup)
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":  # models end lines where they mean it
                    child.type = "hardbreak"


class _Blocks:
    """Blocks of Markdown, with an empty line before them unless they are the first."""

    def __init__(self, markup: str, is_first: bool) -> None:
        self._markup = markup
        self._is_first = is_first

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._is_first:
            yield Segment.line()
        # Once more: Markdown's character references, such as &#x202e;, are control characters only now.
        for segment in console.render(_Markdown(self._markup), options):
            yield segment if segment.control else Segment(without_controls(segment.text), segment.style)


class _Tail:
    """The end of a block, as far as the terminal has lines for it."""

    def __init__(self, markup: str, is_first: bool) -> None:
        self._markup = markup
        self._is_first = is_first

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._markup.strip():
            return
        lines = console.render_lines(_Blocks(self._markup, self._is_first), options, pad=False)
        for line in lines[-max(1, console.height - 1) :]:
            yield from line
            yield Segment.line()

# SPDX-License-Identifier: Apache-2.0
"""Records what commands print on a terminal, as an SVG that plays once.

``python docs/record.py`` runs ``scripts/demo`` in a pseudo-terminal and writes ``docs/demo.svg``. Text
appears when the command printed it; pauses longer than ``--longest-pause`` seconds, such as a compilation,
are shortened to that. Renderers without CSS animations show the last state.
"""

import argparse
import html
import os
import pty
import re
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path

here = Path(__file__).resolve().parent

CELL_WIDTH = 8.43
"""Width of a character of the font below, in pixels."""
LINE_HEIGHT = 20
MARGIN = 18
TITLE_HEIGHT = 34

# The pieces fade in: browsers that draw the picture at a low rate miss an animation of a millisecond.
STYLE = """\
text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
text { fill: #d6deeb; white-space: pre }
.b { font-weight: 700; fill: #ffffff }
.p { fill: #7fdbca }
@media (prefers-reduced-motion: no-preference) { text { animation: appear 0.25s ease-out both } }
@keyframes appear { from { opacity: 0 } to { opacity: 1 } }
"""


@dataclass
class Piece:
    """Text that appeared at once in one line."""

    time: float
    row: int
    column: int
    text: str
    style: str


class Screen:
    """Where text goes: lines that wrap, and bold text. Other control sequences are dropped."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.pieces: list[Piece] = []
        self.row = self.column = 0
        self.style = ""

    def write(self, text: str, at: float) -> None:
        """Put text where the cursor is, seconds after the beginning."""
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\n|\r)", text):
            if part in ("\n", "\r\n"):
                self.row, self.column = self.row + 1, 0
            elif part == "\r":
                self.column = 0
            elif part.startswith("\x1b["):
                if part.endswith("m"):
                    self.style = "b" if part == "\x1b[1m" else ""
            elif part:
                self._put(part, at)

    def _put(self, text: str, at: float) -> None:
        while text:
            room = self.columns - self.column
            if room == 0:
                self.row, self.column = self.row + 1, 0
                continue
            self.pieces.append(Piece(at, self.row, self.column, text[:room], self.style))
            self.column += len(text[:room])
            text = text[room:]


def run(command: list[str], columns: int) -> list[tuple[float, str]]:
    """Run a command in a pseudo-terminal.

    :return: what it printed: seconds since the previous entry, and text.
    :raises SystemExit: it failed.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm", COLUMNS=str(columns), LINES="40")
        os.execvp(command[0], command)
    printed: list[tuple[float, str]] = []
    last = time.monotonic()
    data = b""
    while True:
        select.select([terminal], [], [])
        try:
            more = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not more:
            break
        data += more
        text = data.decode(errors="ignore")
        data = data[len(text.encode()) :]  # the beginning of a code point
        now = time.monotonic()
        printed.append((now - last, text))
        last = now
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{''.join(text for _, text in printed)}")
    return printed


def svg(screen: Screen, title: str) -> str:
    """The recording as a picture."""
    width = round(screen.columns * CELL_WIDTH + 2 * MARGIN)
    rows = screen.row + (1 if screen.column else 0)
    height = TITLE_HEIGHT + rows * LINE_HEIGHT + MARGIN
    # An element for each piece: browsers do not repaint each part of a <text> that becomes visible.
    texts = [
        f'<text x="{MARGIN + piece.column * CELL_WIDTH:.1f}" '
        f'y="{TITLE_HEIGHT + (piece.row + 0.8) * LINE_HEIGHT:.0f}"'
        + (f' class="{piece.style}"' if piece.style else "")
        + f' style="animation-delay:{piece.time:.2f}s">{html.escape(piece.text, quote=False)}</text>'
        for piece in screen.pieces
        if piece.text.strip()
    ]
    buttons = "".join(
        f'<circle cx="{MARGIN + 20 * i}" cy="17" r="6" fill="{color}"/>'
        for i, color in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{html.escape(title)}">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#12202f"/>\n{buttons}\n'
        + "\n".join(texts)
        + "\n</svg>\n"
    )


def main() -> int:
    """Record the commands, in their order."""
    parser = argparse.ArgumentParser(description="records a terminal as an SVG")
    parser.add_argument("--output", type=Path, default=here / "demo.svg")
    parser.add_argument("--columns", type=int, default=88)
    parser.add_argument("--longest-pause", type=float, default=1.2, metavar="SECONDS")
    parser.add_argument("--slower", type=float, default=1, metavar="TIMES", help="how much, for short pauses")
    parser.add_argument("commands", nargs="*", help='default: scripts/demo, and with "What is prefill?"')
    arguments = parser.parse_args()
    os.chdir(here.parent)
    screen = Screen(arguments.columns)
    at = 0.5
    for command in arguments.commands or ["scripts/demo", 'scripts/demo "What is prefill?"']:
        screen.style = "p"
        screen.write("$ ", at)
        screen.style = ""
        for character in command:
            at += 0.05
            screen.write(character, at)
        screen.write("\n", at)
        at += 0.4
        for pause, text in run(["sh", "-c", command], arguments.columns):
            at += min(pause * arguments.slower, arguments.longest_pause)
            screen.write(text, at)
        if screen.column:
            screen.write("\n", at)
        at += 1
    title = "scripts/demo compiles a C program, which streams an answer of the demo model"
    arguments.output.write_text(svg(screen, title), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

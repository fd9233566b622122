# SPDX-License-Identifier: Apache-2.0
"""Copies the programs below docs/snippets into the pages that show them, or checks the copies.

A page has, where a program is to be shown::

    <!-- snippet: snippets/c/first.c -->
    (a fenced block, which this script writes)
    <!-- end snippet -->

The path is relative to the page. ``part`` after the path shows the lines between the comments ``begin``
and ``end`` of the program, ``part=NAME`` those between ``begin NAME`` and ``end NAME``. Readers of the
repository and of the site see the same code, and the tests run it.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path

here = Path(__file__).resolve().parent

#: Languages of fenced blocks, by what a file's name ends with.
languages = {
    ".bash": "bash",
    ".c": "c",
    ".cpp": "cpp",
    ".json": "json",
    ".out": "text",
    ".py": "python",
    ".sh": "sh",
    ".txt": "cmake",
}

shown = re.compile(r"^<!-- snippet: (\S+)(?: (part)(?:=(\w+))?)? -->\n.*?^<!-- end snippet -->$", re.M | re.S)
mark = re.compile(r"^\s*(?:#|//|/\*) (begin|end)(?: (\w+))?(?: \*/)?\n", re.M)


def pages() -> list[Path]:
    """The pages that may show programs."""
    return [*sorted(here.rglob("*.md")), here.parent / "README.md", here.parent / "CONTRIBUTING.md"]


def code(file: Path, is_part: bool, name: str) -> str:
    """What a page shows of a program.

    :raises SystemExit: the program lacks that part.
    """
    text = file.read_text(encoding="utf-8")
    if is_part:
        at = {found[1]: found for found in mark.finditer(text) if (found[2] or "") == name}
        if at.keys() != {"begin", "end"}:
            raise SystemExit(f"{file.relative_to(here.parent)} lacks the comments begin and end {name}")
        text = textwrap.dedent(text[at["begin"].end() : at["end"].start()])
    return mark.sub("", text).strip("\n") + "\n"


def written(page: Path, text: str) -> str:
    """The text of a page, with each block as its program is now."""

    def block(found: re.Match[str]) -> str:
        file = (page.parent / found[1]).resolve()
        head = found[0].partition("\n")[0]
        shown_code = code(file, found[2] is not None, found[3] or "")
        return f"{head}\n```{languages[file.suffix]}\n{shown_code}```\n<!-- end snippet -->"

    return shown.sub(block, text)


def main() -> int:
    """Write the pages, or with ``--check`` name those that are out of date."""
    parser = argparse.ArgumentParser(description="copies programs into the pages that show them")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    arguments = parser.parse_args()
    is_stale = False
    for page in pages():
        old = page.read_text(encoding="utf-8") if page.exists() else ""
        new = written(page, old)
        if new == old:
            continue
        if arguments.check:
            sys.stderr.write(f"{page.relative_to(here.parent)}: run python docs/snippet_blocks.py\n")
            is_stale = True
        else:
            page.write_text(new, encoding="utf-8")
    return int(is_stale)


if __name__ == "__main__":
    sys.exit(main())

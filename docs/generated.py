# SPDX-License-Identifier: Apache-2.0
"""Writes or checks the part of a page that comes from what tests wrote in a run."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

Names = set[tuple[str, ...]]


def main(
    about: str, script: str, page: Path, written: Callable[[Path], str], named: Callable[[str], Names]
) -> int:
    """Run a script that renews a page: ``SCRIPT FILE``, or ``SCRIPT --check FILE``.

    :param about: the script's documentation.
    :param script: its file name, which the comments around the generated part name.
    :param page: the page.
    :param written: makes the generated part from the file of a run.
    :param named: what a generated part is about; a check compares no more than that.
    :return: the exit status; 1 if the page lacks something of the run.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="FILE", help="what the tests wrote")
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    begin, end = f"<!-- begin table: {script} -->\n", "<!-- end table -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    old, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"docs/{page.name} lacks the lines\n{begin}{end}")
    new = written(arguments.run)
    if not arguments.check:
        page.write_text(before + begin + new + end + after, encoding="utf-8")
        return 0
    for names in sorted(named(old) - named(new)):
        sys.stderr.write(f"not in this run: {', '.join(names)}\n")
    missing = sorted(named(new) - named(old))
    for names in missing:
        sys.stderr.write(f"docs/{page.name} lacks: {', '.join(names)}; python docs/{script} FILE\n")
    return int(bool(missing))

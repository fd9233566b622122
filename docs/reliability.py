# SPDX-License-Identifier: Apache-2.0
"""Writes the table of reliability.md from what the tests wrote in a run: python docs/reliability.py FILE

FILE is what the environment variable DYNAMO_LLM_RELIABILITY named during the run: a line of JSON for each
thing that a test did to the library. Several lines of the same thing are one row, with the sum. With --check
the page is not written: the exit status is 1 if the run did something that has no row.
"""

import json
import re
import sys
from pathlib import Path

import generated

page = Path(__file__).resolve().parent / "reliability.md"

#: The parts of the table, in their order, and the beginnings of their tests' files; the last takes the rest.
parts = {
    "Misuse": ("misuse/", "c/"),
    "Arbitrary input": ("fuzz/", "python/pipeline/test_pipeline_properties"),
    "Engine faults": ("embed/test_engines", "python/runtime/test_engine_faults"),
    "Process faults": ("faults/", "python/runtime/test_killed_process"),
    "Security": ("python/security/",),
    "Other libraries, and versions": ("",),
}

Row = tuple[str, str, int, str]  # test, what, how often, what happened


def rows_of(run: Path) -> list[Row]:
    """What was done in a run, each thing once, sorted."""
    often: dict[tuple[str, str, str], int] = {}
    for line in run.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = (row["test"], row["what"], row["happened"])
        often[key] = often.get(key, 0) + row["how_often"]
    return sorted(
        ((test, what, count, happened) for (test, what, happened), count in often.items()),
        key=lambda row: (list(parts).index(part_of(row[0])), row),
    )


def part_of(test: str) -> str:
    """The part of the table in which a test stands."""
    return next(title for title, beginnings in parts.items() if test.startswith(beginnings))


def written(rows: list[Row]) -> str:
    """The tables in Markdown."""
    lines: list[str] = []
    for title in parts:
        mine = [row for row in rows if part_of(row[0]) == title]
        if mine:
            lines += [
                f"\n### {title}\n",
                "| what was done | how often | what happened | test |",
                "|---|--:|---|---|",
            ]
            lines += [
                f"| {what} | {count:,} | {happened} | `{test}` |" for test, what, count, happened in mine
            ]
    return "\n".join(lines) + "\n\n"


def named(text: str) -> set[tuple[str, ...]]:
    """What a table is about: what was done, and the test that did it."""
    return set(re.findall(r"^\| (.*?) \| [\d,]+ \| .* \| `(.*)` \|$", text, re.M))


if __name__ == "__main__":
    sys.exit(generated.main(__doc__, "reliability.py", page, lambda run: written(rows_of(run)), named))

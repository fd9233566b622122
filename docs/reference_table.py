# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of compatibility.md: python docs/reference_table.py FILE

FILE is what the environment variable DYNAMO_LLM_REFERENCE named while tests/reference ran: a line of JSON for
each thing that was compared with transformers. With --check the page is not written: the exit status is 1 if
a result of the run is not in it. The words of a refusal may differ.
"""

import json
import re
import sys
from pathlib import Path

import generated

page = Path(__file__).resolve().parent / "compatibility.md"

#: Columns of the table of architectures: a title, and the engine and format of its rows.
columns = {
    "transformers": ("transformers", "safetensors"),
    "mistralrs": ("mistralrs", "safetensors"),
    "mistralrs, older config.json": ("mistralrs", "safetensors, older config"),
    "mistralrs, GGUF": ("mistralrs", "gguf"),
}
#: Titles of the parts with one row a name, and the kind of their rows.
others = {"Chat templates": "template", "Tokenizers": "tokenizer"}
_longest = 170

Row = dict[str, str]


def rows_of(run: Path) -> list[Row]:
    """What was compared in a run; the last result of what was compared several times."""
    found: dict[tuple[str, ...], Row] = {}
    for line in run.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[tuple(row.get(key, "") for key in ("kind", "name", "format", "engine"))] = row
    return list(found.values())


def cell(text: str) -> str:
    """A text in a cell of a table."""
    text = " ".join(text.replace("`", "'").split())
    text = text if len(text) <= _longest else text[: _longest - 3].rstrip() + "..."
    return re.sub(r"([|<>*_\[\]\\])", r"\\\1", text)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [" | ".join(heads), "|".join(["---"] * len(heads)), *(" | ".join(row) for row in rows)]
    return ["", *(f"|{line}|" if line.startswith("---") else f"| {line} |" for line in lines)]


def architectures(rows: list[Row]) -> list[str]:
    """A row for each architecture; then the words of what is not equal."""
    results = {(row["name"], row["engine"], row["format"]): row for row in rows}
    names = list(dict.fromkeys(row["name"] for row in rows))
    lines = []
    for name in names:
        found = [results.get((name, *column)) for column in columns.values()]
        lines.append([cell(name), *("" if one is None else one["result"] for one in found)])
    titles = {column: title for title, column in columns.items()}
    words = [
        [cell(row["name"]), titles[row["engine"], row["format"]], row["result"], cell(row["detail"])]
        for row in rows
        if row["result"] != "equal"
    ]
    return [
        *table(["architecture", *columns], lines),
        "\n### What is refused or differs",
        *table(["architecture", "engine", "result", "in its words"], words),
    ]


def written(run: Path) -> str:
    """The tables in Markdown."""
    rows = rows_of(run)
    lines = ["\n## Architectures", *architectures([row for row in rows if row["kind"] == "architecture"])]
    for title, kind in others.items():
        mine = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["name"])
        if mine:
            cells = [[cell(row["name"]), row["result"], cell(row["detail"])] for row in mine]
            lines += [f"\n## {title}", *table(["name", "result", "detail"], cells)]
    return "\n".join(lines) + "\n\n"


def named(text: str) -> generated.Names:
    """Each result, with what it is about."""
    found: generated.Names = set()
    heads: list[str] = []
    for line in text.splitlines():
        cells = [one.strip() for one in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells or set(line) <= set("|-"):
            continue
        if cells[0] in ("architecture", "name"):
            heads = cells
        elif heads[0] == "name":
            found.add((cells[0], cells[1]))
        elif heads[1:] == list(columns):
            found |= {(cells[0], *pair) for pair in zip(columns, cells[1:], strict=True) if pair[1]}
    return found


if __name__ == "__main__":
    sys.exit(generated.main(__doc__, "reference_table.py", page, written, named))

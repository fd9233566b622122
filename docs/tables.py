# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of the pages that come from the code: python docs/tables.py

Each stands between two comments in its page. The tests fail where a page is not what this would write.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dynamo_llm
from dynamo_llm import errors

here = Path(__file__).resolve().parent
headers = [
    here.parent / "include" / name for name in ("dynamo_llm.h", "dynamo_llm/engine.h", "dynamo_llm/cluster.h")
]


def plain(comment: str) -> str:
    """The text of a comment in C, on one line."""
    text = re.sub(r"^\s*(/\*\*|\*/|\*)|\*/\s*$", "", comment, flags=re.M)
    return " ".join(text.split())


def table(heads: str, rows: list[list[str]]) -> str:
    """A table in Markdown."""
    columns = heads.count("|") + 1
    lines = [heads, "|".join(["---"] * columns), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def statuses() -> str:
    """All of dynamo_status_t, with the class in Python and what its details say."""
    found = re.findall(r"/\*\*((?:(?!\*/).)*)\*/\s*(DYNAMO_\w+) = (-?\d+)", headers[0].read_text(), re.S)
    classes = {kind.status_name: kind.__name__ for kind in errors.DynamoError.__subclasses__()}
    rows = []
    with dynamo_llm.Runtime(engine="scripted") as runtime:
        for comment, name, number in found:
            if not name.startswith(("DYNAMO_OK", "DYNAMO_END", "DYNAMO_PENDING", "DYNAMO_ERROR_")):
                continue
            advice = kind = ""
            if int(number) < 0:
                kind = f"`{classes[name]}`"
                try:
                    runtime.complete(f'[{{"error": {{"status": "{name}"}}}}]').result()
                except dynamo_llm.DynamoError as error:
                    assert error.status == int(number), error
                    advice = "retry" if error.retriable else "fatal" if error.fatal else ""
            rows.append([number, f"`{name}`", plain(comment), advice, kind])
    return table("number | name | meaning | then | in Python", rows)


def configuration() -> str:
    """Keys of a runtime's configuration."""

    def keys(schema: dict[str, Any], before: str) -> Iterator[list[str]]:
        for name, value in schema.get("properties", {}).items():
            kind = value.get("type", "any")
            kind = " or ".join(kind) if isinstance(kind, list) else kind
            if "enum" in value:
                kind = " or ".join(f"`{choice}`" for choice in value["enum"])
            if "minimum" in value or "maximum" in value:
                limits = [value.get("minimum", ""), value.get("maximum", "")]
                kind += " from {:g}".format(*limits) if limits[0] != "" else ""
                kind += " to {1:.0f}".format(*limits) if limits[1] != "" else ""
            yield [f"`{before}{name}`", kind, value.get("description", "")]
            yield from keys(value, f"{before}{name}.")

    return table("key | type | meaning", list(keys(dynamo_llm.config_schema(), "")))


def functions() -> Iterator[tuple[str, str, str]]:
    """Name, comment and result of each function of the headers."""
    for header in headers:
        for comment, result, name in re.findall(
            r"/\*\*((?:(?!\*/).)*)\*/\s*DYNAMO_LLM_API ([^;(]*?)(dynamo_\w+)\([^;]*;",
            header.read_text(),
            re.S,
        ):
            yield name, plain(comment), result.strip()


#: What the words of a contract are, and what they say in the table.
contract_words = [
    {"any thread": "any"},
    {"returns at once": "no", "may block": "yes"},
    {"from any callback": "any", "not from log callbacks": "not of logs"},
    {
        "hands out nothing": "",
        "the caller owns what it gives": "the caller",
        "borrowed": "the object it came from",
        "static": "nobody, static",
        "takes its argument": "takes its argument",
        "borrows user": "keeps user until its release",
    },
]


def contract_of(comment: str) -> list[str]:
    """The words of the contract in a comment; none if there is no such line."""
    found = re.search(r"Contract: ([^.]*)\.", comment)
    return found[1].split("; ") if found else []


def contract() -> str:
    """What a caller must know of each function."""
    rows = [
        [
            f"`{name}()`",
            *(words[word] for words, word in zip(contract_words, contract_of(comment), strict=True)),
        ]
        for name, comment, _ in functions()
    ]
    return table("function | threads | may block | from callbacks | owner of what it gives", rows)


def waits(comment: str) -> str:
    """What a comment says of blocking."""
    found = re.search(r"Blocking: +(.*?)(?= @| Contract:|$)", comment)
    return found[1] if found else ""


def owner(comment: str) -> str:
    """What a comment says of who owns the result."""
    found = re.search(r"Ownership: +(.*?)(?= @| Blocking:| Threads:| Contract:| Never fails|$)", comment)
    return found[1] if found else "Static." if "Static." in comment else ""


def blocking() -> str:
    """The functions that wait."""
    return table("function | waits", [[f"`{n}()`", waits(c)] for n, c, _ in functions() if waits(c)])


def ownership() -> str:
    """The functions that hand out something."""
    return table("function | ownership", [[f"`{n}()`", owner(c)] for n, c, _ in functions() if owner(c)])


tables = {
    "errors.md": [statuses],
    "configuration.md": [configuration],
    "threads.md": [blocking, ownership, contract],
}


def written(page: str, text: str) -> str:
    """The text of a page with its tables as they should be."""
    for make in tables[page]:
        begin, end = f"<!-- begin {make.__name__}: tables.py -->\n", f"<!-- end {make.__name__} -->"
        before, found, rest = text.partition(begin)
        _, end_found, after = rest.partition(end)
        if not (found and end_found):
            raise SystemExit(f"docs/{page} lacks the lines\n{begin}{end}")
        text = f"{before}{begin}\n{make()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    for page in tables:
        path = here / page
        path.write_text(written(page, path.read_text()))
        sys.stderr.write(f"{path}\n")

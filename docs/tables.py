# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of the pages that come from the code: python docs/tables.py

Each stands between two comments in its page. The tests fail where a page is not what this would write.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dynamo_llm
from dynamo_llm import errors

here = Path(__file__).resolve().parent
headers = [
    here.parent / "include" / name
    for name in (
        "dynamo_llm.h",
        "dynamo_llm/engine.h",
        "dynamo_llm/worker.h",
        "dynamo_llm/kv_events.h",
        "dynamo_llm/router.h",
    )
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
    return table("number | name | meaning | flag | Python class", rows)


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


@dataclass(frozen=True)
class Function:
    """A function of the headers. What a caller must know follows from its declaration and from the
    paragraphs "Blocking" and "Ownership" of its comment, by the rules at the top of dynamo_llm.h.
    """

    name: str
    result: str
    parameters: str
    comment: str
    """On one line."""

    def paragraph(self, title: str) -> str:
        """A paragraph of the comment; "" if there is none."""
        found = re.search(rf"{title}: +(.*?)(?= (?:@|Ownership:|Threads:|Blocking:)|$)", self.comment)
        return found[1].strip() if found else ""

    @property
    def waits(self) -> str:
        """How long the function may block; "" if it does not."""
        return self.paragraph("Blocking").replace(in_log_callbacks, "").strip()

    @property
    def is_for_log_callbacks(self) -> bool:
        """Whether log callbacks may call it. All others may in any case."""
        return not self.waits or in_log_callbacks in self.paragraph("Blocking")

    @property
    def is_destroy(self) -> bool:
        """Whether it releases the handle that it gets."""
        return self.name.endswith("_destroy")

    @property
    def owner(self) -> str:
        """Who owns what the function returns, or what it does to the ownership of its arguments."""
        if stated := self.paragraph("Ownership"):
            return stated
        if self.is_destroy:
            return "releases its argument."
        if "**" in self.parameters or ("*" in self.result and not self.result.startswith("const ")):
            return "the caller."
        if "*" in self.result:
            return "the object that it was obtained from."
        return ""


#: The end of a paragraph "Blocking" of a function that log callbacks may call nevertheless.
in_log_callbacks = "Log callbacks may call it."


def functions() -> Iterator[Function]:
    """All functions of the headers."""
    for header in headers:
        for comment, result, name, parameters in re.findall(
            r"/\*\*((?:(?!\*/).)*)\*/\s*DYNAMO_LLM_API ([^;(]*?)(dynamo_\w+)\(([^;]*)\);",
            header.read_text(),
            re.S,
        ):
            yield Function(name, result.strip(), " ".join(parameters.split()), plain(comment))


def blocking() -> str:
    """The functions that block."""
    return table(
        "function | blocks | in log callbacks",
        [
            [f"`{f.name}()`", f.waits, "yes" if f.is_for_log_callbacks else "no"]
            for f in functions()
            if f.waits
        ],
    )


def ownership() -> str:
    """The functions whose comments say more about ownership than their declarations."""
    stated = [(f.name, f.paragraph("Ownership")) for f in functions()]
    return table("function | ownership", [[f"`{name}()`", text] for name, text in stated if text])


tables = {
    "errors.md": [statuses],
    "configuration.md": [configuration],
    "threads.md": [blocking, ownership],
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

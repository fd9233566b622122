# SPDX-License-Identifier: Apache-2.0
"""Converts structured output to grammars of mistral.rs."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Allows at most one space between the parts of a JSON answer: small models write white space endlessly.
_spacing = {"whitespace_flexible": False, "item_separator": ",[ ]?", "key_separator": ":[ ]?"}


class Grammar(NamedTuple):
    """The arguments ``grammar`` and ``grammar_type`` of mistral.rs."""

    text: str
    kind: str


def of_schema(schema: Mapping[str, Any] | bool) -> Grammar:
    """Returns a grammar of JSON that obeys a schema."""
    if not isinstance(schema, Mapping):
        schema = {} if schema else {"not": {}}
    return Grammar(json.dumps({"x-guidance": _spacing, **schema}), "json_schema")


def of_guided(guided: Mapping[str, Any] | None) -> Grammar | None:
    """Converts ``RequestSettings.guided``; None: any form."""
    if guided is None:
        return None
    ((kind, value),) = guided.items()
    if kind == "json":
        return of_schema(value)
    if kind == "choice":  # strings in Lark have the syntax of JSON
        return Grammar("start: " + " | ".join(json.dumps(choice) for choice in value), "lark")
    return Grammar(value, "lark" if kind == "grammar" else "regex")

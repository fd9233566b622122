# SPDX-License-Identifier: Apache-2.0
"""Structured output: what an answer must look like."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

#: Keys of a body that constrain its answer.
keys = ("response_format", "guided_json", "guided_regex", "guided_grammar", "guided_choice")

#: A blank at most between the parts of an answer in JSON: small models write white space without end.
_spacing = {"whitespace_flexible": False, "item_separator": ",[ ]?", "key_separator": ":[ ]?"}


class Grammar(NamedTuple):
    """What mistral.rs takes, as the arguments ``grammar`` and ``grammar_type``."""

    text: str
    kind: str


def of_schema(schema: Mapping[str, Any] | bool) -> Grammar:
    """JSON that obeys a schema."""
    if not isinstance(schema, Mapping):
        schema = {} if schema else {"not": {}}
    return Grammar(json.dumps({"x-guidance": _spacing, **schema}), "json_schema")


def of_body(body: Mapping[str, Any]) -> Grammar | None:
    """What a request asks for, or None.

    :raises InvalidRequestError: several at once, or one that makes no sense.
    :raises NotSupportedError: a type of ``response_format`` that is not known.
    """
    given = [key for key in keys if body.get(key) is not None]
    found = [(key, one) for key in given if (one := _of_key(key, body[key])) is not None]
    if len(found) > 1:
        raise InvalidRequestError(
            f'the request has "{found[0][0]}" and "{found[1][0]}"; its answer can have one form only'
        )
    return found[0][1] if found else None


def _of_key(key: str, value: Any) -> Grammar | None:
    if key == "response_format":
        return _of_format(value)
    if key == "guided_regex":
        return Grammar(value, "regex")
    if key == "guided_grammar":
        return Grammar(value, "lark")
    if key == "guided_choice":
        if not value or not all(isinstance(choice, str) and choice for choice in value):
            raise InvalidRequestError('"guided_choice" of the request must be a list of texts, not empty')
        # A text in Lark is written as in JSON.
        return Grammar("start: " + " | ".join(json.dumps(choice) for choice in value), "lark")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidRequestError(f'"guided_json" of the request is no JSON: {error}') from error
    return of_schema(_schema(value, '"guided_json" of the request'))


def _of_format(value: Mapping[str, Any]) -> Grammar | None:
    kind = value.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return of_schema({"type": "object"})
    if kind == "json_schema":
        given = value.get("json_schema")
        if not isinstance(given, Mapping) or "schema" not in given:
            raise InvalidRequestError(
                '"response_format" of the request must be {"type": "json_schema", "json_schema": '
                '{"name": "...", "schema": {...}}}'
            )
        return of_schema(_schema(given["schema"], '"response_format.json_schema.schema" of the request'))
    raise NotSupportedError(
        f'"response_format.type" of the request must be "text", "json_object" or "json_schema", not {kind!r}'
    )


def _schema(value: Any, subject: str) -> Mapping[str, Any] | bool:
    if not isinstance(value, Mapping | bool):
        raise InvalidRequestError(f"{subject} must be a JSON Schema: an object, true or false")
    return value

# SPDX-License-Identifier: Apache-2.0
"""Reads the constraint on an answer's form (structured output) from a request."""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

Kind = Literal["json", "regex", "grammar", "choice"]

#: Keys of a body that request a form. ``structured_outputs`` is vLLM's replacement for the ``guided_`` keys,
#: since vLLM 0.12.
keys = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
)
#: Types of ``response_format`` that only other servers support.
_other_formats = ("grammar", "python", "regex", "structural_tag")
#: Members of ``structured_outputs`` that request a form; vLLM's other members change how it is enforced.
_forms = ("json", "regex", "grammar", "choice", "json_object", "structural_tag")
_manners = (
    "disable_fallback",
    "disable_any_whitespace",
    "disable_additional_properties",
    "whitespace_pattern",
)


class StructuredOutput(NamedTuple):
    """The form that an answer must have."""

    name: str
    """The key that requests it: ``response_format``, ``structured_outputs.json``, and so on."""
    kind: Kind
    value: Any
    """A JSON Schema, a text, or a list of texts."""


def of_body(body: Mapping[str, Any]) -> StructuredOutput | None:
    """Returns the form that a body requests; None: any form.

    :raises InvalidRequestError: the body requests two forms, or a value is not valid.
    :raises NotSupportedError: none of the library's engines can enforce the form.
    """
    found = [one for key in keys if (value := body.get(key)) is not None for one in _of_key(key, value)]
    if len(found) > 1:
        raise InvalidRequestError(
            f'the request has both "{found[0].name}" and "{found[1].name}"; give only one of them'
        )
    return found[0] if found else None


def _of_key(key: str, value: Any) -> list[StructuredOutput]:
    if key == "response_format":
        return _of_format(value)
    if key == "structured_outputs":
        return _of_structured(value)
    return [_checked(key, key.removeprefix("guided_"), value)]


def _of_format(value: Any) -> list[StructuredOutput]:
    name = "response_format"
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return []
    if kind == "json_object":  # the key "schema" is an extension of llama.cpp and others
        schema = value.get("schema")
        if schema is None:
            schema = {"type": "object"}
        return [StructuredOutput(name, "json", _schema(schema, "response_format.schema"))]
    if kind == "json_schema":
        inner = value.get("json_schema")
        if not isinstance(inner, Mapping) or inner.get("schema") is None:
            raise InvalidRequestError(
                '"response_format.json_schema" of the request needs an object "schema", like '
                '{"type": "json_schema", "json_schema": {"name": "answer", "schema": {...}}}'
            )
        return [
            StructuredOutput(name, "json", _schema(inner["schema"], "response_format.json_schema.schema"))
        ]
    right = '"response_format.type" of the request must be "text", "json_object" or "json_schema", not '
    error = NotSupportedError if kind in _other_formats else InvalidRequestError
    raise error(right + json.dumps(kind))


def _of_structured(value: Any) -> list[StructuredOutput]:
    if not isinstance(value, Mapping):
        raise InvalidRequestError('"structured_outputs" of the request must be an object')
    found = []
    for member, content in value.items():
        name = f"structured_outputs.{member}"
        if member not in _forms and member not in _manners:
            raise InvalidRequestError(f'"{name}" of the request is not one of {", ".join(_forms)}')
        if content is None or content is False:
            continue
        if member == "json_object":
            if content is not True:
                raise InvalidRequestError(f'"{name}" of the request must be true or false')
            found.append(StructuredOutput(name, "json", {"type": "object"}))
        elif member in _manners or member == "structural_tag":
            raise NotSupportedError(f'"{name}" of the request is not supported')
        else:
            found.append(_checked(name, member, content))
    return found


def _checked(name: str, kind: Any, value: Any) -> StructuredOutput:
    if kind == "json":
        value = _schema(value, name)
    elif kind == "choice":
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            raise InvalidRequestError(
                f'"{name}" of the request must be an array of strings; neither the array nor a string '
                f"may be empty"
            )
    elif not isinstance(value, str) or not value:
        raise InvalidRequestError(f'"{name}" of the request must be a string that is not empty')
    return StructuredOutput(name, kind, value)


def _schema(value: Any, name: str) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidRequestError(f'"{name}" of the request is not valid JSON: {error}') from error
    if not isinstance(value, dict | bool):
        raise InvalidRequestError(f'"{name}" of the request must be a JSON Schema: an object, true or false')
    return value


def for_server(body: Mapping[str, Any], knows_structured_outputs: bool) -> dict[str, Any]:
    """Expresses a body's form with the keys that servers with OpenAI's API support.

    A JSON Schema is sent as OpenAI's own ``response_format``, which all servers support. OpenAI has no key
    for the other forms: they are sent both as ``structured_outputs`` (vLLM 0.12 and later ignores
    ``guided_...``) and as ``guided_...`` (older versions ignore ``structured_outputs``).

    :param knows_structured_outputs: False for a server that supports only ``guided_...`` and rejects unknown
        keys.
    :raises InvalidRequestError: see :func:`of_body`.
    """
    others = {key: value for key, value in body.items() if key not in keys}
    structured = body.get("structured_outputs")
    if isinstance(structured, Mapping) and any(structured.get(key) for key in (*_manners, "structural_tag")):
        return dict(body)  # not only an alias: only vLLM supports these members
    form = of_body(body)
    if form is None or form.name == "response_format":
        return {**others, **{key: body[key] for key in ("response_format",) if key in body}}
    if not knows_structured_outputs:
        return {**others, f"guided_{form.kind}": form.value}
    if form.kind == "json":
        return {**others, "response_format": _format(form.value)}
    return {**others, "structured_outputs": {form.kind: form.value}, f"guided_{form.kind}": form.value}


def _format(schema: Any) -> dict[str, Any]:
    if schema == {"type": "object"}:
        return {"type": "json_object"}
    if not isinstance(schema, dict):
        schema = {} if schema else {"not": {}}
    # "strict": the server must obey the schema, or reject it.
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}

# SPDX-License-Identifier: Apache-2.0
"""Reads the tools of a request, and its ``tool_choice``."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError


class Tools:
    """The tools of a request, and its ``tool_choice``.

    :param engine: name of the engine, for errors.
    :raises InvalidRequestError: a tool has no name, or ``tool_choice`` names an unknown tool.
    :raises NotSupportedError: a tool is not a function.
    """

    def __init__(self, body: Mapping[str, Any], engine: str) -> None:
        self._engine = engine
        self._functions = [self._function(tool) for tool in body.get("tools") or []]
        choice = body.get("tool_choice")
        self.all = [{"type": "function", "function": one} for one in self._functions]
        """The tools, in OpenAI's form."""
        self.are_off = choice == "none"
        """Whether the model must not call any tool."""
        self._forced = self._choose(choice)

    def _choose(self, choice: Any) -> Sequence[Mapping[str, Any]]:
        """Returns the tools of which one must be called; empty if the model decides."""
        if choice in (None, "none", "auto"):
            return []
        if choice == "required":
            if not self._functions:
                raise InvalidRequestError(
                    '"tool_choice" of the request is "required", but the request has no "tools"'
                )
            return self._functions
        if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
            return self._allow(choice.get("allowed_tools"))
        return [self._functions[self._index_of(choice)]]

    def _index_of(self, choice: Any) -> int:
        """Returns the index of the function that a ``tool_choice``, or one of its allowed tools, names."""
        if isinstance(choice, Mapping) and choice.get("type", "function") != "function":
            kind = json.dumps(choice["type"])
            raise NotSupportedError(
                f'the engine "{self._engine}" does not support the type {kind} in "tool_choice" of the '
                f'request; it takes "function" and "allowed_tools"'
            )
        function = choice.get("function") if isinstance(choice, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise InvalidRequestError(
                '"tool_choice" of the request must be "none", "auto", "required" or {"type": "function", '
                '"function": {"name": "..."}}'
            )
        names = [function["name"] for function in self._functions]
        if name not in names:
            known = ", ".join(names) or "none"
            raise InvalidRequestError(
                f'"tool_choice" of the request names "{name}", which is not one of its tools: {known}'
            )
        return names.index(name)

    def _allow(self, allowed: Any) -> Sequence[Mapping[str, Any]]:
        """Reads a ``tool_choice`` of the type ``allowed_tools``, which allows only some tools."""
        given = allowed if isinstance(allowed, Mapping) else {}
        tools, mode = given.get("tools"), given.get("mode")
        if mode not in ("auto", "required") or not isinstance(tools, list) or not tools:
            raise InvalidRequestError(
                '"tool_choice.allowed_tools" of the request must be {"mode": "auto" or "required", "tools": '
                '[{"type": "function", "function": {"name": "..."}}, ...]}'
            )
        chosen = sorted({self._index_of(tool) for tool in tools})
        if mode == "required":
            return [self._functions[index] for index in chosen]
        if len(chosen) < len(self._functions):
            raise NotSupportedError(
                f'the engine "{self._engine}" cannot allow only some tools: leave the others out of "tools" '
                'of the request, or set "mode": "required" in "tool_choice.allowed_tools"'
            )
        return []

    @property
    def is_forced(self) -> bool:
        """Whether the answer must be a tool call."""
        return bool(self._forced)

    def forced_schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of a forced tool call, which
        :class:`~dynamo_llm.runtime.pipeline.forced_call.ForcedCall` parses.
        """
        calls = []
        for index, function in enumerate(self._forced):
            parameters = function.get("parameters") or {"type": "object", "properties": {}}
            place = f"#/anyOf/{index}/properties/arguments"
            members = {"name": {"const": function["name"]}, "arguments": _moved(parameters, place)}
            call = {"type": "object", "properties": members, "required": ["name", "arguments"]}
            calls.append({**call, "additionalProperties": False})
        return {"anyOf": calls}

    def _function(self, tool: Any) -> dict[str, Any]:
        if not isinstance(tool, dict) or tool.get("type", "function") != "function":
            raise NotSupportedError(
                f'the engine "{self._engine}" only supports "tools" of the type "function"'
            )
        function = tool.get("function")
        if (
            not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
            or not function["name"]
        ):
            raise InvalidRequestError(
                'each of "tools" of the request must be {"type": "function", "function": {"name": "...", '
                '"parameters": {...}}}'
            )
        if not isinstance(function.get("parameters") or {}, dict):
            raise InvalidRequestError(
                f'"parameters" of the tool "{function["name"]}" must be a JSON Schema, an object'
            )
        return function


def _moved(schema: Any, place: str) -> Any:
    """Moves a schema into another one: adjusts its references to itself to the new path."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }

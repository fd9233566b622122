# SPDX-License-Identifier: Apache-2.0
"""Tools: what a model may call, and calls that it must make."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engines.mistralrs import grammar
from dynamo_llm.runtime.engines.mistralrs.grammar import Grammar


class Tools:
    """The tools of a request, and its ``tool_choice``.

    :raises InvalidRequestError: a tool without a name, or a choice of one that is not there.
    :raises NotSupportedError: tools that are no functions.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._functions = [_function(tool) for tool in body.get("tools") or []]
        choice = body.get("tool_choice")
        self.schemas = [json.dumps({"type": "function", "function": one}) for one in self._functions] or None
        """mistral.rs' argument ``tool_schemas``."""
        self.are_off = choice == "none"
        """Whether the model must not call any."""
        self._forced = self._choose(choice)

    def _choose(self, choice: Any) -> Sequence[Mapping[str, Any]]:
        """Those of which one must be called; none of them: it is up to the model."""
        if choice in (None, "none", "auto"):
            return []
        names = [function["name"] for function in self._functions]
        if choice == "required":
            if not names:
                raise InvalidRequestError('"tool_choice" of the request is "required", and it has no "tools"')
            return self._functions
        function = choice.get("function") if isinstance(choice, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise InvalidRequestError(
                '"tool_choice" of the request must be "none", "auto", "required" or {"type": "function", '
                '"function": {"name": "..."}}'
            )
        if name not in names:
            known = ", ".join(names) or "none"
            raise InvalidRequestError(
                f'"tool_choice" of the request names "{name}", which is none of its tools: {known}'
            )
        return [self._functions[names.index(name)]]

    @property
    def is_forced(self) -> bool:
        """Whether the answer must be a call."""
        return bool(self._forced)

    def forced(self) -> Grammar:
        """What a call that must be made looks like; :class:`ForcedCall` reads it."""
        calls = []
        for index, function in enumerate(self._forced):
            parameters = function.get("parameters") or {"type": "object", "properties": {}}
            place = f"#/anyOf/{index}/properties/arguments"
            calls.append(
                {
                    "type": "object",
                    "properties": {
                        "name": {"const": function["name"]},
                        "arguments": _moved(parameters, place),
                    },
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
            )
        return grammar.of_schema({"anyOf": calls})


def _function(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        raise NotSupportedError('the engine "mistralrs" takes "tools" of the type "function" only')
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
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
    """A schema that was the whole, at its place in another one: its references to itself follow."""
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


_head = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')


class ForcedCall:
    """Makes OpenAI's deltas of the text of a call that had to be made."""

    def __init__(self) -> None:
        self._held = ""
        self._arguments: str | None = None

    def feed(self, text: str) -> list[dict[str, Any]]:
        """The deltas of some more text: first one with the name, then the arguments bit by bit."""
        self._held += text
        deltas = []
        if self._arguments is None:
            head = _head.match(self._held)
            if head is None:
                return []
            self._arguments = ""
            self._held = self._held[head.end() :]
            call = {"id": f"call-{uuid.uuid4()}", "type": "function"}
            deltas.append(_delta({**call, "function": {"name": json.loads(head[1]), "arguments": ""}}))
        # The last brace closes the call, not its arguments; it is held back until more comes.
        ready = len(self._held) - self._held.endswith("}")
        deltas += self._more(ready)
        return deltas

    def finish(self) -> list[dict[str, Any]]:
        """The deltas that are left when the answer has ended, maybe in the middle of the call."""
        if self._arguments is None or _is_json(self._arguments):
            return []
        return self._more(len(self._held))

    def _more(self, count: int) -> list[dict[str, Any]]:
        more, self._held = self._held[:count], self._held[count:]
        self._arguments = (self._arguments or "") + more
        return [_delta({"function": {"arguments": more}})] if more else []


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _delta(call: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **call}]}


def of_answer(calls: Sequence[Any]) -> list[dict[str, Any]]:
    """Calls that mistral.rs found in an answer, as OpenAI has them."""
    return [
        {
            "index": call.index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in calls
    ]

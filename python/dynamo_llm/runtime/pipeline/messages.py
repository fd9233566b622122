# SPDX-License-Identifier: Apache-2.0
"""Converts OpenAI messages to the form that a chat template reads."""

import json
from collections.abc import Collection
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.pipeline.template_traits import Traits

Message = dict[str, Any]

#: Roles that a template may support without naming them.
_common_roles = frozenset({"system", "user", "assistant", "tool"})
#: Types of parts that hold text, and the key of that text.
_text_keys = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
#: Names of parts without text, for errors: one, and several.
_named = {"image": ("an image", "images"), "audio": ("audio", "audio")}


class Parts(list[dict[str, Any]]):
    """The content of a message as a list of parts, texts and media, for templates that read parts.

    If such a template uses another message's content as a string (for example, that of the system message),
    this list acts as its text. Python's notation of a list never gets into a prompt.
    """

    @property
    def _text(self) -> str:
        return "\n".join(part["text"] for part in self if "text" in part)

    def __str__(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return any(part.get("text", True) for part in self)

    def __eq__(self, other: object) -> bool:
        return self._text == other if isinstance(other, str) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __contains__(self, item: object) -> bool:
        return item in self._text if isinstance(item, str) else super().__contains__(item)

    def __add__(self, other: Any) -> Any:
        return self._text + other if isinstance(other, str) else super().__add__(other)

    def __radd__(self, other: Any) -> Any:
        return other + self._text if isinstance(other, str) else NotImplemented

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


class Arguments(dict[str, Any]):
    """Arguments of a tool call, as an object that acts as its JSON where a template uses it as a string."""

    def __init__(self, values: dict[str, Any], text: str) -> None:
        super().__init__(values)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: Any) -> Any:
        return self._text + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return other + self._text if isinstance(other, str) else NotImplemented


def prepared(messages: list[Message], traits: Traits, media: Collection[str] = ()) -> list[Message]:
    """Converts messages to the form that a template reads.

    - Null keys are removed. A content that is null or absent becomes null if the template compares contents
      with none, absent if the template only tests whether it is defined, and empty otherwise.
    - Text parts stay parts if the template reads parts, and are joined by newlines otherwise. A string
      becomes one part if the template reads parts without testing for strings.
    - Arguments of tool calls become objects if the template needs objects, and strings otherwise.
    - ``developer`` becomes ``system``, ``function`` becomes ``tool``, and ``function_call`` becomes a tool
      call, unless the template names them.

    :param media: types of parts without text, such as ``{"type": "image"}``, which stay as they are.
    :raises InvalidRequestError: a role, a part, or arguments do not have the form that OpenAI or the template
        requires.
    :raises NotSupportedError: a part is a file, or an image or audio that is not taken; or a message has one
        that is, and the template reads no parts.
    """
    reader = _Reader(traits, media)
    return [reader.message(message, f"messages[{number}]") for number, message in enumerate(messages)]


class _Reader:
    def __init__(self, traits: Traits, media: Collection[str]) -> None:
        self._traits = traits
        self._media = media
        self._calls = 0
        """Number of calls in OpenAI's old form so far."""

    def message(self, message: Message, where: str) -> Message:
        result = {key: value for key, value in message.items() if value is not None}
        result["role"] = self._role(result, where)
        content = self._content(message, where)
        result.pop("content", None)
        if content is not _absent:
            result["content"] = content
        self._modernize(result, where)
        calls = result.get("tool_calls")
        if calls is not None:
            if not isinstance(calls, list):
                raise InvalidRequestError(f'"{where}.tool_calls" of the request must be an array')
            result["tool_calls"] = [
                self._call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)
            ]
            if not calls:  # templates test whether the key is defined
                del result["tool_calls"]
        return result

    # -------------------------------------------------------------------------------------- role

    def _role(self, message: Message, where: str) -> str:
        role = message.get("role")
        named = self._traits.roles
        if role in named or role in _common_roles:
            return str(role)
        if role == "developer":
            return "system"
        if role == "function":
            return "tool"
        known = ", ".join(sorted(named | _common_roles | {"developer"}))
        raise InvalidRequestError(
            f'"{where}.role" of the request is {json.dumps(role)}, which the chat template does not know; '
            f"it must be one of: {known}"
        )

    # ----------------------------------------------------------------------------------- content

    def _content(self, message: Message, where: str) -> Any:
        content = message.get("content")
        if content is None:
            content = message.get("refusal")
        needs_parts = self._traits.reads_parts and not self._traits.tests_type
        if isinstance(content, str):
            return Parts([{"type": "text", "text": content}]) if needs_parts else content
        if isinstance(content, list):
            parts = Parts(
                self._part(part, f"{where}.content[{number}]") for number, part in enumerate(content)
            )
            if self._traits.reads_parts:
                return parts
            for number, part in enumerate(parts):
                if "text" not in part:
                    what, several = _named[part["type"]]
                    raise NotSupportedError(
                        f'"{where}.content[{number}]" of the request is {what}, but the chat template '
                        f"reads texts only; give one that writes {several}"
                    )
            return str(parts)
        if content is not None:
            raise InvalidRequestError(
                f'"{where}.content" of the request must be a string, an array of parts, or null'
            )
        if self._traits.tests_presence and ("content" not in message or not self._traits.tests_null):
            return _absent
        if self._traits.tests_null:
            return None
        return Parts([{"type": "text", "text": ""}]) if needs_parts else ""

    def _part(self, part: Any, where: str) -> dict[str, Any]:
        for kind in self._media:
            if part == {"type": kind}:
                return {"type": kind}
        return _text_part(part, where)

    # --------------------------------------------------------------------------------- tool calls

    def _modernize(self, message: Message, where: str) -> None:
        """Converts a call in OpenAI's old form, or its result, to the current form."""
        call = message.get("function_call")
        if call is not None:
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                raise InvalidRequestError(
                    f'"{where}.function_call" of the request must be an object with a "name"'
                )
            if "tool_calls" in message:
                raise InvalidRequestError(
                    f'"{where}" of the request has both "function_call" and "tool_calls"; give only '
                    f'"tool_calls"'
                )
            if "function_call" in self._traits.keys:
                arguments = self._arguments(call.get("arguments"), f"{where}.function_call.arguments")
                message["function_call"] = {**call, "arguments": arguments}
                return
            del message["function_call"]
            self._calls += 1
            message["tool_calls"] = [{"id": self._last_id, "type": "function", "function": call}]
        elif message["role"] == "tool" and "tool_call_id" not in message and self._calls:
            message["tool_call_id"] = self._last_id

    @property
    def _last_id(self) -> str:
        return f"call{self._calls:05d}"  # nine letters and digits: some templates require that

    def _call(self, call: Any, where: str) -> dict[str, Any]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequestError(f'"{where}" of the request needs a "function" with a "name"')
        arguments = self._arguments(function.get("arguments"), f"{where}.function.arguments")
        given = {key: value for key, value in call.items() if value is not None}
        return {**given, "function": {**function, "arguments": arguments}}

    def _arguments(self, given: Any, where: str) -> Any:
        text = "{}" if given is None or given == "" else given
        if not self._traits.needs_object:
            return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
        if isinstance(text, str):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(f'"{where}" of the request is not valid JSON: {error}') from error
        else:
            value, text = text, json.dumps(text, ensure_ascii=False)
        return Arguments(value, text) if isinstance(value, dict) else value


_absent = object()


def _text_part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None:
        raise InvalidRequestError(
            f'"{where}" of the request must be an object such as {{"type": "text", "text": "..."}}'
        )
    key = _text_keys.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise NotSupportedError(f'"{where}" of the request has the type "{kind}"; the model only reads text')
    text = part.get(key)
    if not isinstance(text, str):
        raise InvalidRequestError(f'"{where}" of the request needs a string "{key}"')
    return {"type": "text", "text": text}


def texts(message: Message) -> list[str]:
    """Returns the texts of a prepared message: its content, or the texts of its parts."""
    content = message.get("content")
    if isinstance(content, Parts):
        return [part["text"] for part in content if "text" in part]
    return [content] if isinstance(content, str) else []


def with_text(message: Message, text: str) -> Message:
    """Returns a prepared message with another text; if it has parts, the last text among them is replaced."""
    content = message.get("content")
    if isinstance(content, Parts):
        last = max((at for at, part in enumerate(content) if "text" in part), default=len(content))
        parts = [*content[:last], {"type": "text", "text": text}, *content[last + 1 :]]
        return {**message, "content": Parts(parts)}
    return {**message, "content": text}

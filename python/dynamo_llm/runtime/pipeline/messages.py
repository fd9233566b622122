# SPDX-License-Identifier: Apache-2.0
"""Makes OpenAI's messages what chat templates expect."""

import json
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError


def plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose contents are texts and whose tool calls have arguments as objects.

    :raises InvalidRequestError: a part, or arguments, are not as OpenAI has them.
    :raises NotSupportedError: a part is an image, a sound or a file.
    """
    return [_message(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    # A key that is null is as one that is missing; templates would print "None".
    result = {key: value for key, value in message.items() if value is not None}
    content = result.get("content")
    if isinstance(content, list):
        result["content"] = "".join(
            _text(part, f"{where}.content[{number}]") for number, part in enumerate(content)
        )
    calls = result.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, list):
            raise InvalidRequestError(f'"{where}.tool_calls" of the request must be an array')
        result["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)
        ]
    return result


def _text(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None:
        raise InvalidRequestError(
            f'"{where}" of the request must be an object like {{"type": "text", "text": "..."}}'
        )
    if kind not in ("text", "refusal"):
        raise NotSupportedError(f'"{where}" of the request is of type "{kind}"; the model reads text only')
    text = part.get(kind)
    if not isinstance(text, str):
        raise InvalidRequestError(f'"{where}" of the request needs a string "{kind}"')
    return text


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(f'"{where}" of the request needs a "function" with a "name"')
    arguments = function.get("arguments")
    if isinstance(arguments, str):  # JSON in a string for OpenAI, an object for templates
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise InvalidRequestError(
                f'"{where}.function.arguments" of the request is no JSON: {error}'
            ) from error
    return {**call, "function": {**function, "arguments": {} if arguments is None else arguments}}

# SPDX-License-Identifier: Apache-2.0
"""Answers OpenAI's bodies that Dynamo's frontend passes on."""

from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.cluster.worker_tokens import Send

#: Keys that are the frontend's business, or that are said otherwise here.
_dropped = ("model", "stream", "stream_options", "chat_template_args", "ignore_eos_token")


class TextService:
    """Serves an engine that takes OpenAI's bodies.

    :param name: of the model.
    :param adapters: names of LoRA adapters that the engine has.
    """

    def __init__(self, name: str, adapters: list[str]) -> None:
        self._name = name
        self._adapters = adapters

    async def answer(self, request: Any, trace: dict[str, str], send: Send) -> AsyncIterator[dict[str, Any]]:
        """OpenAI's chunks."""
        answer = send(self._body(request, trace))
        usage = None
        last: dict[str, Any] = {}
        async for response in answer:
            last = response.json()
            last["model"] = request.get("model") or self._name
            usage = response.usage or usage
            yield last
        if usage is not None and "input" not in request:
            yield {**last, "choices": [], "usage": _usage(usage)}

    def _body(self, request: Any, trace: dict[str, str]) -> dict[str, Any]:
        if not isinstance(request, dict):
            raise InvalidRequestError("the request must be a body of OpenAI's, which is an object")
        body = {key: value for key, value in request.items() if value is not None and key not in _dropped}
        if request.get("chat_template_args"):
            body["chat_template_kwargs"] = request["chat_template_args"]
        if request.get("model") in self._adapters:
            body["model"] = request["model"]
        if "nvext" in body:
            body["nvext"] = {key: value for key, value in body["nvext"].items() if value is not None}
        return {**body, **trace, "stream": "input" not in body}


def _usage(usage: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return found

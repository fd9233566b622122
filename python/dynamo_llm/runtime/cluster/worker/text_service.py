# SPDX-License-Identifier: Apache-2.0
"""Answers OpenAI request bodies, which Dynamo's frontend passes on."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.cluster.worker.token_service import Send

#: Keys that only the frontend uses, or that are replaced here.
_dropped = ("model", "stream", "stream_options", "chat_template_args")


@dataclass(frozen=True)
class TextService:
    """Serves an engine that takes OpenAI request bodies, with a model and LoRA adapters of these names."""

    name: str
    adapters: list[str]

    async def answer(self, request: Any, trace: dict[str, str], send: Send) -> AsyncIterator[dict[str, Any]]:
        """Yields OpenAI chunks."""
        async for response in send(self._body(request, trace)):
            chunk = response.json()
            chunk["model"] = request.get("model") or self.name
            yield chunk

    def _body(self, request: Any, trace: dict[str, str]) -> dict[str, Any]:
        if not isinstance(request, dict):
            raise InvalidRequestError("the request must be an OpenAI request body, which is an object")
        body = {key: value for key, value in request.items() if value is not None and key not in _dropped}
        if request.get("chat_template_args"):
            body["chat_template_kwargs"] = request["chat_template_args"]
        if request.get("model") in self.adapters:
            body["model"] = request["model"]
        if "nvext" in body:
            if not isinstance(body["nvext"], dict):
                raise InvalidRequestError('"nvext" of the request must be an object')
            body["nvext"] = {key: value for key, value in body["nvext"].items() if value is not None}
        if "input" not in body:
            body["stream"] = True
        return {**body, **trace}

# SPDX-License-Identifier: Apache-2.0
"""Encodes and decodes with the tokenizers of a server's models."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from dynamo_llm.api.tokenizer import Tokenizer
from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.printable import dump_json
from dynamo_llm.runtime.threads import in_pool
from dynamo_llm.server.in_flight import InFlight
from dynamo_llm.server.models import Models
from dynamo_llm.server.request_body import read_body
from dynamo_llm.server.settings import Settings

#: Keys of a body with messages, which the chat template gets.
_chat_keys = (
    "tools",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "reasoning_effort",
)


class Tokens:
    """The endpoints ``/tokenize`` and ``/detokenize``, with the bodies and answers of vLLM's server."""

    def __init__(self, models: Models, settings: Settings, in_flight: InFlight) -> None:
        self._models = models
        self._settings = settings
        self._in_flight = in_flight
        self._loading = asyncio.Lock()
        self._tokenizers: dict[str, Tokenizer] = {}

    async def tokenize(self, http: HttpRequest) -> Response:
        """Encodes ``prompt``, or ``messages`` with the chat template."""
        with self._in_flight.slot():
            body, _ = await read_body(http, self._settings)
            model = await self._models.find(_taken(body, "model", str))
            tokenizer = await self._tokenizer(model)
            add_special = _taken(body, "add_special_tokens", bool)
            if _taken(body, "return_token_strs", bool):
                raise NotSupportedError('"return_token_strs" is not supported; use /detokenize')
            messages = _taken(body, "messages", list)
            if messages is None:
                prompt = _required(body, "prompt", str)
                _refuse_others(body, ("prompt", "messages", "model", "add_special_tokens"))
            else:
                _refuse_others({key: body[key] for key in body if key not in _chat_keys}, _chat_keys)
                prompt = await in_pool(partial(tokenizer.apply_template, messages, **body))
            if add_special is None:
                add_special = messages is None
            ids = await in_pool(tokenizer.encode, prompt, add_special)
            answer = {"count": len(ids), "max_model_len": model.get("context_length"), "tokens": ids}
            return _json(answer | {"token_strs": None})

    async def detokenize(self, http: HttpRequest) -> Response:
        """Decodes ``tokens``. Special tokens stay in the text."""
        with self._in_flight.slot():
            body, _ = await read_body(http, self._settings)
            tokenizer = await self._tokenizer(await self._models.find(_taken(body, "model", str)))
            ids = _required(body, "tokens", list)
            _refuse_others(body, ("tokens", "model"))
            return _json({"prompt": await in_pool(tokenizer.decode, ids, False)})

    async def _tokenizer(self, model: dict[str, Any]) -> Tokenizer:
        path = model.get("path")
        if path is None:
            raise NotSupportedError(
                f'the engine "{model["engine"]}" does not report a folder of the model "{model["id"]}", so '
                f"its tokenizer is not known"
            )
        async with self._loading:
            if path not in self._tokenizers:
                self._tokenizers[path] = await Tokenizer.open(model=path)
        return self._tokenizers[path]


def _taken(body: dict[str, Any], key: str, kind: type) -> Any:
    """Removes a key and returns its value; None if it is absent or null."""
    value = body.pop(key, None)
    if value is not None and not isinstance(value, kind):
        what = {str: "a string", bool: "true or false", list: "an array"}[kind]
        raise InvalidRequestError(f'"{key}" of the request must be {what}')
    return value


def _required(body: dict[str, Any], key: str, kind: type) -> Any:
    value = _taken(body, key, kind)
    if value is None:
        raise InvalidRequestError(f'"{key}" is missing in the request')
    return value


def _refuse_others(body: dict[str, Any], known: Iterable[str]) -> None:
    if body:
        raise InvalidRequestError(
            f'unknown key "{next(iter(body))}" in the request; known keys: {", ".join(known)}'
        )


def _json(value: Any) -> Response:
    return Response(dump_json(value).encode(), media_type="application/json")

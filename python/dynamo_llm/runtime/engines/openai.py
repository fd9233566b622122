# SPDX-License-Identifier: Apache-2.0
"""The engine ``openai``: any server that speaks OpenAI's API."""

import asyncio
import importlib
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dynamo_llm.errors import (
    DeadlineExceededError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    UnavailableError,
)
from dynamo_llm.runtime import options
from dynamo_llm.runtime.deltas import Deltas, usage_of
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo
from dynamo_llm.runtime.upstream import Upstream, excerpt
from dynamo_llm.runtime.urls import without_password

#: Keys of a request that the server does not get as they are.
_own_keys = ("adapter", "stream", "stream_options", "traceparent", "tracestate")


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    base_url: str | None = None
    """Where the API is, with its version: ``http://127.0.0.1:8000/v1``. Needed."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer``. Never logged."""
    api_key_env: str | None = None
    """Environment variable that has the key, in place of ``api_key``."""
    organization: str | None = None
    """Sent as ``OpenAI-Organization``."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """More headers of every request."""
    connect_timeout: float = 10.0
    """Seconds until a connection must be there."""
    read_timeout: float = 300.0
    """Seconds that the server may be silent: before the first chunk, and between two."""
    timeout: float | None = None
    """Seconds that a whole request may take, tries and pauses included; None for no limit."""
    max_retries: int = 2
    """How often a request is sent again if the server cannot be reached, is overloaded, or fails before
    it has streamed anything."""
    retry_delay: float = 0.5
    """Seconds before the first of those; twice as long before each that follows, at most 30. A server's
    ``Retry-After`` goes before; one over 30 s ends the tries."""
    verify: bool = True
    """Whether the certificate of an ``https`` server must be good."""
    ca_file: str | None = None
    """File of certificates (PEM) that are trusted, in place of the system's."""
    proxy: str | None = None
    """URL of a proxy, or ``environment``: what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say. None for
    no proxy, whatever they say."""
    max_connections: int = 256
    """Requests at once; more wait."""
    check_server: bool = True
    """Ask for the server's models at the start, which fails if the server or the model is not there."""


def _check(chosen: Options) -> str:
    """The base URL, without a slash at its end, if the options fit together."""
    if chosen.base_url is None:
        raise InvalidConfigError(
            '"options.base_url" of the configuration is missing: where the server\'s API is, '
            'such as "http://127.0.0.1:8000/v1"'
        )
    parts = urlsplit(chosen.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidConfigError(
            f'"options.base_url" of the configuration must be like "http://127.0.0.1:8000/v1", '
            f"not {without_password(chosen.base_url)!r}"
        )
    if parts.username is not None:
        raise InvalidConfigError(
            '"options.base_url" of the configuration must have no user and password; use "options.api_key" '
            'or "options.headers"'
        )
    if chosen.api_key is not None and chosen.api_key_env is not None:
        raise InvalidConfigError('only one of "options.api_key" and "options.api_key_env" can be given')
    for name in ("connect_timeout", "read_timeout", "timeout", "max_connections"):
        value = getattr(chosen, name)
        if value is not None and value <= 0:
            raise InvalidConfigError(f'"options.{name}" of the configuration must be over 0, not {value!r}')
    for name in ("max_retries", "retry_delay"):
        if getattr(chosen, name) < 0:
            raise InvalidConfigError(f'"options.{name}" of the configuration must not be negative')
    if wrong := [name for name, value in chosen.headers.items() if not isinstance(value, str)]:
        raise InvalidConfigError(f'"options.headers.{wrong[0]}" of the configuration must be a string')
    return chosen.base_url.rstrip("/")


def _headers(chosen: Options) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "dynamo-llm"}
    key = chosen.api_key
    if chosen.api_key_env is not None:
        key = os.environ.get(chosen.api_key_env)
        if not key:
            raise InvalidConfigError(
                f'the environment variable {chosen.api_key_env}, which "options.api_key_env" of the '
                f"configuration names, is not set"
            )
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if chosen.organization is not None:
        headers["OpenAI-Organization"] = chosen.organization
    headers |= chosen.headers
    for name, value in headers.items():
        # The value is not shown: it may be a secret.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(
            r"[\t\x20-\x7e]*", value
        ):
            raise InvalidConfigError(
                f'the header "{name}", of "options.headers", "options.organization" or the key in the '
                f"configuration, must be one line of ASCII"
            )
    return headers


def _trust(chosen: Options) -> ssl.SSLContext | bool:
    if chosen.ca_file is None or not chosen.verify:
        return chosen.verify
    try:
        return ssl.create_default_context(cafile=chosen.ca_file)
    except OSError as error:
        raise InvalidConfigError(
            f'"options.ca_file" of the configuration, "{chosen.ca_file}", cannot be read: {error}'
        ) from error


def _import_client() -> Any:
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise EngineUnavailableError(
            f'the engine "openai" needs the Python package httpx2 ({error}); run: '
            f"python -m pip install 'dynamo-llm[openai]'"
        ) from error


async def _within(chunks: AsyncGenerator[Chunk, None], seconds: float) -> AsyncGenerator[Chunk, None]:
    """What it yields, as long as the time lasts."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with aclosing(chunks):
        while True:
            try:
                chunk = await asyncio.wait_for(anext(chunks, None), max(0.0, end - loop.time()))
            except asyncio.TimeoutError as error:
                raise DeadlineExceededError(
                    f'the answer took longer than the {seconds:g} s of "options.timeout"'
                ) from error
            if chunk is None:
                return
            yield chunk


class OpenAIEngine:
    """A client of one server. See :class:`Options` for its options; the configuration's ``model`` is the
    server's name of the model, for requests that name none.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        self._url = _check(self._options)
        self._model = config.model
        self._name = config.name
        self._info: ModelInfo = {}
        self._upstream: Upstream | None = None

    async def start(self) -> None:
        """Make the client, and look whether the server is there."""
        chosen = self._options
        headers, trust = _headers(chosen), _trust(chosen)
        httpx = await asyncio.get_running_loop().run_in_executor(None, _import_client)
        from_environment = chosen.proxy == "environment"
        try:
            client = httpx.AsyncClient(
                headers=headers,
                verify=trust,
                proxy=None if from_environment else chosen.proxy,
                trust_env=from_environment,
                timeout=httpx.Timeout(
                    connect=chosen.connect_timeout,
                    read=chosen.read_timeout,
                    write=chosen.read_timeout,
                    pool=None,
                ),
                limits=httpx.Limits(
                    max_connections=chosen.max_connections, max_keepalive_connections=chosen.max_connections
                ),
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise InvalidConfigError(
                f'"options.proxy" of the configuration cannot be used: {error}; it must be like '
                f'"http://proxy:3128", or "environment"'
            ) from error
        upstream = Upstream(httpx, client, self._url, chosen.max_retries, chosen.retry_delay)
        self._info = {
            "capabilities": ["chat", "completion", "embedding", "logprobs", "seed", "tools", "json_schema"]
        }
        try:
            if chosen.check_server:
                await self._look(upstream)
        except BaseException:
            await upstream.close()
            raise
        self._upstream = upstream

    async def stop(self) -> None:
        """Close the connections."""
        if self._upstream is not None:
            await self._upstream.close()

    def describe(self) -> ModelInfo:
        """What the server's list of models says."""
        return self._info

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Answer a chat, a completion or an embedding, a chunk an event of the server."""
        assert self._upstream is not None
        body = request.body
        headers = {name: body[name] for name in ("traceparent", "tracestate") if body.get(name)}
        payload = {key: value for key, value in body.items() if key not in _own_keys and value is not None}
        # The runtime's name of the model is not the server's; an adapter is a model of its own there.
        named = None if body.get("model") == self._name else body.get("model")
        payload["model"] = body.get("adapter") or named or self._default_model(self._upstream.models)
        if "input" in body:
            chunks = self._embed(self._upstream, payload, headers)
        else:
            prompt = body.get("prompt")
            if isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int):
                raise NotSupportedError('the engine "openai" takes one "prompt" a request')
            payload |= {"stream": True, "stream_options": {"include_usage": True}}
            path = "/completions" if "prompt" in body else "/chat/completions"
            chunks = self._stream(self._upstream, path, payload, headers)
        if self._options.timeout is not None:
            chunks = _within(chunks, self._options.timeout)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _default_model(self, names: list[str]) -> str:
        if self._model is not None:
            return self._model
        if len(names) == 1:
            return names[0]
        known = f"; the server has: {', '.join(names)}" if names else ""
        raise InvalidRequestError(
            f'"model" is missing in the request, and in the configuration, which is its default{known}'
        )

    async def _look(self, upstream: Upstream) -> None:
        """Ask for the models."""
        seconds = self._options.timeout
        try:
            answer = await asyncio.wait_for(upstream.fetch("GET", "/models"), seconds)
        except ModelNotFoundError as error:
            raise InvalidConfigError(
                f'there is no OpenAI API at "options.base_url" of the configuration, {self._url} ({error}); '
                f'it ends with "/v1" as a rule; "options.check_server": false does without a list of models'
            ) from error
        except asyncio.TimeoutError as error:
            raise DeadlineExceededError(
                f'{self._url} did not list its models within the {seconds:g} s of "options.timeout"'
            ) from error
        entries = answer.get("data")
        if not isinstance(entries, list):
            raise EngineFailedError(f'{self._url}/models sent no list in "data": {excerpt(answer)}')
        models = {entry["id"]: entry for entry in entries if isinstance(entry, dict) and "id" in entry}
        names = upstream.models = list(models)
        if not models:
            raise UnavailableError(
                f'{self._url} has no model yet; "options.check_server": false does not wait for one'
            )
        if self._model is not None and self._model not in models:
            raise ModelNotFoundError(f'{self._url} has no model "{self._model}"; it has: {", ".join(names)}')
        self._info["models"] = names
        entry = models[self._model or names[0]]
        if self._model is None and len(models) > 1:
            return
        for key in ("max_model_len", "context_window", "context_length"):
            if isinstance(entry.get(key), int):
                self._info["context_length"] = entry[key]
                break

    @staticmethod
    async def _embed(
        upstream: Upstream, payload: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[Chunk, None]:
        answer = await upstream.fetch("POST", "/embeddings", payload, headers)
        if not isinstance(answer.get("data"), list):
            raise EngineFailedError(f'the server sent no list in "data": {excerpt(answer)}')
        yield {
            "delta": {key: answer[key] for key in ("data", "model") if key in answer},
            "usage": usage_of(answer.get("usage") or {}),
        }

    @staticmethod
    async def _stream(
        upstream: Upstream, path: str, payload: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[Chunk, None]:
        deltas = Deltas(payload.get("n") or 1)
        async with aclosing(upstream.events(path, payload, headers)) as events:
            async for event in events:
                for chunk in deltas.feed(event):
                    yield chunk
        for chunk in deltas.end():
            yield chunk

# SPDX-License-Identifier: Apache-2.0
"""The engine ``openai``: a client of servers with OpenAI's API."""

import importlib
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlsplit

from dynamo_llm.errors import (
    EngineFailedError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    UnavailableError,
)
from dynamo_llm.runtime import embedding, extras, options
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo
from dynamo_llm.runtime.media.media_part import has_parts
from dynamo_llm.runtime.media.media_reader import MediaReader
from dynamo_llm.runtime.openai_chunks import OpenAIChunks, usage_of
from dynamo_llm.runtime.openai_client import OpenAIClient, excerpt, listed
from dynamo_llm.runtime.pipeline import structured_output
from dynamo_llm.runtime.request_timeouts import RequestTimeouts
from dynamo_llm.runtime.secret import HIDDEN, Secret, shown, shown_variable
from dynamo_llm.runtime.threads import in_thread
from dynamo_llm.runtime.urls import secrets_of, shown_url

#: Keys of a request that are not passed to the server unchanged.
_own_keys = ("adapter", "extra", "stream", "stream_options", "task", "traceparent", "tracestate")
#: Owners, in their lists of models, of servers that reject unknown keys and support ``guided_...`` but not
#: ``structured_outputs``.
_without_structured_outputs = ("nvidia",)

#: Headers of the option ``headers`` that are not secrets and may appear in logs.
_open_headers = re.compile(r"accept(-.*)?|cache-control|content-.*|user-agent", re.IGNORECASE)
_header_name, _header_value = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[\t\x20-\x7e]*")
#: Environment variables for the URLs of proxies.
_proxy_variables = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

#: Maximum bytes of a server's list of models; one with hundreds of models has a few hundred thousand.
_most_of_models = 8 << 20
#: Maximum bytes of the answer for each text of an embedding request; 8192 numbers have 200,000.
_most_of_embedding = 4 << 20
#: Maximum number of consecutive events without progress; a model may think for as many tokens without output.
_most_idle = 100_000
#: Maximum number of model names to read, and maximum characters of a name.
_most_models, _longest_name = 10_000, 300


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    base_url: str | None = None
    """URL of the API with its version: ``http://127.0.0.1:8000/v1``. Required."""
    api_key: Secret | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer``. Never logged."""
    api_key_env: str | None = None
    """Environment variable with the key, in place of ``api_key``."""
    organization: Secret | None = None
    """Sent as ``OpenAI-Organization``."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """More headers for every request."""
    connect_timeout: float = 10.0
    """Seconds within which a connection must be established."""
    read_timeout: float = 300.0
    """Seconds without progress: until the first chunk of a stream, and between two; until the end of an
    answer that is not streamed. Comments and events without content do not count as progress."""
    timeout: float | None = 3600.0
    """Seconds that a whole request may take, attempts and pauses included; None for no limit."""
    max_response_bytes: int = 256 << 20
    """Size limit of one answer in bytes, decompressed. Lower limits apply to answers that are not streamed:
    8 MiB for a list of models, 4 MiB per embedded text, 64 KiB for an error, the rest of which is not
    read."""
    max_retries: int = 2
    """How often a request is sent again if the server cannot be reached, is overloaded, or fails before
    it has streamed anything."""
    retry_delay: float = 0.5
    """Seconds before the first retry; doubled before each further one, up to 30. A server's ``Retry-After``
    takes precedence; if it is over 30 s there are no more retries."""
    verify: bool = True
    """Whether to verify the certificate of an ``https`` server."""
    ca_file: str | None = None
    """File of trusted certificates (PEM), in place of the system's."""
    proxy: Secret | None = None
    """URL of a proxy; or ``environment`` to use HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, and NO_PROXY; None for no
    proxy, even if they are set."""
    max_connections: int = 256
    """Requests in flight at once; further ones are queued."""
    check_server: bool = True
    """Whether to list the server's models at the start, which fails if the server or the model is missing."""


def _check(chosen: Options) -> str:
    """Checks that the options are consistent. Returns the base URL without a slash at its end."""
    if chosen.base_url is None:
        raise InvalidConfigError(
            '"options.base_url" of the configuration is missing; set it to the URL of the server\'s API, '
            'such as "http://127.0.0.1:8000/v1"'
        )
    try:
        parts = urlsplit(chosen.base_url)
        parts.port  # noqa: B018 - raises if it is not a number
    except ValueError:
        parts = urlsplit("")
    if "@" in chosen.base_url:  # also after a slash: a password may contain one
        raise InvalidConfigError(
            '"options.base_url" of the configuration must not contain a user or a password; use '
            '"options.api_key" or "options.headers" instead'
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidConfigError(
            f'"options.base_url" of the configuration must be a URL such as "http://127.0.0.1:8000/v1", '
            f'not "{shown_url(chosen.base_url)}"'
        )
    if chosen.api_key is not None and chosen.api_key_env is not None:
        raise InvalidConfigError(
            'the configuration has both "options.api_key" and "options.api_key_env"; give one of them'
        )
    for name in ("connect_timeout", "read_timeout", "timeout", "max_response_bytes", "max_connections"):
        value = getattr(chosen, name)
        if value is not None and value <= 0:
            raise InvalidConfigError(
                f'"options.{name}" of the configuration must be greater than 0, not {value!r}'
            )
    options.require_at_least(chosen, {"max_retries": 0, "retry_delay": 0})
    if wrong := [name for name, value in chosen.headers.items() if not isinstance(value, str)]:
        raise InvalidConfigError(f'"options.headers.{shown(wrong[0])}" of the configuration must be a string')
    return chosen.base_url.rstrip("/")


def _key(chosen: Options) -> Secret | None:
    if chosen.api_key_env is None:
        return chosen.api_key
    if key := os.environ.get(chosen.api_key_env):
        return Secret(key)
    raise InvalidConfigError(
        f'the environment variable "{shown_variable(chosen.api_key_env)}", which "options.api_key_env" of '
        f"the configuration names, is not set"
    )


def _headers(chosen: Options) -> dict[str, Secret | str]:
    headers: dict[str, Secret | str] = {"Content-Type": "application/json", "User-Agent": "dynamo-llm"}
    if (key := _key(chosen)) is not None:
        headers["Authorization"] = Secret(f"Bearer {key.reveal()}")
    if chosen.organization is not None:
        headers["OpenAI-Organization"] = chosen.organization
    for name, text in chosen.headers.items():
        headers[name] = text if _open_headers.fullmatch(name) else Secret(text)
    for name, value in headers.items():
        # The message omits the value, which may be a secret.
        if not _header_name.fullmatch(name) or not _header_value.fullmatch(_text(value)):
            given = shown(name) if name in chosen.headers else name
            raise InvalidConfigError(
                f'the header "{given}", which "options.headers", "options.organization", or the API key of '
                f"the configuration sets, must be one line of ASCII"
            )
    return headers


def _text(value: Secret | str) -> str:
    return value.reveal() if isinstance(value, Secret) else value


class _NoCookies(CookieJar):
    """Ignores a server's cookies: each answer could add more."""

    def extract_cookies(self, *_: Any) -> None:
        """Stores no cookies."""


def _trust(chosen: Options) -> ssl.SSLContext | bool:
    if chosen.ca_file is None or not chosen.verify:
        return chosen.verify
    try:
        return ssl.create_default_context(cafile=chosen.ca_file)
    except OSError as error:
        file = chosen.ca_file
        is_path = file.startswith(("/", ".", "~")) or file.endswith((".pem", ".crt", ".cer"))
        path = file if is_path else HIDDEN
        why = error.strerror or "it has no certificates in PEM format"
        raise InvalidConfigError(
            f'"options.ca_file" of the configuration, "{path}", cannot be read: {why}'
        ) from None


def _import_client() -> Any:
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise EngineUnavailableError(
            f'the engine "openai" needs the Python package httpx2 ({error}); run: '
            f"{extras.install_command('openai')}"
        ) from error


def _add(payload: dict[str, Any], extra: dict[str, Any]) -> None:
    """Adds a request's ``extra`` to the body for the server."""
    for key, value in extra.items():
        if key in payload or key in _own_keys:
            raise InvalidRequestError(
                f'"extra.{key}" of the request is not allowed: the request or the engine "openai" sets '
                f'"{key}"'
            )
        payload[key] = value


class OpenAIEngine:
    """A client of one server. See :class:`Options` for its options. The configuration's ``model`` is the
    server's name of the model to use for requests that do not name one.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        self._url = _check(self._options)
        self._model = config.model
        self._name = config.name
        self._media = MediaReader(config.media, 'the engine "openai"', frozenset({"image", "audio"}))
        self._info: ModelInfo = {}
        self._knows_structured_outputs = True
        self._client: OpenAIClient | None = None

    async def start(self) -> None:
        """Creates the client, and checks that the server is available."""
        chosen = self._options
        httpx = await in_thread(_import_client)
        client = OpenAIClient(
            httpx,
            self._http_client(httpx),
            self._url,
            chosen.max_connections,
            chosen.max_retries,
            chosen.retry_delay,
            chosen.max_response_bytes,
        )
        capabilities = ["chat", "completion", "embedding", "logprobs", "seed", "tools", "json_schema"]
        self._info = {"capabilities": capabilities}
        try:
            if chosen.check_server:
                await self._look(client)
        except BaseException:
            await client.close()
            raise
        self._client = client

    def _http_client(self, httpx: Any) -> Any:
        """Creates the HTTP client, without secrets in any attribute that it prints."""
        chosen = self._options
        headers = _headers(chosen)
        from_environment = chosen.proxy is not None and chosen.proxy.reveal() == "environment"
        if from_environment:
            names = [name for one in _proxy_variables for name in (one, one.lower())]
            proxies = [os.environ.get(name, "") for name in names]
        else:
            proxies = [] if chosen.proxy is None else [chosen.proxy.reveal()]
        # Text is redacted only as long as these Secret objects exist.
        self._secrets = [secret for url in proxies for secret in secrets_of(url)]

        def add_headers(request: Any) -> Any:
            for name, value in headers.items():
                request.headers[name] = _text(value)
            return request

        try:
            return httpx.AsyncClient(
                auth=add_headers,
                verify=_trust(chosen),
                proxy=proxies[0] if proxies and not from_environment else None,
                trust_env=from_environment,
                cookies=_NoCookies(),
                timeout=httpx.Timeout(chosen.read_timeout, connect=chosen.connect_timeout, pool=None),
                limits=httpx.Limits(
                    max_connections=chosen.max_connections, max_keepalive_connections=chosen.max_connections
                ),
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            is_missing = isinstance(error, ImportError)
            what = "needs a package that is not installed" if is_missing else "cannot be used"
            given = f'"{shown_url(proxies[0])}"' if proxies else ""
            where = "the environment's" if from_environment else given
            raise InvalidConfigError(
                f'"options.proxy" of the configuration, {where}, {what}; it must be a URL such as '
                f'"http://proxy:3128", or "environment"'
            ) from None

    def _timeouts(self) -> RequestTimeouts:
        return RequestTimeouts(self._url, self._options.read_timeout, self._options.timeout)

    async def stop(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()

    def describe(self) -> ModelInfo:
        """Returns the description from the server's list of models."""
        return self._info

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Answers a chat, a completion, or an embedding request, with one chunk per event of the server."""
        assert self._client is not None
        body = request.body
        if has_parts(body.get("messages")):
            messages = await in_thread(self._media.passed_on, body["messages"], request.is_cancelled)
            body = {**body, "messages": messages}
        headers = {name: body[name] for name in ("traceparent", "tracestate") if body.get(name)}
        payload = structured_output.for_server(
            {key: value for key, value in body.items() if key not in _own_keys and value is not None},
            self._knows_structured_outputs,
        )
        # The server does not know the runtime's name of the model. An adapter is a model of its own there.
        named = None if body.get("model") == self._name else body.get("model")
        payload["model"] = body.get("adapter") or named or self._default_model(self._client.models)
        if "input" in body:
            _add(payload, body.get("extra") or {})
            chunks = self._embed(self._client, payload, headers)
        else:
            payload |= {"stream": True, "stream_options": {"include_usage": True}}
            _add(payload, body.get("extra") or {})
            path = "/completions" if "prompt" in body else "/chat/completions"
            chunks = self._stream(self._client, path, payload, headers, request.choices)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _default_model(self, names: list[str]) -> str:
        if self._model is not None:
            return self._model
        if len(names) == 1:
            return names[0]
        known = f"; the server has: {listed(names)}" if names else ""
        raise InvalidRequestError(
            f'"model" is missing in the request, and the configuration has no default "model"{known}'
        )

    async def _look(self, client: OpenAIClient) -> None:
        """Requests the list of models."""
        try:
            answer = await client.fetch("/models", self._timeouts(), _most_of_models, None, {})
        except ModelNotFoundError as error:
            raise InvalidConfigError(
                f'"options.base_url" of the configuration, {self._url}, has no OpenAI API ({error}); the URL '
                f'usually ends with "/v1"; for a server without a list of models set "options.check_server": '
                f"false"
            ) from error
        entries = answer.get("data")
        if not isinstance(entries, list):
            raise EngineFailedError(f'{self._url}/models sent no list in "data": {excerpt(answer)}')
        models = {entry["id"]: entry for entry in entries[:_most_models] if _is_model(entry)}
        names = client.models = list(models)
        if not models:
            raise UnavailableError(
                f'{self._url} has no model yet; try again later, or set "options.check_server": false'
            )
        if self._model is not None and self._model not in models:
            raise ModelNotFoundError(f'{self._url} has no model "{self._model}"; it has: {listed(names)}')
        self._info["models"] = names
        owners = {str(entry.get("owned_by")) for entry in models.values()}
        self._knows_structured_outputs = not owners.issubset(_without_structured_outputs)
        entry = models[self._model or names[0]]
        if self._model is None and len(models) > 1:
            return
        for key in ("max_model_len", "context_window", "context_length"):
            if isinstance(entry.get(key), int) and 0 < entry[key] < 2**53:
                self._info["context_length"] = entry[key]
                break

    async def _embed(
        self, client: OpenAIClient, payload: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[Chunk, None]:
        given = payload["input"]
        texts = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
        most = (1 + texts) * _most_of_embedding
        answer = await client.fetch("/embeddings", self._timeouts(), most, payload, headers)
        if not isinstance(answer.get("data"), list):
            raise EngineFailedError(f'{self._url} sent no list in "data": {excerpt(answer)}')
        self._check_embeddings(answer["data"], payload, texts)
        yield {
            "delta": {key: answer[key] for key in ("data", "model") if key in answer},
            "usage": usage_of(answer.get("usage"), self._url),
        }

    def _check_embeddings(self, data: list[Any], payload: dict[str, Any], count: int) -> None:
        """Checks that a server honored the request, and converts the vectors to the encoding that it asks
        for, which some servers ignore.
        """
        if len(data) != count:
            raise EngineFailedError(f"{self._url} sent {len(data)} embeddings for {count} inputs")
        wanted = payload.get("dimensions")
        for item in data:
            try:
                dimensions = embedding.count_of(item["embedding"])
                item["embedding"] = embedding.encoded(item["embedding"], payload.get("encoding_format"))
            except (KeyError, TypeError, ValueError) as error:
                raise EngineFailedError(
                    f"{self._url} sent an embedding that is not valid in OpenAI's API ({error}): "
                    f"{excerpt(item)}"
                ) from None
            if wanted is not None and dimensions != wanted:
                raise NotSupportedError(
                    f'{self._url} does not support "dimensions" of the request: it sent {dimensions} '
                    f"numbers, not {wanted}"
                )

    async def _stream(
        self,
        client: OpenAIClient,
        path: str,
        payload: dict[str, Any],
        headers: dict[str, str],
        choices: int,
    ) -> AsyncGenerator[Chunk, None]:
        timeouts = self._timeouts()
        deltas = OpenAIChunks(choices, self._url)
        idle = 0
        async with aclosing(client.events(path, payload, headers, timeouts)) as events:
            async for event in events:
                idle += 1
                for chunk in deltas.feed(event):
                    yield chunk
                    if _says_something(chunk):
                        timeouts.renew()
                        idle = 0
                if idle > _most_idle:
                    raise EngineFailedError(
                        f"{self._url} sent {_most_idle} consecutive events without content"
                    )
        for chunk in deltas.end():
            yield chunk


def _says_something(chunk: Chunk) -> bool:
    return bool(chunk.get("text") or chunk.get("token_ids") or any(chunk.get("delta", {}).values()))


def _is_model(entry: Any) -> bool:
    """Whether an entry of the list of models is valid. Its name appears in errors and statistics."""
    name = entry.get("id") if isinstance(entry, dict) else None
    return isinstance(name, str) and 0 < len(name) <= _longest_name and name.isprintable()

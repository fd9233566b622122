# SPDX-License-Identifier: Apache-2.0
"""A server that speaks OpenAI's API, as its client sees it: tries, errors, events."""

import asyncio
import json
import logging
import random
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from dynamo_llm.errors import DeadlineExceededError, DynamoError, EngineFailedError, UnavailableError
from dynamo_llm.runtime.http_status import error_of_http

_log = logging.getLogger("dynamo_llm.openai")

#: Statuses of HTTP after which the same request may succeed.
_may_retry = {408, 409, 429, 500, 502, 503, 504, 529}
#: Seconds: the longest pause between two tries.
_longest_pause = 30.0
#: Seconds that a server gets to end its response after ``[DONE]``; the connection is used again then.
_drain_patience = 0.2


def excerpt(answer: Any) -> str:
    """Some of an answer that is not understood, for an error."""
    return repr(answer if len(str(answer)) <= 300 else str(answer)[:300] + "...")


class _Failed(Exception):
    """A try that failed, and might succeed the next time."""

    def __init__(self, error: DynamoError, pause: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


def _wording(text: str) -> tuple[str, int | None]:
    """What an error's body says, and the status of HTTP in it. OpenAI and vLLM have an object in ``error``,
    Dynamo and SGLang that object alone.
    """
    try:
        body = json.loads(text)
    except ValueError:
        return text.strip()[:300], None
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return str(error)[:300], None
    words = [str(error.get("message") or error.get("detail") or excerpt(error))]
    code = error.get("code")
    if isinstance(code, str) and not code.isdigit():
        words.append(f"({code})")  # OpenAI's "context_length_exceeded" and the like
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else None
    return " ".join(words), status if status is not None and 400 <= status < 600 else None


#: What servers call an error that comes in the stream, if they give no status.
_statuses_of_types = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "server_error": 500,
    "service_unavailable": 503,
    "timeout": 504,
}


class Upstream:
    """One server. Its errors are the library's; they name the options of the engine ``openai``.

    :param httpx: the module httpx2.
    :param client: its ``AsyncClient``, with headers and timeouts.
    :param url: where the API is, without a slash at its end.
    :param max_retries: how many tries may follow the first.
    :param retry_delay: seconds before the second; twice as long before each that follows.
    """

    def __init__(self, httpx: Any, client: Any, url: str, max_retries: int, retry_delay: float) -> None:
        self._httpx = httpx
        self._client = client
        self._url = url
        self._max_retries = max_retries
        self._retry_delay = retry_delay
        self.models: list[str] = []
        """Names of models, for errors of requests that name another one."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def fetch(
        self,
        method: str,
        path: str,
        payload: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """The object that the server answers with."""
        attempt = 0
        while True:
            try:
                return await self._fetch(method, path, payload, headers)
            except _Failed as failure:
                await self._pause(attempt, failure)
                attempt += 1

    async def events(
        self, path: str, payload: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The objects that the server streams, up to ``[DONE]`` or the end. Once there was one, there are no
        more tries.
        """
        attempt = 0
        while True:
            has_begun = False
            try:
                async with aclosing(self._events(path, payload, headers)) as events:
                    async for event in events:
                        has_begun = True
                        yield event
                return
            except _Failed as failure:
                if has_begun:
                    raise failure.error from failure
                await self._pause(attempt, failure)
                attempt += 1

    async def _pause(self, attempt: int, failure: _Failed) -> None:
        """Wait before the next try, or raise if there is none."""
        pause = failure.pause
        if pause is None:
            pause = min(self._retry_delay * 2**attempt, _longest_pause) * random.uniform(0.75, 1.0)
        if attempt >= self._max_retries or pause > _longest_pause:
            raise failure.error from failure
        _log.info("trying again in %.1f s: %s", pause, failure.error)
        await asyncio.sleep(pause)

    async def _fetch(
        self, method: str, path: str, payload: dict[str, Any] | None, headers: dict[str, str] | None
    ) -> dict[str, Any]:
        """One try of a request that is answered with an object."""
        content = None if payload is None else json.dumps(payload).encode()
        try:
            async with self._client.stream(
                method, self._url + path, content=content, headers=headers
            ) as response:
                text = (await response.aread()).decode("utf-8", "replace")
                self._refuse(response, text)
        except (self._httpx.RequestError, ssl.SSLError) as error:
            raise self._broken(error) from error
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineFailedError(f"{self._url}{path} sent no JSON object: {excerpt(text)}")
        return answer

    async def _events(
        self, path: str, payload: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """One try of a request that is answered with a stream."""
        try:
            async with self._client.sse(
                self._url + path, method="POST", content=json.dumps(payload).encode(), headers=headers
            ) as source:
                response = source.response
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if response.status_code != 200 or kind != "text/event-stream":
                    text = (await response.aread()).decode("utf-8", "replace")
                    self._refuse(response, text)
                    raise EngineFailedError(
                        f'{self._url}{path} did not stream: its content type is "{kind}", not '
                        f'"text/event-stream", and it says {excerpt(text)}'
                    )
                async with aclosing(aiter(source)) as events:
                    async for event in events:
                        if event.data == "[DONE]":
                            await self._drain(events)
                            return
                        if event.data:
                            yield self._read(event)
        except self._httpx.SSEError as error:  # an event without an end
            raise EngineFailedError(f"{self._url}{path} streams no events: {error}") from error
        except (self._httpx.RequestError, ssl.SSLError) as error:
            raise self._broken(error) from error

    async def _drain(self, events: Any) -> None:
        """Read to the end, so that the connection can be used again. The answer is whole without it."""
        try:
            await asyncio.wait_for(anext(events, None), _drain_patience)
        except (asyncio.TimeoutError, self._httpx.RequestError) as error:
            _log.debug("the connection cannot be used again after [DONE]: %s", type(error).__name__)

    def _read(self, event: Any) -> dict[str, Any]:
        try:
            data = json.loads(event.data)
        except ValueError as error:
            raise EngineFailedError(f"the server streamed no JSON: {excerpt(event.data)}") from error
        if not isinstance(data, dict):
            raise EngineFailedError(f"the server streamed no JSON object: {excerpt(event.data)}")
        if event.event == "error" or data.get("error"):
            message, status = _wording(event.data)
            broken = data.get("error") or data
            if status is None and isinstance(broken, dict):
                status = _statuses_of_types.get(str(broken.get("type")).lower())
            raise self._error(status, f"the server broke the answer off: {message}")
        return data

    def _refuse(self, response: Any, text: str) -> None:
        """Raise if the status is not 200."""
        status = response.status_code
        if status == 200:
            return
        message, _ = _wording(text)
        if "location" in response.headers:
            message = f"it redirects to {response.headers['location']}, which is not followed"
        what = f"{self._url} refuses the request with HTTP {status}: {message or 'it does not say why'}"
        raise self._error(status, what, response.headers.get("retry-after"))

    def _error(self, status: int | None, message: str, pause: str | None = None) -> Exception:
        if status in (401, 403):
            message += '; the key is "options.api_key" or "options.api_key_env" of the configuration'
        if status == 404 and self.models:
            message += f"; the server's models are: {', '.join(self.models)}"
        error = EngineFailedError(message) if status is None else error_of_http(status, message)
        if status not in _may_retry:
            return error
        try:
            return _Failed(error, None if pause is None else max(0.0, float(pause)))
        except ValueError:  # a date
            return _Failed(error)

    def _broken(self, error: Exception) -> Exception:
        """The error for a connection that was not made, or not kept."""
        said = str(error) or type(error).__name__
        if isinstance(error, self._httpx.ConnectTimeout):
            seconds = self._client.timeout.connect
            return _Failed(
                DeadlineExceededError(
                    f'{self._url} did not answer within the {seconds:g} s of "options.connect_timeout"'
                )
            )
        if isinstance(error, self._httpx.TimeoutException):
            seconds = self._client.timeout.read
            return DeadlineExceededError(
                f'{self._url} was silent for longer than the {seconds:g} s of "options.read_timeout"'
            )
        if isinstance(error, self._httpx.UnsupportedProtocol | self._httpx.DecodingError):
            return EngineFailedError(f"{self._url} cannot be talked to: {said}")
        if isinstance(error, self._httpx.ConnectError | ssl.SSLError):
            return _Failed(UnavailableError(f"{self._url} cannot be reached: {said}"))
        return _Failed(UnavailableError(f"the connection to {self._url} was lost: {said}"))

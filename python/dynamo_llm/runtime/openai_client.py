# SPDX-License-Identifier: Apache-2.0
"""An HTTP client of a server with OpenAI's API: retries, errors, and event streams."""

import asyncio
import json
import logging
import random
import ssl
import urllib.parse
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from dynamo_llm.errors import DeadlineExceededError, DynamoError, EngineFailedError, UnavailableError
from dynamo_llm.printable import one_line
from dynamo_llm.runtime import untrusted_json
from dynamo_llm.runtime.http_status import error_of_http
from dynamo_llm.runtime.request_timeouts import RequestTimeouts
from dynamo_llm.runtime.response_body import TooLongError, pieces
from dynamo_llm.runtime.secret import redact
from dynamo_llm.runtime.urls import shown_url

_log = logging.getLogger("dynamo_llm.openai")

_Json = dict[str, Any]

#: Statuses of HTTP after which the same request may succeed.
_may_retry = {408, 409, 429, 500, 502, 503, 504, 529}
#: Seconds: the longest pause between two attempts.
_longest_pause = 30.0
#: Seconds that a server gets to end its response after ``[DONE]``; the connection is used again then.
_drain_patience = 0.2
#: Bytes that are read of an answer that is not what was asked for: an error, a page.
_most_of_errors = 65536
#: Characters of a server's words in an error.
_longest_words = 500
#: Events without data in a stream.
_most_empty = 10_000
#: Names of models in an error.
_most_names = 20


def words(text: str) -> str:
    """Returns a server's text for an error: on one line, shortened, without secrets."""
    safe = one_line(redact(text.strip()))
    return safe if len(safe) <= _longest_words else safe[:_longest_words] + "..."


def excerpt(answer: Any) -> str:
    """Returns the beginning of an answer that is not valid, for an error."""
    text = redact(answer if isinstance(answer, str) else repr(answer))
    text = text if len(text) <= 300 else text[:300] + "..."
    return repr(text) if isinstance(answer, str) else one_line(text)


def listed(names: list[str]) -> str:
    """Returns names of models for an error; only the first ones of a long list."""
    more = f", and {len(names) - _most_names} more" if len(names) > _most_names else ""
    return words(", ".join(names[:_most_names])) + more


class _RetriableError(Exception):
    """An attempt failed; the next one may succeed.

    :param error: the error to raise if there is no further attempt.
    :param pause: seconds until the next attempt, if the server says so.
    """

    def __init__(self, error: DynamoError, pause: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


def _wording(text: str) -> tuple[str, int | None]:
    """Returns the message of an error's body, and the HTTP status in it. OpenAI and vLLM send an object with
    ``error``, Dynamo and SGLang only the inner object.
    """
    try:
        body = untrusted_json.parse(text)
    except ValueError:
        return words(text), None
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return words(str(error)), None
    message = words(str(error.get("message") or error.get("detail") or error))
    code = error.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code) if len(code) == 3 else None
    elif isinstance(code, str):
        message += f" ({words(code)})"  # OpenAI's "context_length_exceeded" and the like
    return message, code if isinstance(code, int) and 400 <= code < 600 else None


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


class OpenAIClient:
    """A client of one server. Its errors name the options of the engine ``openai``. Used on the event loop.

    :param httpx: the module httpx2.
    :param client: its ``AsyncClient``, with headers and timeouts; :meth:`close` closes it.
    :param url: URL of the API, without a slash at the end.
    :param max_connections: requests in flight at once; further ones are queued.
    :param max_retries: how many attempts may follow the first.
    :param retry_delay: seconds before the second attempt; doubled before each further one.
    :param max_response_bytes: size limit of one answer in bytes, decompressed.
    """

    def __init__(
        self,
        httpx: Any,
        client: Any,
        url: str,
        max_connections: int,
        max_retries: int,
        retry_delay: float,
        max_response_bytes: int,
    ) -> None:
        self._httpx = httpx
        self._client = client
        self._url = url
        # Not the client's own pool: waiting for it would count as waiting for the server.
        self._connections = asyncio.Semaphore(max_connections)
        self._max_retries = max_retries
        self._retry_delay = retry_delay
        self._max_response_bytes = max_response_bytes
        self.models: list[str] = []
        """Names of models, for errors of requests that name another one."""

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def fetch(
        self, path: str, timeouts: RequestTimeouts, most: int, payload: _Json | None, headers: dict[str, str]
    ) -> _Json:
        """Sends a request and returns the object that the server answers with.

        :param most: size limit of the answer in bytes; the option ``max_response_bytes`` may be lower.
        :param payload: body of a POST request; None for a GET request.
        """
        attempt = 0
        while True:
            try:
                return await self._fetch(path, timeouts, most, payload, headers)
            except _RetriableError as failure:
                await self._pause(attempt, failure, timeouts)
                attempt += 1

    async def events(
        self, path: str, payload: _Json, headers: dict[str, str], timeouts: RequestTimeouts
    ) -> AsyncGenerator[_Json, None]:
        """Yields the objects that the server streams, up to ``[DONE]`` or the end. After the first one
        there are no more retries.

        :param timeouts: the caller renews it when an event had content for its own caller.
        """
        attempt = 0
        while True:
            has_begun = False
            try:
                async with aclosing(self._events(path, payload, headers, timeouts)) as events:
                    async for event in events:
                        has_begun = True
                        yield event
                return
            except _RetriableError as failure:
                if has_begun:
                    raise failure.error from failure
                await self._pause(attempt, failure, timeouts)
                attempt += 1

    async def _pause(self, attempt: int, failure: _RetriableError, timeouts: RequestTimeouts) -> None:
        """Waits before the next attempt, or raises the error if there is none."""
        pause = failure.pause
        if pause is None:
            pause = min(self._retry_delay * 2**attempt, _longest_pause) * random.uniform(0.75, 1.0)
        if attempt >= self._max_retries or pause > _longest_pause:
            raise failure.error from failure
        _log.info("trying again in %.1f s: %s", pause, failure.error)
        await timeouts.wait_long(asyncio.sleep(pause))

    @asynccontextmanager
    async def _answer(
        self, path: str, timeouts: RequestTimeouts, payload: _Json | None, headers: dict[str, str]
    ) -> AsyncGenerator[Any, None]:
        """Sends a request once. Yields the response, whose body is still to be read."""
        method = "GET" if payload is None else "POST"
        content = None if payload is None else json.dumps(payload).encode()
        await timeouts.wait_long(self._connections.acquire())
        try:
            request = self._client.build_request(method, self._url + path, content=content, headers=headers)
            response = await timeouts.wait(self._client.send(request, stream=True))
            try:
                yield response
            finally:
                await response.aclose()
        except self._httpx.SSEError as error:  # an event without an end
            raise EngineFailedError(
                f"{self._url}{path} sent an event that is not valid: {words(str(error))}"
            ) from None
        except (self._httpx.RequestError, ssl.SSLError) as error:
            raise self._broken(error) from error
        finally:
            self._connections.release()

    async def _fetch(
        self, path: str, timeouts: RequestTimeouts, most: int, payload: _Json | None, headers: dict[str, str]
    ) -> _Json:
        """Sends a request that is answered with an object, once."""
        headers = {"Accept-Encoding": "gzip", **headers}
        async with self._answer(path, timeouts, payload, headers) as response:
            await self._refuse(response, timeouts)
            where, most = self._url + path, min(most, self._max_response_bytes)
            try:
                async with aclosing(pieces(response, most, timeouts, where)) as body:
                    text = b"".join([piece async for piece in body]).decode("utf-8", "replace")
            except TooLongError as error:
                if most == self._max_response_bytes:
                    error = TooLongError(f'{error}, the "options.max_response_bytes" of the configuration')
                raise error from None
        problem = ""
        try:
            answer = untrusted_json.parse(text)
        except ValueError as error:
            answer, problem = None, f" ({error})"
        if not isinstance(answer, dict):
            raise EngineFailedError(f"{where} did not send a JSON object{problem}: {excerpt(text)}")
        return answer

    async def _events(
        self, path: str, payload: _Json, headers: dict[str, str], timeouts: RequestTimeouts
    ) -> AsyncGenerator[_Json, None]:
        """Sends a request that is answered with a stream, once."""
        headers = {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            **headers,
        }
        where = self._url + path
        try:
            async with self._answer(path, timeouts, payload, headers) as response:
                await self._refuse(response, timeouts)
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind != "text/event-stream":
                    beginning = excerpt(await self._beginning(response, timeouts))
                    raise EngineFailedError(
                        f'{where} did not stream: its content type is "{words(kind)}", not '
                        f'"text/event-stream", and its answer is {beginning}'
                    )
                body = pieces(response, self._max_response_bytes, timeouts, where)
                # A response of its own: the text is UTF-8 and bounded whatever the server's headers say.
                utf8 = {"Content-Type": "text/event-stream; charset=utf-8"}
                whole = self._httpx.Response(200, headers=utf8, content=body, request=response.request)
                events = aiter(self._httpx.EventSource(whole))
                count = 0
                async with aclosing(body), aclosing(events):
                    async for event in events:
                        if event.data == "[DONE]":
                            await self._drain(events)
                            return
                        if event.data:
                            yield self._read(event)
                            continue
                        count += 1
                        if count > _most_empty:
                            raise EngineFailedError(f"{where} streamed more than {_most_empty} empty events")
        except TooLongError as error:
            raise TooLongError(f'{error}, the "options.max_response_bytes" of the configuration') from None

    async def _drain(self, events: Any) -> None:
        """Reads to the end, so that the connection can be used again. The answer is whole without it."""
        try:
            await asyncio.wait_for(anext(events, None), _drain_patience)
        except (asyncio.TimeoutError, self._httpx.RequestError, DynamoError) as error:
            _log.debug("the connection cannot be used again after [DONE]: %s", type(error).__name__)

    def _read(self, event: Any) -> _Json:
        try:
            data = untrusted_json.parse(event.data)
        except ValueError as error:
            raise EngineFailedError(
                f"{self._url} streamed an event that is not valid JSON: {excerpt(event.data)} ({error})"
            ) from None
        if not isinstance(data, dict):
            raise EngineFailedError(
                f"{self._url} streamed an event that is not a JSON object: {excerpt(event.data)}"
            )
        if event.event == "error" or data.get("error"):
            message, status = _wording(event.data)
            broken = data.get("error") or data
            if status is None and isinstance(broken, dict):
                status = _statuses_of_types.get(str(broken.get("type")).lower())
            raise self._error(status, f"{self._url} aborted the answer: {message}")
        return data

    async def _beginning(self, response: Any, timeouts: RequestTimeouts) -> str:
        """Returns the beginning of a body that is not what was asked for."""
        body = b""
        try:
            async with aclosing(pieces(response, _most_of_errors, timeouts, self._url)) as some:
                async for piece in some:
                    body += piece
        except EngineFailedError as error:
            body = body or str(error).encode()
        return body.decode("utf-8", "replace")

    async def _refuse(self, response: Any, timeouts: RequestTimeouts) -> None:
        """Raises an error if the status is not 200."""
        status = response.status_code
        if status == 200:
            return
        message, _ = _wording(await self._beginning(response, timeouts))
        if "location" in response.headers:
            message = f"it redirects to {self._target(response)}, which is not followed"
        what = f"{self._url} refused the request with HTTP {status}: {message or 'it gave no reason'}"
        raise self._error(status, what, response.headers.get("retry-after"))

    def _target(self, response: Any) -> str:
        try:
            target = urllib.parse.urljoin(self._url, response.headers["location"])
        except ValueError:
            target = ""
        return words(shown_url(target))

    def _error(self, status: int | None, message: str, pause: str | None = None) -> Exception:
        if status in (401, 403):
            message += '; set the key with "options.api_key" or "options.api_key_env" of the configuration'
        if status == 404 and self.models:
            message += f"; the server's models are: {listed(self.models)}"
        error = EngineFailedError(message) if status is None else error_of_http(status, message)
        if status not in _may_retry:
            return error
        try:
            return _RetriableError(error, None if pause is None else max(0.0, float(pause)))
        except ValueError:  # a date
            return _RetriableError(error)

    def _broken(self, error: Exception) -> Exception:
        """Returns the error for a connection that was not made, or not kept."""
        reason = words(str(error)) or type(error).__name__
        if isinstance(error, self._httpx.ConnectTimeout):
            seconds = self._client.timeout.connect
            return _RetriableError(
                DeadlineExceededError(
                    f'{self._url} did not accept a connection within "options.connect_timeout", {seconds:g} s'
                )
            )
        if isinstance(error, self._httpx.TimeoutException):
            seconds = self._client.timeout.read
            return DeadlineExceededError(
                f'{self._url} sent nothing for longer than "options.read_timeout", {seconds:g} s'
            )
        if isinstance(error, self._httpx.UnsupportedProtocol | self._httpx.DecodingError):
            return EngineFailedError(f"{self._url} does not use a supported protocol or encoding: {reason}")
        if isinstance(error, self._httpx.ConnectError | ssl.SSLError):
            return _RetriableError(UnavailableError(f"{self._url} cannot be reached: {reason}"))
        return _RetriableError(UnavailableError(f"the connection to {self._url} was lost: {reason}"))

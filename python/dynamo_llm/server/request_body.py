# SPDX-License-Identifier: Apache-2.0
"""Reads the JSON body of an HTTP request."""

import asyncio
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest

from dynamo_llm.errors import InvalidJsonError, InvalidRequestError
from dynamo_llm.runtime import untrusted_json
from dynamo_llm.server.settings import Settings

#: A whole string, or the rest of one that does not end.
_string = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)


async def read_body(request: HttpRequest, settings: Settings) -> tuple[dict[str, Any], int]:
    """Reads a JSON object.

    :returns: the object, and its length in bytes.
    :raises HTTPException: the body is not declared to be JSON, is too long, or takes too long.
    :raises InvalidJsonError: it is not valid JSON.
    :raises InvalidRequestError: it is not an object, or has too many values.
    """
    # A browser sends other types without asking first, also for pages of other sites.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        given = f'not "{kind[:100]}"' if kind else "which is missing"
        raise HTTPException(415, f'the header "Content-Type" must be "application/json", {given}')
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, 'the body must not be compressed: leave out the header "Content-Encoding"')
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > settings.max_body:
        raise _too_long(settings)
    try:
        content = await asyncio.wait_for(_read(request, settings), settings.body_timeout)
    except asyncio.TimeoutError:
        raise HTTPException(
            408, f"the body did not arrive within {settings.body_timeout:g} seconds"
        ) from None
    _check_values(content, settings.max_values)
    return _parse(content), len(content)


async def _read(request: HttpRequest, settings: Settings) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > settings.max_body:
            raise _too_long(settings)
        parts.append(part)
    return b"".join(parts)


def _too_long(settings: Settings) -> HTTPException:
    return HTTPException(413, f"the body is longer than {settings.max_body} bytes, the limit of this server")


def _check_values(content: bytes, most: int) -> None:
    """Checks that a JSON text does not have more values than this, without parsing it."""
    # In valid JSON, each value but the first follows a comma, or is the first of an array or object.
    if _count(content) > most and _count(_string.sub(b"", content)) > most:
        raise InvalidRequestError(
            f'the body has more than {most} values; "limits.request.values" of the configuration allows more'
        )


def _count(content: bytes) -> int:
    return 1 + content.count(b",") + content.count(b"[") + content.count(b"{")


def _parse(content: bytes) -> dict[str, Any]:
    try:
        body = untrusted_json.parse(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidJsonError(f"the body is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise InvalidJsonError(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequestError(
            'the body must be a JSON object, such as {"model": "...", "messages": [...]}'
        )
    return body

# SPDX-License-Identifier: Apache-2.0
"""A bounded HTTP client, for servers of a cluster whose address may belong to anything."""

import asyncio
import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Mapping

from dynamo_llm.printable import one_line
from dynamo_llm.runtime.secret import redact

#: Bytes of a response body; enough for the cards of several hundred workers.
_max_body = 64 << 20
#: Bytes of the status line and headers.
_max_head = 65536


async def fetch(
    url: str,
    default_port: int,
    path: str,
    context: ssl.SSLContext | None = None,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Sends one request and returns the response body. Does not follow redirects. The caller limits the time.

    Uses HTTP/1.0: the response ends with the connection, and is not chunked.

    :param default_port: for a URL without a port.
    :param context: for a server with TLS.
    :param body: of a POST; None for a GET.
    :raises ValueError: the server does not speak HTTP, refuses the request, or sends more than 64 MiB.
    :raises OSError, EOFError: it cannot connect, or the connection was lost.
    """
    parts = urllib.parse.urlsplit(url)
    content = (body or "").encode()
    lines = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.0",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    async with connect(url, default_port, context) as (reader, writer):
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            raise ValueError("the server does not speak HTTP") from None
        version, _, status = head.partition("\r\n")[0].partition(" ")
        if not version.startswith("HTTP/"):
            raise ValueError("the server does not speak HTTP")
        if not status.startswith("200"):
            raise ValueError(f"{path} answers {one_line(redact(status.strip()))[:200]}")
        answer = bytearray()
        while piece := await reader.read(65536):
            answer += piece
            if len(answer) > _max_body:
                raise ValueError(f"{path} answers with more than {_max_body} bytes")
            await asyncio.sleep(0)  # read() returns at once while a server floods
        return answer.decode()


@contextlib.asynccontextmanager
async def connect(
    url: str, default_port: int, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connects to the server of a URL; the parameters are those of :func:`fetch`."""
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or default_port, ssl=context, limit=_max_head
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()

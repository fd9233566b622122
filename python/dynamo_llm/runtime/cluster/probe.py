# SPDX-License-Identifier: Apache-2.0
"""Asks the servers of a cluster whether they are there, without blocking the loop.

Dynamo's own runtime blocks with the GIL held while it connects, so it is only made when they answer.
"""

import asyncio
import contextlib
import os
import random
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.urls import without_password

#: Seconds between two tries, at first and at most.
_first_pause, _longest_pause = 0.1, 2.0
#: Seconds that the other servers get to answer when the first one has.
_for_others = 0.2


class Pauses:
    """Pauses between tries: each twice as long as the one before, and then some of it by chance, so that
    many clients do not come at the same time.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._next = first
        self._longest = longest

    def take(self) -> float:
        """Seconds of the next pause."""
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause * random.uniform(0.5, 1.0)


async def wait_for_servers(settings: Settings, seconds: float) -> tuple[list[str], list[str]]:
    """Wait until the servers that the settings name answer: of several, one.

    :param seconds: how long, at most.
    :returns: the URLs of etcd's and of NATS' servers that answered; Dynamo takes one that is away for a
        failure of all.
    :raises UnavailableError: they do not; the message names their addresses.
    """
    context = etcd_context(settings)
    etcd, nats = await asyncio.gather(
        _wait_for(settings.etcd, "etcd", lambda url: _ask_etcd(url, context), seconds),
        _wait_for(settings.nats, "NATS", _ask_nats, seconds),
    )
    return etcd, nats


async def _wait_for(
    urls: Sequence[str], what: str, ask: Callable[[str], Awaitable[None]], seconds: float
) -> list[str]:
    if not urls:
        return []
    problems: dict[str, str] = {}

    async def tries(url: str) -> str:
        turns = Pauses(_first_pause, _longest_pause)
        while True:
            problems.setdefault(url, "no answer")
            try:
                await ask(url)
                return url
            except (OSError, EOFError, ValueError) as error:
                problems[url] = str(error) or type(error).__name__
            await asyncio.sleep(turns.take())

    tasks = [asyncio.create_task(tries(url)) for url in urls]
    try:
        done, others = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done and others:
            done |= (await asyncio.wait(others, timeout=_for_others))[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if done:
        return [task.result() for task in tasks if task in done]
    said = "; ".join(f"{without_password(url)}: {problem}" for url, problem in problems.items())
    raise UnavailableError(f"{what} does not answer within {round(seconds * 1000)} ms ({said})")


@contextlib.asynccontextmanager
async def _connected(
    url: str, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _ask_etcd(url: str, context: ssl.SSLContext | None) -> None:
    """/health says whether etcd has a leader, too; without one it takes no lease."""
    parts = urllib.parse.urlsplit(url)
    async with _connected(url, 2379, context) as (reader, writer):
        writer.write(f"GET /health HTTP/1.0\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n\r\n".encode())
        status = (await reader.readline()).decode("latin-1").split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/"):
            raise ValueError("what answers there is no etcd")
        if status[1] != "200":
            raise ValueError(f"its /health answers {' '.join(status[1:]).strip()}")


async def _ask_nats(url: str) -> None:
    """A server of NATS speaks first, before TLS."""
    async with _connected(url, 4222, None) as (reader, _):
        if not (await reader.readline()).startswith(b"INFO "):
            raise ValueError("what answers there is no NATS")


def etcd_context(settings: Settings) -> ssl.SSLContext | None:
    """How to check etcd's certificate, and to show one's own; None where etcd is asked without TLS."""
    if not any(url.startswith("https:") for url in settings.etcd):
        return None
    given = settings.planes.etcd
    if given is None or not given.ca:  # then Dynamo takes its certificates from the environment, as texts
        return ssl.create_default_context(cadata=os.environ.get("ETCD_AUTH_CA"))
    context = ssl.create_default_context(cafile=given.ca)
    context.load_cert_chain(given.cert, given.key)
    return context

# SPDX-License-Identifier: Apache-2.0
"""Waits until the servers of a cluster, etcd and NATS, respond, without blocking the asyncio event loop.

Dynamo's own runtime blocks with the GIL held while it connects, so it is created only once they respond.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence

from dynamo_llm.errors import UnavailableError
from dynamo_llm.runtime.cluster import http_client
from dynamo_llm.runtime.cluster.backoff import Backoff
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.urls import shown_url

#: Seconds that the other servers get to respond after the first one has.
_for_others = 0.2


async def wait_for_servers(settings: Settings, seconds: float) -> tuple[list[str], list[str]]:
    """Waits until one of the etcd servers and one of the NATS servers in the settings respond.

    :returns: URLs of the etcd and the NATS servers that responded; Dynamo would treat one unreachable server
        as a failure of all.
    :raises UnavailableError: they do not; the message names their addresses.
    """
    context = etcd_context(settings)
    found = await asyncio.gather(
        _wait_for(settings.etcd, "etcd", lambda url: _probe_etcd(url, context), seconds),
        _wait_for(settings.nats, "NATS", _probe_nats, seconds),
    )
    return found[0], found[1]


async def _wait_for(
    urls: Sequence[str], what: str, probe: Callable[[str], Awaitable[None]], seconds: float
) -> list[str]:
    if not urls:
        return []
    problems: dict[str, str] = {}

    async def probe_until_up(url: str) -> str:
        backoff = Backoff(0.1, 2.0)
        while True:
            problems.setdefault(url, "no response")
            try:
                await probe(url)
                return url
            except (OSError, EOFError, ValueError) as error:
                problems[url] = str(error) or type(error).__name__
            await backoff.pause()

    tasks = [asyncio.create_task(probe_until_up(url)) for url in urls]
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
    details = "; ".join(f"{shown_url(url)}: {problem}" for url, problem in problems.items())
    raise UnavailableError(f"{what} does not respond within {round(seconds * 1000)} ms ({details})")


async def _probe_etcd(url: str, context: ssl.SSLContext | None) -> None:
    """/health fails, too, while etcd has no leader and so grants no leases."""
    await http_client.fetch(url, 2379, "/health", context)


async def _probe_nats(url: str) -> None:
    """A NATS server speaks first, before TLS."""
    async with http_client.connect(url, 4222, None) as (reader, _):
        if not (await reader.readline()).startswith(b"INFO "):
            raise ValueError("the server there is not a NATS server")


def etcd_context(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context for etcd; None without TLS."""
    if not any(url.startswith("https:") for url in settings.etcd):
        return None
    given = settings.planes.etcd
    if given is None or not given.ca:  # then Dynamo takes the text of its certificates from the environment
        return ssl.create_default_context(cadata=os.environ.get("ETCD_AUTH_CA"))
    context = ssl.create_default_context(cafile=given.ca)
    context.load_cert_chain(given.cert, given.key)
    return context

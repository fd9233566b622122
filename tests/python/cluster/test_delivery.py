# SPDX-License-Identifier: Apache-2.0
"""Which requests are sent again, by the errors of Dynamo's client. test_failover.py has the real errors."""

import asyncio
import time

import pytest
from dynamo_llm.errors import EngineFailedError, UnavailableError
from dynamo_llm.runtime.cluster.client.delivery import deliver
from dynamo_llm.runtime.cluster.client.errors import error_of

none = "Unavailable: No workers available for endpoint a/b/c"
never_sent = "No healthy TCP connection to 127.0.0.1:1 after 5 connect retries"
unclear = "Unavailable: TCP connection to 127.0.0.1:1 failed"
received = "Unavailable: Stream ended before generation completed"


def attempts(text: str, seconds: float, *, is_repeatable: bool) -> int:
    """Returns how often a request is sent whose first two attempts raise this."""
    made = 0

    async def send() -> str:
        nonlocal made
        made += 1
        if made < 3:
            raise ValueError(text)
        return "answer"

    async def run() -> None:
        assert await deliver(send, seconds, is_repeatable=is_repeatable) == "answer"

    try:
        asyncio.run(run())
    except ValueError as error:
        assert str(error) == text
    return made


@pytest.mark.parametrize(
    ("text", "seconds", "is_repeatable", "count"),
    [
        (never_sent, 0, False, 3),  # another worker may be there
        ("Unavailable: Worker removed before request could be sent (tombstoned instance)", 0, False, 3),
        (none, 0, True, 1),
        (none, 5, False, 3),
        (unclear, 5, True, 3),
        (unclear, 5, False, 1),  # a raw request may have effects
        (received, 5, True, 1),
    ],
)
def test_attempts(text: str, seconds: float, is_repeatable: bool, count: int) -> None:
    assert attempts(text, seconds, is_repeatable=is_repeatable) == count


def test_the_end_of_the_attempts() -> None:
    """The error of the last attempt is raised after the time to wait."""

    async def send() -> None:
        raise ValueError(none)

    start = time.monotonic()
    with pytest.raises(ValueError, match="No workers available"):
        asyncio.run(deliver(send, 0.2, is_repeatable=False))
    assert time.monotonic() - start >= 0.2


def test_their_status() -> None:
    """A request that no worker received is UNAVAILABLE, also if Dynamo's error has no class."""
    assert isinstance(error_of(ValueError(never_sent)), UnavailableError)
    assert isinstance(error_of(ValueError("Unknown: something")), EngineFailedError)

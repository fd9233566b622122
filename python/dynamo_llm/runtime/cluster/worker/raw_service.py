# SPDX-License-Identifier: Apache-2.0
"""Answers raw requests: the service of an endpoint without a model."""

import math
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.cluster.worker.token_service import Send


async def answer(request: Any, trace: dict[str, str], send: Send) -> AsyncIterator[Any]:
    """Passes the items of a raw engine on."""
    if not isinstance(request, bytes):
        _check(request, "the request")
    async for response in send(request):
        for item in response.items:
            yield item


def _check(value: Any, place: str) -> None:
    """Checks that a MessagePack value can be represented in JSON.

    :raises InvalidRequestError: it cannot; the message names the place.
    """
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise InvalidRequestError(f"{place} has the key {key!r}; keys must be strings")
            _check(one, f"{place}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _check(one, f"{place}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequestError(f"{place} is {value}, which is not valid JSON")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise InvalidRequestError(
            f"{place} is {type(value).__name__}; a request must be bytes or a JSON value"
        )

# SPDX-License-Identifier: Apache-2.0
"""Answers requests of data: the service of an endpoint without a model."""

import math
from collections.abc import AsyncIterator
from typing import Any

from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.cluster.worker_tokens import Send


class DataService:
    """Serves an engine of data."""

    async def answer(self, request: Any, trace: dict[str, str], send: Send) -> AsyncIterator[Any]:
        """The items, as the engine gives them."""
        if not isinstance(request, bytes):
            _check(request, "the request")
        async for response in send(request):
            for item in response.items:
                yield item


def _check(value: Any, place: str) -> None:
    """MessagePack has more than JSON.

    :raises InvalidRequestError: it is no JSON; the message says where.
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
        raise InvalidRequestError(f"{place} is {value}, which JSON has not")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise InvalidRequestError(
            f"{place} is {type(value).__name__}; a request must be bytes, or what JSON has"
        )

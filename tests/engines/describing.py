# SPDX-License-Identifier: Apache-2.0
"""Engines that say what they have loaded."""

from collections.abc import AsyncIterator
from typing import Any


class Describing:
    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {"context_length": 99, "capabilities": ["completion"], "adapters": ["poet"]}

    async def generate(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"text": request.body["prompt"]}

    def stop(self) -> None: ...


class Broken(Describing):
    def describe(self) -> dict[str, Any]:
        raise ValueError("no description")


class Listing(Describing):
    """Its models come and go, so it is asked each time."""

    def describe(self) -> dict[str, Any]:
        return {"changes": True, "models": [{"id": f"a-model-with-a-long-name-{n}"} for n in range(9)]}

# SPDX-License-Identifier: Apache-2.0
"""An engine that gives what its options say, or the token ids of the prompt."""

from typing import Any


class Giving:
    def __init__(self, config: Any) -> None:
        self.chunks = config.options.get("chunks")

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def generate(self, request: Any) -> Any:
        for chunk in self.chunks or [{"token_ids": request.body["prompt"]}]:
            yield chunk

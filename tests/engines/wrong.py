# SPDX-License-Identifier: Apache-2.0
"""An engine that plays a script, but does one thing wrong; its options say which."""

from typing import Any

from playing import Base, Player


class Wrong(Base):
    latest: Any = None

    def __init__(self, config: Any) -> None:
        self.how = config.options["how"]

    async def generate(self, request: Any) -> Any:
        body = dict(request.body)
        is_whole = body.get("stream") is False
        limit = body.get("max_tokens")
        if self.how == "mixes" and not is_whole:
            self.latest = self.latest or body
            body = self.latest
        if self.how == "runs on" and limit:
            body["max_tokens"] = limit + 1
        player = Player(body)
        number = 0
        try:
            for chunk in player.chunks():
                number += 1
                if self.how == "loses" and number == 9 and not is_whole:
                    continue
                if self.how == "reorders" and "text" in chunk and not is_whole:
                    chunk["text"] = f"{player.said % 2} "
                if self.how == "forgets usage" and "usage" in chunk:
                    continue
                if self.how == "miscounts" and "usage" in chunk:
                    chunk["usage"]["completion_tokens"] += 1
                yield chunk
        except ValueError:
            if self.how != "swallows errors":
                raise

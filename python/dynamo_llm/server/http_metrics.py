# SPDX-License-Identifier: Apache-2.0
"""Counts the answers of a server."""

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HttpMetrics:
    """Counts answers by path and status.

    :param paths: the paths to tell apart; all others are counted as ``other``.
    """

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths
        self._answers: Counter[tuple[str, int]] = Counter()

    def counting(self, app: ASGIApp) -> ASGIApp:
        """Returns an application that does the same as the given one, and counts its answers."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"] if scope["path"] in self._paths else "other"

            async def count(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._answers[path, message["status"]] += 1
                await send(message)

            await app(scope, receive, count)

        return counted

    def text(self, in_flight: int) -> str:
        """Returns the counters in Prometheus' text format."""
        lines = [
            "# HELP dynamo_llm_http_answers_total HTTP answers, by path and status.",
            "# TYPE dynamo_llm_http_answers_total counter",
            *(
                f'dynamo_llm_http_answers_total{{path="{path}",code="{code}"}} {count}'
                for (path, code), count in sorted(self._answers.items())
            ),
            "# HELP dynamo_llm_http_requests_in_flight HTTP requests that are being served.",
            "# TYPE dynamo_llm_http_requests_in_flight gauge",
            f"dynamo_llm_http_requests_in_flight {in_flight}",
        ]
        return "\n".join(lines) + "\n"

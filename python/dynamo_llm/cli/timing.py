# SPDX-License-Identifier: Apache-2.0
"""Measures when the responses of a request arrive."""

from dataclasses import dataclass, field
from time import perf_counter

from dynamo_llm import Response, Usage


@dataclass
class Timing:
    """Timestamps of one request, in seconds. Create it immediately before the request is sent."""

    start: float = field(default_factory=perf_counter)
    arrivals: list[float] = field(default_factory=list)
    """Arrival of each response that carries text or tokens, which may be several tokens."""
    end: float = 0.0
    """The end of the request; the caller sets it."""
    usage: Usage | None = None

    def note(self, response: Response) -> None:
        """Records the arrival of a response."""
        if response.text or response.token_ids:
            self.arrivals.append(perf_counter())
        self.usage = response.usage or self.usage

    @property
    def first(self) -> float | None:
        """Seconds from sending to the first response; None without a response."""
        return self.arrivals[0] - self.start if self.arrivals else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between consecutive responses."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    def summary(self) -> str:
        """Returns token count, rate, and times as one line."""
        total = self.end - self.start
        words = []
        if self.usage is not None:
            tokens = self.usage.completion_tokens
            words += [f"{tokens} token" + "s" * (tokens != 1), f"{tokens / total:.1f} tokens/s"]
        if self.first is not None:
            words.append(f"first after {milliseconds(self.first)}")
        return ", ".join([*words, f"{total:.2f} s total"])


def milliseconds(seconds: float) -> str:
    """Formats a short duration."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"

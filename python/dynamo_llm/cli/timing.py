# SPDX-License-Identifier: Apache-2.0
"""When the responses of a request came."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_llm import Response, Usage


@dataclass
class Timing:
    """Clock of a request; create it just before the request is sent. All times are in seconds."""

    start: float = field(default_factory=perf_counter)
    arrivals: list[float] = field(default_factory=list)
    """When each response that carries something came. It may carry several tokens."""
    end: float = 0.0
    """Set by who received the end."""
    usage: "Usage | None" = None

    def note(self, response: "Response") -> None:
        """A response has just come."""
        if response.text or response.token_ids:
            self.arrivals.append(perf_counter())
        self.usage = response.usage or self.usage

    @property
    def first(self) -> float | None:
        """From sending to the first response."""
        return self.arrivals[0] - self.start if self.arrivals else None

    @property
    def gaps(self) -> list[float]:
        """Between each response and the next."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    def summary(self) -> str:
        """A line for people, at the end."""
        total = self.end - self.start
        words = []
        if self.usage is not None:
            tokens = self.usage.completion_tokens
            words += [f"{tokens} token" + "s" * (tokens != 1), f"{tokens / total:.1f} tokens/s"]
        if self.first is not None:
            words.append(f"first after {milliseconds(self.first)}")
        return ", ".join([*words, f"{total:.2f} s in all"])


def milliseconds(seconds: float) -> str:
    """A short time for people."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"

# SPDX-License-Identifier: Apache-2.0
"""The parent's side of one request to an isolated engine."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dynamo_llm import _core
from dynamo_llm.runtime.engine import Usage
from dynamo_llm.runtime.isolation import frames
from dynamo_llm.runtime.span import Span

_CANCELLED = _core.STATUSES["DYNAMO_ERROR_CANCELLED"]


@dataclass(frozen=True)
class Failure:
    """The error that ends a request, for its caller."""

    status: int
    message: str
    details: str
    """Error details, a JSON object."""


@dataclass(slots=True)
class RelayedRequest:
    """A request to an isolated engine."""

    stream: int
    """Number of the request's stream in the library."""
    id: str
    """Id of the request, unique in this process."""
    content: bytes
    """The OpenAI body as JSON, the payload of a raw request, or the command of a control call."""
    kind: int
    """What ``content`` is: ``OPENAI``, ``JSON``, ``BYTES``, or ``CALL`` of :mod:`.frames`."""
    span: Span | None
    """Span of the request."""
    on_end: Callable[[], Any]
    """Called once, at the end of the request, on the event loop."""


class Relay(_core.Sink):
    """Pushes what the child sends into the stream of the request. Its methods run on the event loop.

    Chunks that do not fit into the stream are held here. The child may send up to ``window`` tokens beyond
    those that it got credit for; it gets credit for tokens that were pushed. So no more than a window is
    held.

    :param window: tokens that the child may send before it gets credit.
    :param waiting: the relays that wait for a child to start; this one removes itself if it is cancelled.
    """

    def __init__(self, request: RelayedRequest, window: int, waiting: "dict[Relay, None]") -> None:
        super().__init__(request.stream, None if request.span is None else request.span.record)
        self.id = request.id
        self._request = request
        self._window = window
        self._waiting = waiting
        self._put: Callable[[bytes], None] | None = None
        self._number = 0
        self._held: deque[tuple[dict[str, Any], int]] = deque()
        self._held_tokens = 0
        self._uncredited = 0  # tokens that were pushed since the child last got credit
        self._end: Usage | Failure | None = None

    def send(self, number: int, put: Callable[[bytes], None]) -> None:
        """Sends the request to a child, by ``put``, in frames with this number. Called once."""
        self._number, self._put = number, put
        remaining = _core.stream_remaining(self._request.stream)
        remaining_ms = -1 if remaining is None else int(remaining * 1000)
        put(frames.request(number, self._request.kind, remaining_ms, self._request.content))
        self._request.content = b""  # it may be large, and is not needed any more

    # --------------------------------------------------------------------------- frames of the child

    def deliver(self, chunk: dict[str, Any], tokens: int) -> None:
        """Pushes a part of the answer, or holds it while the stream is full.

        :raises ProtocolError: the child exceeded its credit.
        """
        if self._held or not self.push(chunk):
            self._held.append((chunk, tokens))
            self._held_tokens += tokens
            if self._held_tokens - tokens > self._window:
                raise frames.ProtocolError("it sent more tokens than it had credit for")
            return
        self._count(tokens)

    def _count(self, tokens: int) -> None:
        self._uncredited += tokens
        if self._uncredited * 2 >= self._window and self._put is not None and self._end is None:
            self._put(frames.credit(self._number, self._uncredited))
            self._uncredited = 0

    def end(self, result: Usage | Failure) -> None:
        """Ends the answer, which is complete or has failed, after the chunks that are held."""
        self._end = result
        if not self._held:
            self._close()

    def _close(self) -> None:
        end, self._put = self._end, None
        span = self._request.span
        if isinstance(end, Failure):
            if span is not None:
                span.fail(RuntimeError(end.message))
            self.fail_stream(end.status, end.message, end.details)
        else:
            if span is not None:
                span.finish(end or None)
            self.finish_stream(None, end or None)
        self._request.on_end()

    # --------------------------------------------------------------------------- calls of the instance

    def cancel(self) -> None:
        """Cancels the request. It ends when the child has ended it."""
        self._held.clear()
        self._held_tokens = 0
        if self.has_ended:
            return
        if self._end is not None:
            self._close()
        elif self._put is not None:
            self._put(frames.frame(frames.CANCEL, self._number))
        else:
            self._waiting.pop(self, None)
            self.end(Failure(_CANCELLED, "the request was cancelled", ""))

    def on_writable(self) -> None:
        """Pushes held chunks: the stream, which was full, is writable again."""
        if self.has_ended:
            return
        while self._held:
            chunk, tokens = self._held[0]
            if not self.push(chunk):
                return
            self._held.popleft()
            self._held_tokens -= tokens
            self._count(tokens)
        if self._end is not None:
            self._close()

    async def ended(self) -> None:
        """Does not wait: the child may never answer."""

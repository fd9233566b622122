# SPDX-License-Identifier: Apache-2.0
"""The settings of a server."""

from dataclasses import dataclass

from dynamo_llm.runtime.secret import Secret


@dataclass(frozen=True)
class Settings:
    """Who may use the server, and how much of it. All durations are in seconds."""

    api_keys: tuple[Secret, ...] = ()
    """Keys of which each request must have one; empty: no key is needed."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the server from a browser; ``*`` for all."""
    max_body: int = 32 * 2**20
    """Bytes of a request's body."""
    max_values: int = 1_000_000
    """Values in a body. As ``limits.request.values`` of the runtime, which is checked only after Python has
    made an object of each value.
    """
    max_requests: int = 1024
    """Requests that are served at a time."""
    header_timeout: float = 10
    """How long the header of a request may take to arrive."""
    body_timeout: float = 60
    """How long the body of a request may take to arrive."""
    idle_timeout: int = 75
    """How long a connection without a request stays open."""
    write_timeout: float = 60
    """How long a client may read nothing while there is something to send."""

# SPDX-License-Identifier: Apache-2.0
"""What travels beside a request from client to worker: the trace context and the deadline."""

import math
from typing import Any

from dynamo_llm.errors import DeadlineExceededError, InvalidRequestError

#: The key with the seconds until the deadline.
_deadline = "dynamo-llm-deadline-seconds"
_trace_keys = ("traceparent", "tracestate")


def metadata_of(trace: dict[str, str] | None, remaining: float | None) -> dict[str, str]:
    """Returns the metadata of a request, with its W3C trace context and the seconds until its deadline."""
    metadata = dict(trace or {})
    if remaining is not None:
        metadata[_deadline] = f"{remaining:.3f}"
    return metadata


def remaining_of(context: Any) -> float | None:
    """Returns the seconds until the deadline of a request; None without one.

    :param context: Dynamo's.
    :raises InvalidRequestError: it is not a number.
    :raises DeadlineExceededError: it has passed.
    """
    text = context.metadata.get(_deadline)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidRequestError(f'the metadata "{_deadline}" must be a number of seconds, not "{text}"')
    if seconds <= 0:
        raise DeadlineExceededError("the request arrived after its deadline")
    return seconds


def trace_of(context: Any) -> dict[str, str]:
    """Returns the W3C trace context of a request with Dynamo's context."""
    headers = context.trace_headers() or {}
    found = {key: headers.get(key) or context.metadata.get(key) for key in _trace_keys}
    return {key: value for key, value in found.items() if value}

# SPDX-License-Identifier: Apache-2.0
"""What a caller is told of an exception."""

import json
import traceback
from typing import Any

from dynamo_llm import _core
from dynamo_llm.errors import DynamoError

_ENGINE_FAILED = _core.STATUSES["DYNAMO_ERROR_ENGINE_FAILED"]
_OUT_OF_MEMORY = _core.STATUSES["DYNAMO_ERROR_OUT_OF_MEMORY"]


def as_text(text: str) -> str:
    """A text without lone surrogates, which are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def describe(error: BaseException) -> tuple[int, str, str]:
    """Status, message and details (JSON) that a caller gets for an exception. Does not raise."""
    kind = type(error)
    try:
        text = str(error)
    except Exception:
        text = "(an exception that cannot say what it is)"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, DynamoError):
        status = error.status
    else:
        status = _OUT_OF_MEMORY if isinstance(error, MemoryError) else _ENGINE_FAILED
        text = f"{name}: {text}"
    trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    details: dict[str, Any] = {"python": {"type": name, "traceback": as_text(trace)}}
    if isinstance(error, DynamoError):  # what an engine knows better than its status
        details |= {key: error.details[key] for key in ("retriable", "fatal") if key in error.details}
    return status, as_text(text), json.dumps(details)

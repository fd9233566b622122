# SPDX-License-Identifier: Apache-2.0
"""Writes what callers pass as JSON for the library."""

import json
import os
from typing import Any

from dynamo_llm.errors import DynamoError, InvalidRequestError


def json_text(value: Any, what: str = "request", kind: type[DynamoError] = InvalidRequestError) -> str:
    """Serializes a value to JSON. Scalars of numpy and torch become numbers, paths become strings.

    :param what: what the value is, for errors: ``request``, ``configuration``.
    :param kind: class of the error to raise.
    :raises DynamoError: of class ``kind``: the value has NaN, an infinity, or an integer of thousands of
        digits, or it contains itself.
    :raises TypeError: the value has an object that JSON cannot represent, such as a set.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except (ValueError, RecursionError) as error:
        raise kind(f"the {what} cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

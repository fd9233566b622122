# SPDX-License-Identifier: Apache-2.0
"""Turns an exception of an engine into the error that the caller gets."""

import json
import os
import traceback
from pathlib import Path
from typing import Any

from dynamo_llm import _core
from dynamo_llm.errors import DynamoError
from dynamo_llm.runtime.secret import redact

_ENGINE_FAILED = _core.STATUSES["DYNAMO_ERROR_ENGINE_FAILED"]
#: Characters that are kept of each end of a long traceback.
_most_of_traceback = 16384
_OUT_OF_MEMORY = _core.STATUSES["DYNAMO_ERROR_OUT_OF_MEMORY"]

_package = str(Path(__file__).resolve().parents[1]) + os.sep
#: Statuses of mistakes of the caller. If this package finds one, its message says what to correct.
_MISTAKES = frozenset(
    _core.STATUSES[f"DYNAMO_ERROR_{name}"]
    for name in (
        "INVALID_ARGUMENT",
        "INVALID_HANDLE",
        "INVALID_STATE",
        "INVALID_JSON",
        "INVALID_CONFIG",
        "INVALID_REQUEST",
        "ENGINE_NOT_FOUND",
        "MODEL_NOT_FOUND",
        "CONTEXT_LENGTH",
        "NOT_SUPPORTED",
    )
)

#: Keys of error details that the library sets itself, anew in each process that the error passes through.
OF_CORE = ("status", "name", "message", "layer", "engine", "request_id")


def as_text(text: str) -> str:
    """Escapes lone surrogates, which cannot be encoded as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(error: BaseException) -> str:
    """Returns an exception's message, without known secrets. Does not raise."""
    try:
        return redact(str(error))
    except Exception:
        return "(the exception's message is unavailable: its __str__() failed)"


def traceback_of(error: BaseException) -> str:
    """Returns an exception's traceback, without known secrets; of a very long one, the two ends."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if len(trace) > 2 * _most_of_traceback:
        trace = f"{trace[:_most_of_traceback]}\n...\n{trace[-_most_of_traceback:]}"
    return as_text(redact(trace))


def _is_own(error: BaseException) -> bool:
    """Whether code of this package raised an exception, and not an engine of somebody else."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code.co_filename.startswith(_package)


def describe(error: BaseException) -> tuple[int, str, str]:
    """Returns status, message, and details (JSON) that the caller gets for an exception. Does not raise."""
    kind = type(error)
    text = text_of(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, DynamoError):
        status = error.status
    else:
        status = _OUT_OF_MEMORY if isinstance(error, MemoryError) else _ENGINE_FAILED
        text = f"{name}: {text}"
    python = {"type": name}
    if not (status in _MISTAKES and _is_own(error)):
        python["traceback"] = traceback_of(error)
    details: dict[str, Any] = {"python": python}
    if isinstance(error, DynamoError):
        details |= _given(error)
    return status, as_text(text), json.dumps(details)


def _given(error: DynamoError) -> dict[str, Any]:
    """Returns the details that an engine gave to its exception, as JSON values. Does not raise."""
    try:
        given = {str(key): _plain(value) for key, value in error.details.items() if key not in OF_CORE}
        json.dumps(given, allow_nan=False)
    except Exception as problem:  # the engine may have given anything
        return {"details_problem": f"the engine's details are not JSON values: {text_of(problem)}"}
    if "child" not in given:  # else the error comes from another process, with a traceback of its own
        given.pop("python", None)
    return given


def _plain(value: Any) -> Any:
    """Returns a JSON value without known secrets and lone surrogates; of any other object its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {as_text(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return as_text(redact(str(value)))

# SPDX-License-Identifier: Apache-2.0
"""How a worker tells a client of NVIDIA Dynamo that a request failed, without a word on stderr."""

from typing import Any, Literal, get_args

Kind = Literal[
    "InvalidRequest",
    "NotFound",
    "PayloadTooLarge",
    "RateLimited",
    "CapacityExhausted",
    "Unavailable",
    "DeadlineExceeded",
    "Cancelled",
    "Internal",
    "EngineShutdown",
]
"""What the message begins with that the client gets. For EngineShutdown that is "Unavailable"; for
InvalidRequest Dynamo's exception InvalidArgument says it, and its text is the message alone."""

#: Dynamo's errors that become these, where their names are others. Only EngineShutdown makes clients put the
#: worker aside for some seconds, and go on at another one if they may. CannotConnect, Disconnected,
#: WorkerUnavailable, DeadlineExceeded and timeouts that are not of the backend would do so, too.
_errors: dict[str, str | dict[str, str]] = {
    "InvalidRequest": "InvalidArgument",
    "CapacityExhausted": "ResourceExhausted",
    "DeadlineExceeded": {"Backend": "ConnectionTimeout"},
    "Internal": "Unknown",
    "EngineShutdown": {"Backend": "EngineShutdown"},
}
#: Their messages are for the frontend's callers, too; without "public" these get words of Dynamo's.
_public = ("InvalidRequest",)


def failure(kind: Kind, message: str) -> dict[str, Any]:
    """The item with which a handler ends its stream in place of an exception.

    Dynamo passes exceptions of handlers on as well, but prints their traceback to ``sys.stderr`` first.

    :param kind: what happened.
    :param message: for the client.
    :raises ValueError: there is no such kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f'no kind of failure "{kind}"; there are {", ".join(get_args(Kind))}')
    error: dict[str, Any] = {"error_type": _errors.get(kind, kind), "message": message}
    if kind in _public:
        error["public"] = {"type": "message", "message": message}
    return {"_dynamo_annotated": True, "event": "error", "error": error}

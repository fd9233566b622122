# SPDX-License-Identifier: Apache-2.0
"""How a worker tells a client of NVIDIA Dynamo that a request failed, without a word on stderr."""

from typing import Any, Literal, get_args

Kind = Literal[
    "InvalidRequest",
    "PayloadTooLarge",
    "RateLimited",
    "CapacityExhausted",
    "Unavailable",
    "DeadlineExceeded",
    "Cancelled",
    "Internal",
]
"""What the message begins with that the client gets."""

#: Dynamo's errors that become these. None of them makes clients put the worker aside.
_errors: dict[str, str | dict[str, str]] = {
    "InvalidRequest": "InvalidArgument",
    "CapacityExhausted": "ResourceExhausted",
    "DeadlineExceeded": {"Backend": "ConnectionTimeout"},
    "Internal": "Unknown",
}


def failure(kind: Kind, message: str) -> dict[str, Any]:
    """The item with which a handler ends its stream in place of an exception.

    Dynamo passes exceptions of handlers on as well, but prints their traceback to ``sys.stderr`` first.

    :param kind: what happened.
    :param message: for the client, who reads ``kind: message``.
    :raises ValueError: there is no such kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f'no kind of failure "{kind}"; there are {", ".join(get_args(Kind))}')
    return {
        "_dynamo_annotated": True,
        "event": "error",
        "error": {"error_type": _errors.get(kind, kind), "message": message},
    }

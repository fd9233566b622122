# SPDX-License-Identifier: Apache-2.0
"""The header ``X-Request-Id``."""

import re
import uuid

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Others would be a way to write anything into logs of programs that record the header.
_usable = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
_state_key = "dynamo_llm_request_id"


def set_request_id(scope: Scope, name: str) -> None:
    """Sets the id of a request, unless its client chose one."""
    scope["state"].setdefault(_state_key, name)


class RequestIds:
    """Adds ``X-Request-Id`` to each answer: the client's; or else that of the runtime's request, which logs
    and errors carry; or else a random one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        state = scope.setdefault("state", {})
        given = Headers(scope=scope).get("x-request-id", "")
        if _usable.fullmatch(given):
            state[_state_key] = given

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = state.get(_state_key) or uuid.uuid4().hex
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)

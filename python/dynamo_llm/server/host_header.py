# SPDX-License-Identifier: Apache-2.0
"""The header ``Host``."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dynamo_llm.server.address import Address
from dynamo_llm.server.error_answers import error_answer


class LocalHosts:
    """Refuses requests for other host names than those of this machine.

    For a server that only this machine can reach and that needs no key: a page of another site, whose name
    resolves to 127.0.0.1, could otherwise use it from a browser on this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        host = Headers(scope=scope).get("host", "localhost").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if Address(name.strip("[]"), 0).is_loopback:
            await self._app(scope, receive, send)
            return
        problem = (
            "this server takes requests for localhost only, because it listens at the loopback interface and "
            "needs no API key; start it with --api-key-env or --api-key-file to use it under another name"
        )
        await error_answer(403, problem)(scope, receive, send)

# SPDX-License-Identifier: Apache-2.0
"""Who may use a server."""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dynamo_llm.runtime.secret import Secret
from dynamo_llm.server.error_answers import error_answer

#: What needs no key: a load balancer that checks whether the server can serve has none.
_open_paths = ("/health",)


class ApiKeys:
    """Refuses requests without one of the keys, with HTTP 401. Comparing takes the same time whatever part of
    a key is right.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[Secret]) -> None:
        self._app = app
        self._keys = tuple(keys)  # while they exist, they are redacted in logs and errors
        self._digests = [_digest(key.reveal()) for key in self._keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["path"] in _open_paths:
            await self._app(scope, receive, send)
            return
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            problem = 'no API key was given; send the header "Authorization: Bearer KEY"'
        elif not self._accepts(key.strip()):
            problem = "the API key is not correct"
        else:
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": "Bearer"}
        await error_answer(401, problem, "invalid_api_key", headers)(scope, receive, send)

    def _accepts(self, key: str) -> bool:
        given = _digest(key)
        return any([hmac.compare_digest(given, known) for known in self._digests])


def _digest(key: str) -> bytes:
    """Returns a hash, so that comparing does not depend on the lengths of keys."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()

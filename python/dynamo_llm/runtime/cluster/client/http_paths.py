# SPDX-License-Identifier: Apache-2.0
"""The paths of the HTTP servers of Dynamo's frontends in this process. Each begins with a secret of 128 bits,
so that no other process can use the servers.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator

from dynamo_llm.runtime.cluster import planes

_secret = "/" + secrets.token_hex(16)

CHAT = f"{_secret}/chat"
COMPLETION = f"{_secret}/completion"
MODELS = f"{_secret}/models"

#: Environment variables that Dynamo reads when a server is built. Dynamo does not document those of
#: its paths; a test shows that they work.
_variables: dict[str, str | None] = {
    "DYN_HTTP_SVC_CHAT_PATH": CHAT,
    "DYN_HTTP_SVC_CMP_PATH": COMPLETION,
    "DYN_HTTP_SVC_MODELS_PATH": MODELS,
    **{
        f"DYN_HTTP_SVC_{name}_PATH": f"{_secret}/{name.lower()}"
        for name in (
            "ANTHROPIC",
            "BATCHES",
            "CLASSIFY",
            "EMB",
            "FILES",
            "HEALTH",
            "LIVE",
            "METRICS",
            "POOLING",
            "RERANK",
            "RESPONSES",
            "SGLANG_GENERATE",
            "VLLM_GENERATE",
        )
    },
    "DYN_DISABLE_FRONTEND_ADMIN_API": "1",
}

_before: dict[str, str | None] = {}
_users = 0


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Makes servers that are built inside the context use these paths. On the event loop; contexts may
    overlap.
    """
    global _users
    if _users == 0:
        _before.update({name: os.environ.get(name) for name in _variables})
        planes.set_variables(_variables)
    _users += 1
    try:
        yield
    finally:
        _users -= 1
        if _users == 0:
            planes.set_variables(_before)

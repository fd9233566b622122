# SPDX-License-Identifier: Apache-2.0
"""The paths of requests in the APIs of OpenAI and vLLM, and what their bodies have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidRequestError


@dataclass(frozen=True)
class Endpoint:
    """Where bodies of one kind are sent."""

    keys: tuple[str, ...]
    """Keys of which a body has at least one."""
    task: str | None = None
    """The ``task`` by which the library tells bodies with ``input`` from those of embedding requests."""
    streams: bool = False
    """Whether the answer can be streamed."""

    @property
    def key(self) -> str:
        """The usual one of the keys."""
        return self.keys[0]

    def is_complete(self, body: Mapping[str, Any]) -> bool:
        """Whether a body has one of the keys."""
        return any(body.get(key) is not None for key in self.keys)

    def body_of(self, body: dict[str, Any]) -> dict[str, Any]:
        """Returns a body for the library, which knows its kind by its keys alone.

        :raises InvalidRequestError: the body has another ``task``.
        """
        if self.key == "input" and body.get("task") not in (None, self.task):
            raise InvalidRequestError(
                '"task" of the request must be left out: the path of the request determines it'
            )
        return body if self.task is None else {**body, "task": self.task}


_rerank = Endpoint(("query",))
_score = Endpoint(("text_1", "queries", "data_1"))
_classify = Endpoint(("input",), task="classify")

#: By path.
ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(("messages",), streams=True),
    "/v1/completions": Endpoint(("prompt",), streams=True),
    "/v1/embeddings": Endpoint(("input",)),
    "/v1/responses": Endpoint(("input",), task="respond", streams=True),
    "/v1/rerank": _rerank,
    "/rerank": _rerank,
    "/v1/score": _score,
    "/score": _score,
    "/classify": _classify,
}

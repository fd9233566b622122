# SPDX-License-Identifier: Apache-2.0
"""A model of a cluster for which Dynamo has no router outside of its frontend: one of embeddings, or of
completions without chats.
"""

from collections.abc import AsyncIterator

from dynamo_llm.errors import NotSupportedError, UnavailableError
from dynamo_llm.runtime.cluster.client.model_cards import ModelCard
from dynamo_llm.runtime.engine import Chunk, EngineRequest, ModelInfo

#: Kinds in a card: the key of a request's body, and the capability.
_kinds = {"Completions": ("prompt", "completion"), "Embedding": ("input", "embedding")}
#: Keys that the frontend gets.
_plain = {
    "frequency_penalty",
    "ignore_eos",
    "input",
    "max_completion_tokens",
    "max_tokens",
    "min_p",
    "model",
    "n",
}
_plain |= {"presence_penalty", "prompt", "repetition_penalty", "seed", "stream", "stream_options", "task"}
_plain |= {"temperature", "top_k", "top_p", "user"}


def can_serve(card: ModelCard) -> bool:
    """Whether only Dynamo's frontend serves the model, and the library has requests for it."""
    kinds = {kind.strip() for kind in card.kinds.split("|")}
    is_completion = card.input == "Tokens" and "Chat" not in kinds and bool(kinds & _kinds.keys())
    return is_completion or kinds == {"Embedding"}


class ServedModel:
    """The library's C++ code sends its requests to Dynamo's frontend; Python gets the others."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        """The card of one of its workers."""
        self.keys = [key for kind, (key, _) in _kinds.items() if kind in card.kinds]
        """Keys of the bodies that it answers."""
        self.vocab_size = 0
        """Is not known; see :attr:`TokenModel.vocab_size`."""

    def describe(self) -> ModelInfo:
        """Describes the model by its card."""
        found = [capability for kind, (_, capability) in _kinds.items() if kind in self.card.kinds]
        info: ModelInfo = {"capabilities": found}
        if length := self.card.content.get("context_length"):
            info["context_length"] = length
        return info

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """Reports why the frontend did not get the request, or what was wrong with it.

        :raises NotSupportedError: the frontend would ignore a part of the request.
        :raises UnavailableError: the frontend does not serve the model now.
        """
        what = f'the model "{self.card.name}" of the cluster, which only Dynamo\'s frontend serves,'
        if not any(key in request.body for key in self.keys):
            wanted = " or ".join(f'"{key}"' for key in self.keys)
            raise NotSupportedError(f"{what} serves {self.card.kinds}; the request needs {wanted}")
        if "prompt" in request.body and request.body.get("max_tokens") is None:
            raise NotSupportedError(f'{what} needs "max_tokens" in the request')
        if request.choices > 1:
            raise NotSupportedError(f'{what} gives one answer, but "n" of the request is {request.choices}')
        others = sorted(key for key, value in request.body.items() if value is not None and key not in _plain)
        if others:
            raise NotSupportedError(f'{what} cannot get "{others[0]}" of the request')
        raise UnavailableError(
            f"{what} does not answer: it has no worker now, the request has a value that the frontend does "
            f"not take, or there are too many requests"
        )
        yield {}

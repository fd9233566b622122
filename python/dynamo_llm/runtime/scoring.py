# SPDX-License-Identifier: Apache-2.0
"""Rerank, score, and classification requests: their texts, and scores made of embeddings."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import Any, Literal, cast

from dynamo_llm.errors import EngineFailedError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime import embedding
from dynamo_llm.runtime.engine import Chunk, EngineRequest, ModelInfo, Usage
from dynamo_llm.runtime.pusher import Answer
from dynamo_llm.runtime.threads import in_pool

#: The kinds of requests, which are also the capabilities of engines that answer them.
Kind = Literal["rerank", "score", "classify"]

#: Pairs of keys that a score request may have, by vLLM's names.
_sides = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
#: Keys of an embedding request that are taken over.
_common = ("model", "user", "nvext", "traceparent", "tracestate", "request_id", "extra")


def kind_of(body: Mapping[str, Any]) -> Kind | None:
    """Returns the kind of a body; None for others, such as chats and commands of the library."""
    if "messages" in body or "prompt" in body:
        return None
    if "input" in body:
        return "classify" if body.get("task") == "classify" else None
    if "query" in body:
        return "rerank"
    return "score" if any(side[0] in body for side in _sides) else None


@dataclass(frozen=True)
class Texts:
    """The texts of a rerank or score request, and which of them to compare."""

    body: Mapping[str, Any]
    texts: list[str]
    pairs: list[tuple[int, int]]
    """Numbers of two texts: of the query and a document."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Texts":
        """Reads a body, whose keys and types the library has checked.

        :raises InvalidRequestError: a text is missing or empty, or the numbers of texts do not fit.
        """
        if "query" in body:
            first, second = [_text(body["query"], "query")], _list(body, "documents")
        else:
            one, other = _side_keys(body)
            first, second = _list(body, one), _list(body, other)
            if len(first) not in (1, len(second)):
                raise InvalidRequestError(
                    f'"{one}" of the request has {len(first)} texts and "{other}" has {len(second)}; the '
                    f"first must have one, or as many as the second"
                )
        count = len(first)
        pairs = [(at if count > 1 else 0, count + at) for at in range(len(second))]
        return cls(body, [*first, *second], pairs)

    def delta(self, scores: Sequence[float]) -> dict[str, Any]:
        """Returns the part of the answer with the scores, in vLLM's form.

        :param scores: one for each pair.
        """
        if "query" not in self.body:
            return {
                "data": [{"index": at, "object": "score", "score": score} for at, score in enumerate(scores)]
            }
        ranked = sorted(range(len(scores)), key=lambda at: -scores[at])[: self.body.get("top_n") or None]
        has_documents = self.body.get("return_documents") is not False
        return {
            "results": [
                {
                    "index": at,
                    **({"document": {"text": self.texts[1 + at]}} if has_documents else {}),
                    "relevance_score": scores[at],
                }
                for at in ranked
            ]
        }


def _side_keys(body: Mapping[str, Any]) -> tuple[str, str]:
    found = [one for one in _sides if all(body.get(key) is not None for key in one)]
    given = {key for side in _sides for key in side if body.get(key) is not None}
    if len(found) != 1 or given != set(found[0]):
        pairs = ", ".join(f'"{one}" and "{other}"' for one, other in _sides)
        raise InvalidRequestError(f"a score request has the texts to compare in one of: {pairs}")
    return found[0]


def _list(body: Mapping[str, Any], key: str) -> list[str]:
    value = body.get(key)
    given = [value] if isinstance(value, str) else value
    if not given:
        raise InvalidRequestError(f'"{key}" of the request needs at least one text')
    return [_text(one, key if isinstance(value, str) else f"{key}[{at}]") for at, one in enumerate(given)]


def _text(value: Any, name: str) -> str:
    """Returns a text, which Jina's and Cohere's clients may wrap as ``{"text": text}``."""
    text = value.get("text") if isinstance(value, dict) and value.keys() == {"text"} else value
    if not isinstance(text, str) or not text:
        shown = '""' if text == "" else type(value).__name__
        raise InvalidRequestError(
            f'"{name}" of the request must be a text that is not empty, not {shown}; images are not supported'
        )
    return text


async def answer(
    request: EngineRequest,
    info: ModelInfo,
    engine: str,
    ask: Callable[[EngineRequest], Awaitable[Sequence[Answer]]],
) -> Sequence[Answer]:
    """Passes a request to a model. If it makes embeddings only, the score of two texts is the cosine of the
    angle between theirs.

    :param info: the model's description.
    :param engine: name of the engine, for errors.
    :param ask: passes a request to the model.
    :raises NotSupportedError: the model does not take such requests.
    """
    kind = kind_of(request.body)
    capabilities = info.get("capabilities", ())
    if kind is None or kind in capabilities:
        return await ask(request)
    refuse(kind, capabilities, engine)
    if request.body.get("use_activation") is not None:
        raise NotSupportedError(
            '"use_activation" of the request needs a model that classifies; the scores of embeddings have '
            "no activation"
        )
    texts = Texts.of(request.body)
    body = {key: request.body[key] for key in _common if key in request.body} | {"input": texts.texts}
    (chunks,) = await ask(replace(request, body=body))
    if hasattr(chunks, "__aiter__"):
        return [_scored_async(cast(AsyncIterator[Chunk], chunks), texts)]
    return [_scored(cast(Iterator[Chunk], chunks), texts)]


def refuse(kind: Kind, capabilities: Sequence[str], engine: str) -> None:
    """Raises the error of a model that cannot answer a kind of requests.

    :raises NotSupportedError: neither the model nor its embeddings answer it.
    """
    if kind == "classify":
        raise NotSupportedError(
            f'the engine "{engine}" does not support "classify" requests with this model; they need a model '
            f'for sequence classification, and the engine "transformers" or "vllm"'
        )
    if "embedding" not in capabilities:
        raise NotSupportedError(
            f'the engine "{engine}" does not support "{kind}" requests with this model; they need a model '
            f"that makes embeddings or ranks texts"
        )


class _Vectors:
    """Collects the embeddings of an answer."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._entries: list[dict[str, Any]] = []
        self._usage: Usage | None = None

    def add(self, chunk: Chunk) -> None:
        self._entries += chunk.get("delta", {}).get("data", ())
        self._usage = chunk.get("usage", self._usage)

    def scored(self) -> Chunk:
        """Returns the answer with the scores."""
        texts = self._texts
        if len(self._entries) != len(texts.texts):
            raise EngineFailedError(
                f"the engine made {len(self._entries)} embeddings for {len(texts.texts)} texts"
            )
        entries = sorted(self._entries, key=lambda entry: entry.get("index", 0))
        vectors = [embedding.encoded(entry["embedding"], "float") for entry in entries]
        lengths = [math.sqrt(sum(map(mul, vector, vector))) for vector in vectors]
        scores = [
            _cosine(vectors[one], vectors[other], lengths[one] * lengths[other]) for one, other in texts.pairs
        ]
        chunk: Chunk = {"delta": texts.delta(scores)}
        if self._usage is not None:
            chunk["usage"] = self._usage
        return chunk


def _cosine(one: Sequence[float], other: Sequence[float], lengths: float) -> float:
    return sum(map(mul, one, other)) / lengths if lengths > 0 else 0.0


async def _scored_async(chunks: AsyncIterator[Chunk], texts: Texts) -> AsyncIterator[Chunk]:
    vectors = _Vectors(texts)
    try:
        async for chunk in chunks:
            vectors.add(chunk)
    finally:
        if close := getattr(chunks, "aclose", None):
            await close()
    yield await in_pool(vectors.scored)


def _scored(chunks: Iterator[Chunk], texts: Texts) -> Iterator[Chunk]:
    vectors = _Vectors(texts)
    try:
        for chunk in chunks:
            vectors.add(chunk)
    finally:
        if close := getattr(chunks, "close", None):
            close()
    yield vectors.scored()

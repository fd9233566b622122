# SPDX-License-Identifier: Apache-2.0
"""Whole answers of models that rank, compare, and classify texts."""

from dataclasses import dataclass, field
from typing import Any

from dynamo_llm.api.result import ListAnswer


@dataclass(frozen=True)
class RankedDocument:
    """A document of a rerank request."""

    index: int
    """Number of the document in the request, from 0."""
    relevance_score: float
    """How relevant it is to the query; higher is more relevant. The range depends on the model: -1 to 1 for
    embeddings, 0 to 1 for most cross-encoders."""
    text: str | None = None
    """The document; None with ``return_documents=False``."""


class Ranking(ListAnswer):
    """The answer to a rerank request."""

    @property
    def results(self) -> list[RankedDocument]:
        """The documents, most relevant first."""
        return [
            RankedDocument(one["index"], one["relevance_score"], one.get("document", {}).get("text"))
            for one in self._json.get("results", ())
        ]

    def __repr__(self) -> str:
        return f"Ranking({self.results})"


class Scores(ListAnswer):
    """The answer to a score request."""

    @property
    def scores(self) -> list[float]:
        """One score per pair of texts, in their order."""
        return [one["score"] for one in self._json.get("data", ())]

    def __repr__(self) -> str:
        return f"Scores({self.scores})"


@dataclass(frozen=True)
class TextClass:
    """The class of a text."""

    label: str
    """The most likely label, by the model's ``config.json``."""
    probs: list[float] = field(default_factory=list)
    """The probability of each label, in the order of ``labels`` of the model."""


class Classification(ListAnswer):
    """The answer to a classification request."""

    @property
    def classes(self) -> list[TextClass]:
        """One class per text, in their order."""
        return [TextClass(one["label"], one["probs"]) for one in self._json.get("data", ())]

    def __repr__(self) -> str:
        return f"Classification({self.classes})"


def answer_class(body: Any) -> type[ListAnswer] | None:
    """Returns the class for the answer to a rerank, score, or classification request; None for others."""
    if "messages" in body or "prompt" in body:
        return None
    if "input" in body:
        return Classification if body.get("task") == "classify" else None
    return Ranking if "query" in body else Scores

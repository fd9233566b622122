# SPDX-License-Identifier: Apache-2.0
"""Rerank and score requests to engines that make embeddings, and to those that do not."""

import json
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from dynamo_llm import Batch, DynamoError, Ranking, Runtime, Scores
from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo

query = "What is a KV cache?"
documents = ["Prefill processes the prompt.", "A KV cache keeps keys and values.", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.embedder(tmp_path_factory.mktemp("models") / "embedder")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[Runtime]:
    """mistral.rs with a model for embeddings."""
    with Runtime(model=folder, name="embedder") as runtime:
        yield runtime


def cosines(runtime: Runtime) -> list[float]:
    """Returns the similarity of the query and each document, computed here from their embeddings."""
    first, *others = runtime.embed([query, *documents]).result().vectors
    return [
        sum(a * b for a, b in zip(first, other, strict=True)) / math.hypot(*first) / math.hypot(*other)
        for other in others
    ]


def test_rerank(runtime: Runtime) -> None:
    """The documents are sorted by the cosine of the angle between their embedding and the query's."""
    expected = cosines(runtime)
    ranking = runtime.rerank(query, documents).result()
    assert isinstance(ranking, Ranking)
    order = sorted(range(3), key=lambda at: -expected[at])
    assert [one.index for one in ranking.results] == order
    for one in ranking.results:
        assert one.relevance_score == pytest.approx(expected[one.index], abs=1e-5)
        assert one.text == documents[one.index]
    whole = ranking.json()
    assert whole["id"].startswith("rerank-") and whole["model"] == "embedder"
    assert set(whole["results"][0]) == {"index", "document", "relevance_score"}
    tokens = runtime.embed([query, *documents]).result().json()["usage"]["prompt_tokens"]
    assert whole["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert ranking.usage is not None and ranking.usage.prompt_tokens == tokens


def test_forms_of_rerank(runtime: Runtime) -> None:
    """Fewer documents, none of them in the answer, and the objects that Jina's and Cohere's clients send."""
    best = runtime.rerank(query, documents, top_n=1, return_documents=False).result().results
    assert len(best) == 1 and best[0].text is None
    assert best[0].index == runtime.rerank(query, documents).result().results[0].index
    objects: Any = [{"text": text} for text in documents]
    given = runtime.request({"query": query, "documents": objects}).result()
    assert isinstance(given, Ranking)
    assert given.results == runtime.rerank(query, documents).result().results


def test_score(runtime: Runtime) -> None:
    """One text with several, pairs, and vLLM's other names of both sides."""
    expected = cosines(runtime)
    answer = runtime.score(query, documents).result()
    assert answer.scores == pytest.approx(expected, abs=1e-5)
    whole = answer.json()
    assert (whole["object"], whole["model"]) == ("list", "embedder") and whole["id"].startswith("score-")
    assert whole["data"][1]["object"] == "score" and whole["data"][1]["index"] == 1
    pairs = runtime.score(documents, documents[::-1]).result().scores
    assert pairs[1] == pytest.approx(1, abs=1e-5) and pairs[0] == pytest.approx(pairs[2], abs=1e-5)
    for one, other in (("queries", "documents"), ("queries", "items"), ("data_1", "data_2")):
        same = runtime.request({one: query, other: documents}).result()
        assert isinstance(same, Scores) and same.scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": "", "documents": ["a"]}, '"query" of the request must be a text that is not empty'),
        ({"query": "a"}, '"documents" of the request needs at least one text'),
        ({"query": "a", "documents": []}, '"documents" of the request needs at least one text'),
        ({"query": "a", "documents": ["b", ""]}, r'"documents\[1\]" of the request must be a text'),
        ({"query": "a", "documents": [{"image": "b"}]}, r'"documents\[0\]".* not dict'),
        ({"query": "a", "documents": "b"}, '"documents" of the request must be an array'),
        ({"query": "a", "documents": ["b"], "top_n": -1}, '"top_n" of the request'),
        ({"query": "a", "documents": ["b"], "topn": 1}, 'did you mean "top_n"'),
        ({"text_1": ["a", "b"], "text_2": ["c"]}, '"text_1" of the request has 2 texts and "text_2" has 1'),
        ({"text_1": "a"}, "has the texts to compare in one of"),
        ({"text_1": "a", "documents": ["b"]}, "has the texts to compare in one of"),
    ],
)
def test_mistakes(runtime: Runtime, body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        runtime.request(body).result()


def test_what_embeddings_cannot_do(runtime: Runtime) -> None:
    with pytest.raises(NotSupportedError, match='"use_activation"'):
        runtime.rerank(query, documents, use_activation=False).result()
    with pytest.raises(NotSupportedError, match='"classify" requests'):
        runtime.classify("a").result()


def test_budget(folder: Path) -> None:
    """A request may have as many documents as texts to embed."""
    with (
        Runtime(model=folder, limits={"request": {"inputs": 2}}) as runtime,
        pytest.raises(InvalidRequestError, match='"documents" of the request has 3 entries'),
    ):
        runtime.rerank(query, documents).result()


@pytest.mark.parametrize("engine", ["mistralrs", "echo"])
def test_models_for_text(engine: str) -> None:
    """A model that makes text ranks nothing, and the error names the kind."""
    with Runtime(engine=engine) as runtime:
        for request in (runtime.rerank, runtime.score):
            with pytest.raises(NotSupportedError, match="does not support"):
                request("a", ["b"]).result()


def test_isolated(folder: Path) -> None:
    """A child process answers alike."""
    with Runtime(model=folder, isolation="process") as isolated, Runtime(model=folder) as runtime:
        expected = runtime.rerank(query, documents).result().results
        ranking = isolated.rerank(query, documents).result()
        assert [one.index for one in ranking.results] == [one.index for one in expected]
        assert ranking.json()["id"].startswith("rerank-")
        scores = isolated.score(query, documents).result().scores
        assert scores == pytest.approx(cosines(runtime), abs=1e-5)


class Ranker:
    """An engine that ranks by itself, and has no embeddings."""

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def describe(self) -> ModelInfo:
        return {"capabilities": ["rerank"]}

    async def generate(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        results = [{"index": 0, "relevance_score": 0.5, "document": {"text": request.body["query"]}}]
        yield {"delta": {"results": results}, "usage": {"prompt_tokens": 3}}


class Slow:
    """An engine with a plain generator that makes embeddings in parts, of numbers and base64."""

    def __init__(self, config: EngineConfig) -> None:
        pass

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def describe(self) -> ModelInfo:
        return {"capabilities": ["embedding"]}

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        texts = request.body["input"]
        assert set(request.body) == {"input", "model"}
        for index, text in reversed(list(enumerate(texts))):
            vector: Any = [1.0, float(len(text))] if text != "base64" else "AACAPwAAAEA="
            yield {"delta": {"data": [{"object": "embedding", "index": index, "embedding": vector}]}}
        yield {"usage": {"prompt_tokens": 7}}


def test_engine_that_ranks() -> None:
    """An engine with the capability gets the body as it is."""
    with Runtime(engine=f"{__name__}:Ranker", python={"path": [str(Path(__file__).parent)]}) as runtime:
        (one,) = runtime.rerank("a", ["b"]).result().results
        assert (one.relevance_score, one.text) == (0.5, "a")
        with pytest.raises(NotSupportedError, match='"score" requests'):
            runtime.score("a", "b").result()


def test_engine_with_a_plain_generator() -> None:
    with Runtime(engine=f"{__name__}:Slow", python={"path": [str(Path(__file__).parent)]}) as runtime:
        answer = runtime.score("ab", ["base64", "cd", "x"], model="Slow").result()
        assert answer.scores[:2] == pytest.approx([1, 1])
        assert answer.scores[2] == pytest.approx(3 / math.sqrt(10))
        assert answer.usage is not None and answer.usage.prompt_tokens == 7


def test_batch(runtime: Runtime, tmp_path: Path) -> None:
    lines = [
        {"url": "/v1/rerank", "body": {"query": query, "documents": documents}},
        {"url": "/score", "body": {"text_1": query, "text_2": documents}},
        {"url": "/v1/score", "body": {"text_2": documents}},
    ]
    file, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    entries = [{"custom_id": str(at), "method": "POST", **line} for at, line in enumerate(lines)]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with Batch(file, target) as batch:
        report = batch.run(runtime, max_concurrency=1)
    assert (report.done, report.failed) == (2, 1)
    assert report.problems == ['line 3: "body" needs "text_1", because "url" is /v1/score']
    results = {line["custom_id"]: line["response"] for line in map(json.loads, target.open())}
    assert len(results["0"]["body"]["results"]) == 3 and len(results["1"]["body"]["data"]) == 3


def test_error_names_the_engine() -> None:
    with Runtime(engine="echo") as runtime, pytest.raises(DynamoError, match='the engine "echo"'):
        runtime.rerank("a", ["b"]).result()

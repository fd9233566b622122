# SPDX-License-Identifier: Apache-2.0
"""The engine ``openai`` against NVIDIA Dynamo's frontend and sample worker, including their failures."""

from typing import Any

import pytest
from cluster_rig import Cluster, NewCluster, Process, Server
from dynamo_llm import (
    CancelledError,
    DynamoError,
    InvalidRequestError,
    ModelNotFoundError,
    Runtime,
    UnavailableError,
)

pytest.importorskip("httpx2", reason="needs the extra: pip install '.[openai]'")


@pytest.fixture
def mortal(new_cluster: NewCluster) -> Cluster:
    """A cluster for one test."""
    return new_cluster("file-tcp-zmq")


def runtime(cluster: Cluster, **options: Any) -> Runtime:
    """Returns a runtime that sends its requests there."""
    return Runtime(engine="openai", options={"base_url": cluster.url, **options})


def test_a_chat(cluster: Cluster) -> None:
    """Text, counts, log-probs, and the only model as default."""
    with runtime(cluster) as engine:
        request = engine.chat("hi", max_tokens=40, logprobs=True, top_logprobs=1)
        texts = [response.text for response in request]
        answer = engine.chat("hi", max_tokens=40, stream=False).result().json()
    # The worker generates the tokens 1, 2, 3, ...; this is their text.
    assert "".join(texts) == "!\"#$%&'()*+,-./0123456789:;<=>?@ABCD"[:36] and len(texts) > 1
    assert answer["choices"][0]["message"]["content"] == "".join(texts)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 40 and answer["usage"]["prompt_tokens"] > 0


def test_log_probs(cluster: Cluster) -> None:
    """One for each token, with alternatives."""
    with runtime(cluster) as engine:
        answer = engine.chat("hi", max_tokens=9, logprobs=True, top_logprobs=1, stream=False).result().json()
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == 9 and all(entry["top_logprobs"] for entry in entries)


def test_a_completion(cluster: Cluster) -> None:
    """A prompt as text and as token ids; keys that only such servers support."""
    with runtime(cluster) as engine:
        for prompt in ("hi", [5, 6]):
            result = engine.complete(prompt, max_tokens=8, top_k=3, min_p=0.1, ignore_eos=True).result()
            assert (result.text, result.finish_reason) == ('!"#$', "length")
        result = engine.chat("x", max_tokens=8, nvext={"agent_hints": {"priority": 1}}).result()
        assert result.finish_reason == "length"


def test_errors(cluster: Cluster) -> None:
    """Rejections of the frontend keep its message."""
    with runtime(cluster) as engine:
        with pytest.raises(ModelNotFoundError, match=r"Model not found.*server's models are"):
            engine.chat("x", model="nobody").result()
        with pytest.raises(InvalidRequestError, match="unknown field `bogus`"):
            engine.chat("x", nvext={"bogus": 1}).result()
        with pytest.raises(DynamoError, match="HTTP 404"):  # the worker does not support embeddings
            engine.embed("x").result()


def test_many_and_cancels(cluster: Cluster) -> None:
    """Concurrent requests, half of them cancelled: the others complete."""
    with runtime(cluster) as engine:
        requests = [engine.chat("x", max_tokens=60) for _ in range(20)]
        for request in requests[::2]:
            request.cancel()
        for request in requests[::2]:
            with pytest.raises(CancelledError):
                request.result()
        answers = {request.result().text for request in requests[1::2]}
        assert len(answers) == 1
        statistics = engine.statistics()["requests"]
    assert (statistics["cancelled"], statistics["ended"]) == (10, 10)


def broken_off(engine: Runtime, victim: Process | Server) -> DynamoError:
    """Returns the error of an answer during which a process was killed."""
    request = engine.chat("x", max_tokens=1500)
    while not next(request).text:
        pass
    victim.kill()
    with pytest.raises(DynamoError) as caught:
        for _ in request:
            pass
    return caught.value


def test_a_frontend_that_dies(mortal: Cluster) -> None:
    """The error reports the broken connection, and the next request cannot be sent."""
    mortal.add_worker(0.01)
    with runtime(mortal, retry_delay=0.01) as engine:
        error = broken_off(engine, mortal.frontend)
        assert isinstance(error, UnavailableError) and "was lost" in str(error) and error.retriable
        with pytest.raises(UnavailableError, match="cannot be reached"):
            engine.chat("x").result()


def test_a_worker_that_dies(mortal: Cluster) -> None:
    """The frontend reports it in the stream; with another worker requests succeed."""
    worker = mortal.add_worker(0.01)
    with runtime(mortal, retry_delay=0.05, max_retries=10) as engine:
        error = broken_off(engine, worker)
        assert isinstance(error, UnavailableError) and "aborted the answer" in str(error)
        mortal.add_worker(0.001)
        assert engine.chat("x", max_tokens=6).result().finish_reason == "length"


def test_no_worker(mortal: Cluster) -> None:
    """A frontend without a worker has no model."""
    with pytest.raises(UnavailableError, match="no model yet"):
        runtime(mortal)
    with runtime(mortal, check_server=False) as engine, pytest.raises(ModelNotFoundError):
        engine.chat("x", model="m").result()

# SPDX-License-Identifier: Apache-2.0
"""The engine ``dynamo-backend`` with Dynamo's sample engine, and with classes that record their calls."""

import asyncio
import signal
import sys
from typing import Any

import pytest
from conftest import engines_dir, patience
from dynamo_llm import (
    CancelledError,
    ContextLengthError,
    DeadlineExceededError,
    DynamoError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
    Runtime,
    UnavailableError,
    paths,
)
from dynamo_llm.runtime.engine import EngineConfig, Sampling, TokenChunk, TokenRequest
from dynamo_llm.runtime.engines.dynamo_backend import DynamoBackendEngine

sample = "dynamo.common.backend.sample_engine:SampleLLMEngine"


try:
    from dynamo.common.backend.engine import LLMEngine
    from dynamo.llm import exceptions
except ImportError as missing:
    pytest.skip(
        f"needs the extra: pip install '.[dynamo]', and ai-dynamo ({missing})",
        allow_module_level=True,
    )

sys.path.append(str(engines_dir))
import contract  # noqa: E402


def engine(name: str, model: str | None = None, **options: Any) -> DynamoBackendEngine:
    """Returns an engine that is not started."""
    return DynamoBackendEngine(EngineConfig("dynamo-backend", model, {"class": name, **options}))


def recording(kind: str = "Recording", **options: Any) -> DynamoBackendEngine:
    """Returns an engine with a class of contract.py."""
    options = {"args": ["--model", "{model}"], **options}
    return engine(f"contract:{kind}", "some/model", **options)


def request(first: int = 1, **more: Any) -> TokenRequest:
    """Returns a request; the token id selects its answer."""
    return TokenRequest(
        "r-1", [first, 50], more.pop("max_tokens", 4), more.pop("sampling", Sampling()), **more
    )


async def answer(engine: DynamoBackendEngine, request: TokenRequest) -> list[TokenChunk]:
    """Collects a complete answer."""
    return [chunk async for chunk in engine.generate(request)]


def run(engine: DynamoBackendEngine, *requests: TokenRequest) -> list[list[TokenChunk]]:
    """Starts an engine, and returns its answers to concurrent requests."""

    async def work() -> list[list[TokenChunk]]:
        await engine.start()
        try:
            return list(await asyncio.gather(*(answer(engine, request) for request in requests)))
        finally:
            await engine.stop()

    return asyncio.run(asyncio.wait_for(work(), patience))


def test_dynamos_sample_engine() -> None:
    """Tokens, log-probs, counts, description; several concurrent requests."""
    made = engine(sample, args=["--delay", "0.001"], tokenizer="folder", context_length=100)
    plain, with_logprobs = run(made, request(max_tokens=3), request(max_tokens=2, logprobs=2))
    assert [chunk["token_ids"] for chunk in plain] == [[1], [2], [3]]
    assert [chunk.get("finish_reason") for chunk in plain] == [None, None, "length"]
    assert plain[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 3}
    assert all("logprobs" not in chunk for chunk in plain)
    (logprob,) = with_logprobs[0]["logprobs"]
    assert logprob == {"logprob": -0.1, "top": [(1, -0.1), (2, -0.2)]}
    info = made.describe()
    assert (info["path"], info["tokenizer"], info["context_length"]) == ("sample-model", "folder", 100)
    assert {"chat", "completion"} <= set(info["capabilities"])


def test_cancel_of_dynamos_sample_engine() -> None:
    """A cancelled task ends at once, and the engine continues with others."""

    async def work() -> list[TokenChunk]:
        made = engine(sample, args=["--delay", "0.005"])
        await made.start()
        first = asyncio.Event()

        async def read() -> None:
            async for _ in made.generate(request(max_tokens=100000)):
                first.set()

        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        chunks = await answer(made, request(max_tokens=2))
        await made.stop()
        return chunks

    assert len(asyncio.run(asyncio.wait_for(work(), patience))) == 2


def test_request_that_the_class_gets() -> None:
    """The class gets a request like that of Dynamo's frontend, a context, and a cleanup."""
    handler = signal.getsignal(signal.SIGTERM)
    made = recording(capabilities=["chat", "regex"], adapters=["a1"])
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=4, seed=3, logit_bias={5: 1.0})
    full = request(
        sampling=sampling,
        min_tokens=2,
        stop_token_ids=(50, 60),
        logprobs=1,
        guided={"regex": "a+"},
        adapter="a1",
        priority=7,
        cache_salt="salt",
        trace={"traceparent": "00-1-2-01"},
    )
    (chunks,), (bare,) = run(made, full), run(recording(), request(ignore_eos=True))
    assert chunks == [
        {"token_ids": [7, 8]},
        {"token_ids": [9], "finish_reason": "stop", "usage": {"cached_tokens": 2}},
    ]
    assert bare == chunks
    second, first = contract.Recording.engines.pop(), contract.Recording.engines.pop()
    assert first.given.model == "some/model" and first.events == ["closed", "cleaned up"]
    got = first.requests[0]
    assert (got["token_ids"], got["model"]) == ([1, 50], "a1")
    stops = got["stop_conditions"]
    assert (stops["max_tokens"], stops["min_tokens"], stops["ignore_eos"]) == (4, 2, False)
    assert stops["stop_token_ids"] == stops["stop_token_ids_hidden"] == got["eos_token_ids"] == [50, 60]
    options = got["sampling_options"]
    assert (options["temperature"], options["top_p"], options["top_k"], options["seed"]) == (0.5, 0.9, 4, 3)
    assert options["guided_decoding"] == {"regex": "a+"} and options["logit_bias"] == {5: 1.0}
    assert got["output_options"]["logprobs"] == 1
    assert got["routing"] == {"priority": 7, "cache_salt": "salt"}
    assert dict(first.context.metadata.items()) == {"traceparent": "00-1-2-01"}
    assert first.context.id() == "r-1" and not first.context.is_stopped()
    got = second.requests[0]
    assert (got["model"], got["routing"], got["eos_token_ids"]) == ("served", None, [])
    assert got["sampling_options"]["temperature"] == 0.0  # greedy by default
    assert got["stop_conditions"]["ignore_eos"] is True and got["output_options"]["logprobs"] is None
    info = made.describe()
    assert (info["path"], info["context_length"]) == ("some/model", 128)
    assert (info["capabilities"], info["adapters"]) == (["chat", "regex"], ["a1"])
    assert signal.getsignal(signal.SIGTERM) is handler  # although the class installs one


@pytest.mark.parametrize("kind", ["Recording", "Deaf"])
@pytest.mark.parametrize("how", ["cancel", "close"])
def test_abort(kind: str, how: str) -> None:
    """A request that is cancelled while it waits, or abandoned at a chunk, ends in the order context, abort,
    generator; an abort that fails changes nothing.
    """

    async def work() -> None:
        made = recording(kind)
        await made.start()
        chunks: Any = made.generate(request(2))
        assert (await anext(chunks))["token_ids"] == [7]
        if how == "close":
            await chunks.aclose()
        else:
            task = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await made.stop()

    asyncio.run(asyncio.wait_for(work(), patience))
    seen = contract.Recording.engines.pop()
    assert seen.context.is_stopped()
    assert sorted(seen.events[:2]) == ["aborted", "closed"] and seen.events[2:] == ["cleaned up"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.InvalidArgument("bad"), InvalidRequestError),
        (exceptions.InvalidArgument("longer than the context length of 8"), ContextLengthError),
        (ValueError("bad"), InvalidRequestError),
        (exceptions.HttpError(404, "bad"), ModelNotFoundError),
        (exceptions.HttpError(429, "bad"), OverloadedError),
        (exceptions.HttpError(503, "bad"), UnavailableError),
        (exceptions.RouterQueueLimitExceeded("bad"), OverloadedError),
        (exceptions.ConnectionTimeout("bad"), DeadlineExceededError),
        (TimeoutError("bad"), DeadlineExceededError),
        (exceptions.Cancelled("bad"), CancelledError),
        (exceptions.CannotConnect("bad"), UnavailableError),
        (exceptions.Disconnected("bad"), UnavailableError),
        (exceptions.EngineShutdown("bad"), UnavailableError),
        (exceptions.StreamIncomplete("bad"), UnavailableError),
        (OverloadedError("bad"), OverloadedError),
    ],
)
def test_errors(error: Exception, kind: type[DynamoError]) -> None:
    """Dynamo's errors become the library's, with their message."""
    number = contract.answer(error)
    with pytest.raises(kind) as caught:
        run(recording(), request(number))
    assert type(caught.value) is kind and getattr(error, "message", str(error)) in str(caught.value)
    assert contract.Recording.engines.pop().events == ["closed", "aborted", "cleaned up"]


@pytest.mark.parametrize(
    ("error", "late"),
    [(exceptions.Unknown("bad"), False), (KeyError("bad"), False), (ValueError("bad"), True)],
)
def test_other_errors_are_unchanged(error: Exception, late: bool) -> None:
    """They reach the caller as ENGINE_FAILED, with their traceback."""
    with pytest.raises(type(error)) as caught:
        run(recording(), request(contract.answer(error, late=late)))
    assert caught.value is error


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("error", EngineFailedError, "engine failed"),
        ("error: no memory", EngineFailedError, "failed: no memory"),
        ({"error": "no memory"}, EngineFailedError, "failed: no memory"),
        ("cancelled", CancelledError, "aborted"),
        ("abort", CancelledError, "aborted"),
    ],
)
def test_finish_reasons_that_are_errors(reason: Any, kind: type[DynamoError], words: str) -> None:
    """An answer that the engine aborted is an error."""
    with pytest.raises(kind, match=words):
        run(recording(), request(contract.answer(reason=reason)))


def test_incomplete_answers() -> None:
    """No finish reason; not one log-prob for each token."""
    with pytest.raises(EngineFailedError, match="without a finish_reason"):
        run(recording(), request(3))
    with pytest.raises(EngineFailedError, match="must have one entry for each"):
        run(recording(), request(4, logprobs=0))


def test_a_start_that_fails() -> None:
    """The error has its status, and the class is cleaned up."""
    with pytest.raises(UnavailableError, match="it has no memory"):
        run(recording(args=["--model", "m", "--fail", "EngineShutdown"]))
    assert contract.Recording.engines.pop().events == ["cleaned up"]
    with pytest.raises(exceptions.Unknown, match="it has no memory"):
        run(recording(args=["--model", "m", "--fail", "Unknown"]))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"class": None}, InvalidConfigError, '"options.class" .* missing'),
        ({"class": "SampleLLMEngine"}, InvalidConfigError, '"module:Class"'),
        ({"class": "no_such_module:Class"}, EngineUnavailableError, "no_such_module"),
        ({"class": "contract:Nobody"}, InvalidConfigError, 'no class "Nobody"'),
        ({"class": "contract:NotOne"}, InvalidConfigError, "lacks from_args, start, cleanup"),
        (
            {"class": "dynamo.common.backend.sample_diffusion_engine:SampleDiffusionEngine"},
            NotSupportedError,
            "images",
        ),
        (
            {"class": sample, "args": ["--delay", "x"]},
            InvalidConfigError,
            '"options.args".*invalid float value',
        ),
        ({"class": sample, "args": ["--nonsense"]}, InvalidConfigError, "unrecognized arguments: --nonsense"),
        ({"class": sample, "args": ["--disaggregation-mode", "prefill"]}, InvalidConfigError, "prefill"),
        ({"class": sample, "args": ["--model-name", "{model}"]}, InvalidConfigError, '"model" .* is missing'),
        ({"class": sample, "args": [1]}, InvalidConfigError, '"options.args" .* strings'),
        ({"class": sample, "arg": []}, InvalidConfigError, 'did you mean "options.args"'),
    ],
)
def test_wrong_options(
    options: dict[str, Any], kind: type[DynamoError], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error names each mistake, and nothing is written to stdout or stderr."""
    options = {key: value for key, value in options.items() if value is not None}
    with pytest.raises(kind, match=words):
        run(DynamoBackendEngine(EngineConfig("dynamo-backend", None, options)))
    assert capfd.readouterr() == ("", "")


def test_stderr_of_a_class_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    """Only the output of a rejected command line becomes the error."""
    run(recording("Writing"))
    assert capfd.readouterr().err == "a warning of the engine\n"


def test_behind_the_pipeline() -> None:
    """With a tokenizer: chats, completions, stop strings, choices, log-probs, limits, cancellation."""
    model = str(paths.demo_model_dir())
    options = {"class": sample, "args": ["--model-name", "{model}", "--delay", "0.001"]}
    with Runtime(engine="dynamo-backend", model=model, options=options) as runtime:
        # The sample engine generates the tokens 1, 2, 3, ...
        result = runtime.chat("hi", max_tokens=40).result()
        assert (result.token_ids, result.finish_reason) == (list(range(1, 41)), "length")
        assert result.json()["usage"]["completion_tokens"] == 40 and "ABC" in result.text
        assert runtime.complete("hi", max_tokens=60, stop="5").result().text == result.text.split("5")[0]
        answer = runtime.chat("hi", max_tokens=6, n=2, logprobs=True, top_logprobs=1).result().json()
        assert [len(choice["logprobs"]["content"]) for choice in answer["choices"]] == [6, 6]
        with pytest.raises(ContextLengthError, match="2048"):
            runtime.chat("hi", max_tokens=5000).result()
        with pytest.raises(NotSupportedError, match="regex"):
            runtime.chat("hi", guided_regex="a").result()
        request = runtime.chat("hi", max_tokens=2000)
        next(request)
        request.cancel()
        with pytest.raises(CancelledError):
            request.result()
        requests = [runtime.chat("hi", max_tokens=40) for _ in range(16)]
        assert {request.result().text for request in requests} == {result.text}


def test_errors_behind_the_pipeline() -> None:
    """They keep their type and message, and the traceback of the class if it raised them."""
    model = str(paths.demo_model_dir())
    with Runtime(
        engine="dynamo-backend",
        model=model,
        options={"class": "contract:Recording", "args": ["--model", "{model}"]},
        python={"path": [str(engines_dir)]},
    ) as runtime:
        with pytest.raises(OverloadedError, match="too many") as caught:
            error = exceptions.HttpError(429, "too many")
            runtime.complete([contract.answer(error), 5], max_tokens=4).result()
        assert caught.value.retriable
        with pytest.raises(EngineFailedError, match="RuntimeError: broken") as caught:
            number = contract.answer(RuntimeError("broken"), late=True)
            runtime.complete([number, 5], max_tokens=4).result()
        assert "contract.py" in caught.value.details["python"]["traceback"]


def test_the_contract() -> None:
    """The methods of the installed version's contract are those that the engine knows."""
    assert {"from_args", "start", "cleanup", "generate"} == LLMEngine.__abstractmethods__

# SPDX-License-Identifier: Apache-2.0
"""A token-level engine in C, with the pipeline and without."""

import asyncio
import ctypes
import json
import time
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import compile_c, dynamo_config, patience, tests_dir
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, Sampling, TokenRequest
from dynamo_llm.runtime.engines.native import NativeTokens
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

first_description = {
    "path": str(demo_model_dir()),
    "context_length": 64,
    "capabilities": ["logprobs", "seed", "regex"],
    "adapters": ["blue"],
}


@pytest.fixture(scope="module")
def library(programs: Path) -> ctypes.CDLL:
    """tests/engines/tokens.c, registered as "ctokens"."""
    flags = [*dynamo_config("--cflags", "--libs").split(), "-shared", "-fPIC"]
    file = compile_c(tests_dir / "engines" / "tokens.c", programs / "libtokens.so", *flags)
    library = ctypes.CDLL(str(file))
    library.last_body.restype = ctypes.c_char_p
    assert library.register_tokens(b"ctokens", json.dumps(first_description).encode()) == 0
    return library


@pytest.fixture
def tokenizer() -> Tokenizer:
    """The demo model's tokenizer."""
    return Tokenizer(ModelFolder(demo_model_dir()))


def wait_for(library: ctypes.CDLL, what: bytes, count: int) -> None:
    """Waits until an event has happened a number of times."""
    end = time.monotonic() + patience
    while library.count_of(what) < count:
        assert time.monotonic() < end, f"no {count} {what!r}"
        time.sleep(0.001)


def test_with_the_pipeline(library: ctypes.CDLL) -> None:
    """Texts in, texts out; the engine gets what its header describes."""
    stops = library.count_of(b"stops")
    limits = {"max_concurrent": 1}
    with dynamo_llm.Runtime(engine="ctokens", name="c", limits=limits) as runtime:
        answer = runtime.complete("hello 😀 you", temperature=0.5, stop_token_ids=[9]).result()
        assert (answer.text, answer.finish_reason) == ("hello 😀 you", "stop")
        assert answer.usage is not None
        assert answer.usage.json() == {"prompt_tokens": 7, "completion_tokens": 7, "cached_tokens": 2}
        body = json.loads(library.last_body())
        assert body.pop("max_tokens") == 64 - 7
        assert body == {
            "prompt": answer.token_ids,
            "min_tokens": 0,
            "stop_token_ids": [0, 9],
            "ignore_eos": False,
            "temperature": 0.5,
        }
        short = runtime.complete("hello 😀 you", max_tokens=2).result()
        assert (short.text, short.finish_reason) == ("hell", "length")
        with pytest.raises(dynamo_llm.ContextLengthError, match="64 tokens"):
            runtime.complete("x", max_tokens=65).result()
        logprobs = runtime.chat("x", logprobs=True, top_logprobs=2).result().json()["choices"][0]["logprobs"]
        assert logprobs["content"][0]["top_logprobs"][1]["logprob"] == -1.5
        (model,) = runtime.models()
        assert (model["context_length"], model["adapters"]) == (64, ["blue"])
        assert model["capabilities"] == ["chat", "completion", "logprobs", "seed", "regex"]
    wait_for(library, b"stops", stops + 1)


def test_a_stop_string_and_a_cancel_reach_the_engine(library: ctypes.CDLL, tokenizer: Tokenizer) -> None:
    """The engine's request is cancelled when the rest is not needed."""
    letter = tokenizer.decode([7], skip_special_tokens=True)
    with dynamo_llm.Runtime(engine="ctokens") as runtime:
        before = library.count_of(b"cancels")
        answer = runtime.complete([7, 5], stop=letter).result()
        assert (answer.text, answer.finish_reason) == ("", "stop")
        wait_for(library, b"cancels", before + 1)
        request = runtime.complete([7, 5])
        response = request.receive(patience)
        assert response is not None and response.text == letter
        request.cancel()
        wait_for(library, b"cancels", before + 2)


@pytest.mark.parametrize("first", [11, 12, 13])
def test_a_refusal_reaches_the_caller(library: ctypes.CDLL, tokenizer: Tokenizer, first: int) -> None:
    """Also of an engine that has pushed, or ended its answer, before it refuses; and later requests work."""
    with dynamo_llm.Runtime(engine="ctokens") as runtime:
        for _ in range(3):
            request = runtime.complete([first, 5])
            text = ""
            with pytest.raises(dynamo_llm.OverloadedError, match="11" if first == 11 else "12 and 13"):
                for response in request:
                    text += response.text
            assert text == ("" if first == 11 else tokenizer.decode([first], skip_special_tokens=True))
        assert runtime.complete("hello").result().text == "hello"


def test_a_deadline_reaches_the_engine(library: ctypes.CDLL) -> None:
    """As a cancel does."""
    before = library.count_of(b"cancels")
    with dynamo_llm.Runtime(engine="ctokens") as runtime:
        with pytest.raises(dynamo_llm.DeadlineExceededError):
            runtime.complete([7, 5], timeout=0.3).result()
        wait_for(library, b"cancels", before + 1)


def test_a_runtime_is_closed_while_the_engine_works(library: ctypes.CDLL) -> None:
    """The request is cancelled, the engine is told before it is stopped, and the end is reported."""
    cancels, stops = library.count_of(b"cancels"), library.count_of(b"stops")
    runtime = dynamo_llm.Runtime(engine="ctokens")
    requests = [runtime.complete([7, 5]) for _ in range(5)]
    for request in requests:
        assert request.receive(patience) is not None
    runtime.close()
    assert library.count_of(b"cancels") == cancels + 5
    wait_for(library, b"stops", stops + 1)
    for request in requests:
        with pytest.raises(dynamo_llm.CancelledError):
            request.receive(patience)


def test_several_choices(library: ctypes.CDLL) -> None:
    """Each has its own answer, which its stop string ends."""
    with dynamo_llm.Runtime(engine="ctokens") as runtime:
        answer = runtime.request({"prompt": "hello you", "n": 3, "stop": [" y"]}).result()
        assert [choice.text for choice in answer.choices] == ["hello"] * 3
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 4
        assert answer.usage.completion_tokens == 3 * len(answer.choices[0].token_ids)


def test_without_a_pipeline(library: ctypes.CDLL) -> None:
    """Token IDs in, token IDs out."""
    with dynamo_llm.Runtime({"engine": "ctokens", "pipeline": "off"}) as runtime:
        answer = runtime.complete([5, 6], max_tokens=8).result()
        assert (answer.text, answer.token_ids) == ("", [5, 6])


def test_in_a_shared_library_with_a_control_call(library: ctypes.CDLL) -> None:
    """The engine is named by its file; texts and control calls pass through the pipeline."""
    with dynamo_llm.Runtime(engine={"library": library._name}) as runtime:
        assert runtime.complete("hello you").result().text == "hello you"
        (model,) = runtime.models()
        assert model["id"] == "tokens"
        with pytest.raises(dynamo_llm.NotSupportedError, match="has no calls"):
            runtime.call("repeat")
    description = {"path": str(demo_model_dir()), "context_length": 64, "calls": ["repeat"]}
    library.set_description(json.dumps(description).encode())
    try:
        with dynamo_llm.Runtime(engine={"library": library._name}) as runtime:
            assert runtime.models()[0]["calls"] == ["repeat"]
            assert runtime.call("repeat", a=[1], name="x", timeout=patience) == {"a": [1], "name": "x"}
            library.set_description(json.dumps({**description, "adapters": ["red"]}).encode())
            runtime.call("repeat")
            assert runtime.models()[0]["adapters"] == ["red"]
            runtime.complete("hello", adapter="red").result()
            assert json.loads(library.last_body())["adapter"] == "red"
    finally:
        library.set_description(json.dumps(first_description).encode())


def test_all_keys_of_a_request(library: ctypes.CDLL) -> None:
    """All keys of a request are in the engine's body, under OpenAI's names; log-probs are returned."""
    request = TokenRequest(
        id="x",
        token_ids=[5, 6, 8],
        max_tokens=2,
        sampling=Sampling(temperature=0, top_p=0.5, top_k=3, seed=4, logit_bias={5: 1.5}),
        min_tokens=1,
        stop_token_ids=(0, 3),
        ignore_eos=True,
        logprobs=2,
        guided={"regex": "a|b"},
        adapter="blue",
        priority=3,
        cache_salt="salt",
        extra={"a": [1, None]},
        keys={"bad_words": ["x"]},
    )

    async def ask() -> list[Any]:
        engine = NativeTokens(EngineConfig("x", None, {"config": {"engine": "ctokens", "pipeline": "off"}}))
        await asyncio.to_thread(engine.start)
        chunks = [chunk async for chunk in engine.generate(request)]
        await asyncio.to_thread(engine.stop)
        return chunks

    chunks = asyncio.run(ask())
    assert [token for chunk in chunks for token in chunk["token_ids"]] == [5, 6]
    entries = [entry for chunk in chunks for entry in chunk["logprobs"]]
    assert entries == [{"logprob": -0.25, "top": [[5, -0.25], [6, -1.5]]}] * 2
    assert chunks[-1]["finish_reason"] == "length"
    assert json.loads(library.last_body()) == {
        "prompt": [5, 6, 8],
        "max_tokens": 2,
        "min_tokens": 1,
        "stop_token_ids": [0, 3],
        "ignore_eos": True,
        "logprobs": 2,
        "adapter": "blue",
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 4,
        "logit_bias": {"5": 1.5},
        "guided_regex": "a|b",
        "priority": 3,
        "nvext": {"cache_salt": "salt"},
        "extra": {"a": [1, None]},
        "bad_words": ["x"],
    }


def test_errors_of_the_engine_reach_the_caller(library: ctypes.CDLL) -> None:
    """The caller gets the error with which the engine rejects a request."""
    with (
        dynamo_llm.Runtime({"engine": "ctokens", "pipeline": "off"}) as runtime,
        pytest.raises(dynamo_llm.InvalidRequestError, match="no limit"),
    ):
        runtime.complete([5]).result()

# SPDX-License-Identifier: Apache-2.0
"""Mistakes of token-level engines: the request fails with what is wrong, and the process lives."""

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import compile_c, dynamo_config, tests_dir
from dynamo_llm import Runtime, _core
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

vocabulary = Tokenizer(ModelFolder(demo_model_dir())).vocabulary


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The engine of token_mistakes.py."""
    config = {"engine": "token_mistakes:Mistaken", "python": {"path": [str(Path(__file__).parent)]}}
    with Runtime(config) as opened:
        yield opened


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        (None, "0 log-probs for 1 tokens"),
        ([], "0 log-probs for 1 tokens"),
        ([{"logprob": "x"}], "a log-prob of the engine is not"),
        ([{"logprob": -1.0, "top": [[1 << 32, -1.0]]}], "a log-prob of the engine is not"),
        ([{"logprob": -1.0, "top": [[-1, -1.0]]}], "a log-prob of the engine is not"),
        ([{"logprob": -1.0, "top": [[1.5, -1.0]]}], "a log-prob of the engine is not"),
        ([{"logprob": -1.0, "top": [[1]]}], "a log-prob of the engine is not"),
        ([{}], "a log-prob of the engine is not"),
    ],
)
def test_log_probs(runtime: Runtime, logprobs: Any, message: str, in_thread: bool) -> None:
    """In the last chunk, too, which ends the choice; later requests work."""
    chunk = {"token_ids": [5], **({} if logprobs is None else {"logprobs": logprobs})}
    for max_tokens in (1, 5):
        extra = {"chunks": [chunk], "in_thread": in_thread}
        with pytest.raises(dynamo_llm.EngineFailedError, match=message):
            runtime.complete([7], max_tokens=max_tokens, logprobs=1, extra=extra).result()
    assert runtime.complete([7], extra={"chunks": [{"token_ids": [5]}]}).result().token_ids == [5]


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_index(runtime: Runtime, in_thread: bool) -> None:
    """The engine answers one choice: what it calls it does not matter."""
    extra = {
        "chunks": [{"token_ids": [5], "index": 7}, {"token_ids": [6], "index": 7}],
        "in_thread": in_thread,
    }
    answer = runtime.complete([7], extra=extra).result()
    assert (answer.token_ids, answer.finish_reason) == ([5, 6], "stop")


def test_a_failed_choice_stays_failed() -> None:
    """Its lost tokens must not become a hole in the answer."""
    choice = _core.TokenChoice(vocabulary, [7], 0, 2, logprobs="chat")
    for _ in range(2):
        with pytest.raises(ValueError, match="0 log-probs for 2 tokens"):
            choice.feed({"token_ids": [5, 6]})
    with pytest.raises(ValueError, match="0 log-probs for 2 tokens"):
        choice.finish()
    assert not choice.has_ended
    with pytest.raises(ValueError, match="need a vocabulary"):
        _core.TokenChoice(None, [7], 0, 2, logprobs="chat")


def test_an_engine_in_c_that_ignores_the_status_of_its_pushes(programs: Path) -> None:
    """The request fails when the engine finishes, with what was wrong with its last push."""
    flags = [*dynamo_config("--cflags", "--libs").split(), "-shared", "-fPIC", "-DIGNORES_STATUS"]
    file = compile_c(tests_dir / "engines" / "tokens.c", programs / "libheedless.so", *flags)
    library = ctypes.CDLL(str(file))
    description = {"path": str(demo_model_dir()), "context_length": 64, "capabilities": ["logprobs"]}
    assert library.register_tokens(b"heedless", json.dumps(description).encode()) == 0
    with Runtime(engine="heedless") as runtime:
        for max_tokens in (1, 5):
            with pytest.raises(dynamo_llm.EngineFailedError, match="0 log-probs for 1 tokens"):
                runtime.complete([5, 6], max_tokens=max_tokens, logprobs=1).result()
        assert runtime.complete([5, 6], max_tokens=5).result().token_ids == [5, 6]

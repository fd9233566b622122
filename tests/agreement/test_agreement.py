# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of every engine that is installed are those of transformers' generate().

Where two logits of the reference are nearer than ``epsilon``, an engine may choose the second; the test
prints both, accepts nothing else, and compares that answer no further. Run it with pytest -rA to see them.
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest

if find_spec("torch") is None or find_spec("transformers") is None:
    pytest.skip('agreement needs: python -m pip install ".[transformers]"', allow_module_level=True)

from reference import Answer, Reference, epsilon, max_tokens

here = Path(__file__).resolve().parent
questions: list[str] = json.loads((here / "prompts.json").read_text())

engines: dict[str, dict[str, Any]] = {
    "pipeline": {"engine": "plain:Plain", "python": {"path": [str(here)]}},
    "mistralrs": {"engine": "mistralrs", "options": {"dtype": "f32"}},
    "transformers": {"engine": "transformers", "options": {"dtype": "float32"}},
    "vllm": {
        "engine": "vllm",
        "options": {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 256 << 20},
    },
}
packages = {"pipeline": "torch", "mistralrs": "mistralrs", "transformers": "transformers", "vllm": "vllm"}


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The demo model, plain."""
    return Reference()


@pytest.fixture(scope="module")
def expected(reference: Reference) -> list[Answer]:
    """Its answers."""
    return [reference.generate(reference.prompt(question)) for question in questions]


@pytest.fixture(scope="module", params=engines)
def completions(request: pytest.FixtureRequest) -> Iterator[list[dynamo_llm.Completion]]:
    """An engine's answers, asked for all at once."""
    name = request.param
    if find_spec(packages[name]) is None:
        pytest.skip(f'the engine "{name}" is not installed')
    with dynamo_llm.Runtime(engines[name]) as runtime:
        asked = [runtime.chat(question, max_tokens=max_tokens, temperature=0) for question in questions]
        yield [one.result() for one in asked]


def test_prompts() -> None:
    assert len(questions) == len(set(questions)) == 50


def test_reference_says_something(expected: list[Answer]) -> None:
    """An empty reference would agree with an empty engine."""
    assert all(len(answer.token_ids) > 3 for answer in expected)
    assert sum(answer.token_ids[-1] == 0 for answer in expected) > 25  # ended by themselves


@pytest.mark.parametrize("number", range(len(questions)))
def test_same_tokens(
    number: int, completions: list[dynamo_llm.Completion], expected: list[Answer], reference: Reference
) -> None:
    found, wanted = completions[number], expected[number]
    ended = wanted.token_ids[-1] == 0
    wanted_ids = wanted.token_ids[:-1] if ended else wanted.token_ids
    if found.token_ids:
        ids = found.token_ids[:-1] if found.token_ids[-1] == 0 else found.token_ids
        agrees = ids == wanted_ids
    else:  # an engine of texts
        ids = reference.ids(found.text)
        agrees = found.text == reference.text(wanted_ids)
    if not agrees:
        assert_tie([*ids, 0], wanted)
        return
    assert found.text == reference.text(wanted_ids)
    assert found.finish_reason == ("stop" if ended else "length")


def assert_tie(ids: list[int], wanted: Answer) -> None:
    """The first token that differs was as good as the reference's."""
    pairs = zip(ids, wanted.token_ids, strict=False)
    place = next(index for index, (one, other) in enumerate(pairs) if one != other)
    values, best = wanted.logits[place].topk(2)
    near = float(values[0] - values[1])
    print(f"token {place}: {ids[place]} in place of {wanted.token_ids[place]}")
    print(f"logits of {best.tolist()}: {values.tolist()}, {near} apart")
    assert near < epsilon
    assert ids[place] == best[1]


def test_a_wrong_token_is_no_tie(expected: list[Answer]) -> None:
    answer = expected[0]
    wrong = [*answer.token_ids]
    wrong[2] = (wrong[2] + 1) % 2048
    with pytest.raises(AssertionError):
        assert_tie(wrong, answer)

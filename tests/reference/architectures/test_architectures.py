# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of tiny models of many architectures, on the engines that load files, are transformers' own.

Each (architecture, format, engine) is equal, refused when it is loaded, or differs. What differs must be in
``known``, with its reason. Every result is a row of docs/compatibility.md.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import dynamo_llm
import pytest
from compatibility import compatibility

if find_spec("torch") is None or find_spec("transformers") is None:
    pytest.skip('needs: python -m pip install ".[transformers]"', allow_module_level=True)

from architecture import Architecture, architectures, max_tokens, prompts
from greedy import Answer, greedy
from older_config import is_known_to_mistralrs, with_older_config

Result = Literal["equal", "refused", "differs"]

#: Seconds after which an answer does not come.
patience = 120

#: Engines and their options; with ``max_batch_tokens`` prompts are computed in pieces.
engines: dict[str, dict[str, Any]] = {
    "transformers": {"dtype": "float32", "max_batch_tokens": 7},
    "mistralrs": {"dtype": "f32"},
}

#: What differs from transformers, and why.
known: dict[tuple[str, str, str], str] = {}


#: Layouts of a model's files: as transformers 5 saves it, config.json as transformers 4 wrote it, GGUF.
Format = Literal["safetensors", "safetensors, older config", "gguf"]


@dataclass(frozen=True)
class Case:
    """A row."""

    architecture: Architecture
    format: Format
    engine: str

    def __str__(self) -> str:
        words = f"{self.architecture.name} {self.format} {self.engine}"
        return words.replace(",", "").replace(" ", "-")


def cases() -> Iterator[Case]:
    """All rows; those of an architecture one after the other."""
    for architecture in architectures:
        for engine in engines:
            yield Case(architecture, "safetensors", engine)
        if is_known_to_mistralrs(architecture):
            yield Case(architecture, "safetensors, older config", "mistralrs")
        if architecture.gguf is not None:
            yield Case(architecture, "gguf", "mistralrs")


@dataclass
class Made:
    """A model in its files, and what transformers answers."""

    folder: Path
    answers: list[Answer] | None
    """None of a model that is not a causal language model."""


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture], Made]:
    """Makes the model of an architecture, once."""

    @cache
    def made(name: str) -> Made:
        architecture = next(one for one in architectures if one.name == name)
        folder = tmp_path_factory.mktemp("model")
        model = architecture.make(folder)
        if model.config.is_encoder_decoder:
            return Made(folder, None)
        return Made(folder, [greedy(model, ids) for _, ids in prompts()])

    return lambda architecture: made(architecture.name)


@pytest.mark.parametrize("architecture", architectures, ids=lambda one: one.name.replace(", ", "-"))
def test_reference_is_decided(architecture: Architecture, make: Callable[[Architecture], Made]) -> None:
    """Most of its tokens are the likeliest by far; a model that repeats itself would agree with anything."""
    answers = make(architecture).answers
    if answers is None:
        return
    assert sum(answer.decided for answer in answers) > max_tokens * len(answers) / 2
    assert len({token for answer in answers for token in answer.token_ids}) > 4


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_answers(case: Case, make: Callable[[Architecture], Made], tmp_path: Path) -> None:
    made = make(case.architecture)
    path = made.folder
    if case.format == "gguf":
        assert case.architecture.gguf is not None
        gguf_file = pytest.importorskip(
            "gguf_file", reason="needs: python -m pip install gguf", exc_type=ImportError
        )
        path = tmp_path / "model.gguf"
        gguf_file.write(made.folder, path, case.architecture.gguf)
    elif case.format == "safetensors, older config":
        path = with_older_config(made.folder, tmp_path / "model")
    record(case, *compared(made, case, path))


def compared(made: Made, case: Case, model: Path) -> tuple[Result, str]:
    """An engine's answers against the reference's, and what is to be said of the result."""
    options = dict(engines[case.engine])
    if case.engine == "transformers" and case.architecture.has_no_context_length:
        options["context_length"] = 512
    try:
        runtime = dynamo_llm.Runtime(engine=case.engine, model=model, options=options)
    except dynamo_llm.DynamoError as error:
        return "refused", plain(error.message, model)
    with runtime:
        try:
            completions = answers(runtime, is_batched=case.engine == "transformers")
        except dynamo_llm.DynamoError as error:
            return "differs", f"fails at the first request: {plain(error.message, model)}"
    if made.answers is None:
        return "differs", "answers, although it is not a causal language model"
    for (_, ids), answer, completion in zip(prompts(), made.answers, completions, strict=True):
        if difference := differs(answer, len(ids), completion):
            return "differs", difference
    return "equal", ""


def answers(runtime: dynamo_llm.Runtime, is_batched: bool) -> list[dynamo_llm.Completion]:
    """Answers to all prompts, at once or one after the other."""
    bodies = [{"prompt": prompt, "max_tokens": max_tokens, "temperature": 0} for prompt, _ in prompts()]
    if is_batched:
        return [one.result() for one in [runtime.request(body, timeout=patience) for body in bodies]]
    return [runtime.request(body, timeout=patience).result() for body in bodies]


def differs(answer: Answer, prompt_tokens: int, completion: dynamo_llm.Completion) -> str:
    """What is not the reference's, empty if nothing."""
    used = completion.usage
    if used.prompt_tokens != prompt_tokens:
        return f"the prompt has {used.prompt_tokens} tokens, not {prompt_tokens}"
    is_whole = answer.decided == max_tokens
    if is_whole and (used.completion_tokens, completion.finish_reason) != (max_tokens, "length"):
        return (
            f'{used.completion_tokens} tokens and "{completion.finish_reason}", not {max_tokens} and "length"'
        )
    if completion.token_ids and completion.token_ids[: answer.decided] != answer.token_ids[: answer.decided]:
        return "other tokens"
    if completion.text != answer.text if is_whole else not completion.text.startswith(answer.text):
        return "another text"
    return ""


def plain(message: str, model: Path) -> str:
    """An error's first line, without the path of a temporary file."""
    path = re.escape(str(model))
    return re.sub(rf'(the model )?"?{path}"?', "the model", message.partition("\n")[0])


def record(case: Case, result: Result, detail: str) -> None:
    """Write a row; fail if it differs, and that is not known."""
    key = (case.architecture.name, case.format, case.engine)
    reason = known.get(key)
    if result == "differs" and reason is not None:
        detail = f"{detail}: {reason}"
    compatibility("architecture", key[0], result, detail, format=case.format, engine=case.engine)
    if result != "differs" and reason is not None:
        warnings.warn(f"{case} is {result}: it need not be in known any more", stacklevel=1)
    assert result != "differs" or reason is not None, f"{case}: {detail}"

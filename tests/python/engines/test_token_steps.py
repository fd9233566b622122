# SPDX-License-Identifier: Apache-2.0
"""Token-level engines that push the tokens of a step in one call."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dynamo_llm
import pytest
from dynamo_llm import Runtime
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

tokenizer = Tokenizer(ModelFolder(demo_model_dir()))
patience = 30.0


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The engine of token_steps.py."""
    config = {"engine": "token_steps:TokenSteps", "python": {"path": [str(Path(__file__).parent)]}}
    with Runtime(config) as opened:
        yield opened


def calls() -> list[str]:
    import token_steps

    return token_steps.TokenSteps.seen


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, calls()
        time.sleep(0.01)


def foreign_choices(runtime: Runtime) -> int:
    found = re.search(r"^dynamo_llm_foreign_decoder_choices_total (\d+)$", runtime.metrics(), re.M)
    return int(found[1]) if found else 0


def ids_of(text: str) -> list[int]:
    return tokenizer.core.encode(text, add_special_tokens=False).ids


def test_text_of_many_requests(runtime: Runtime) -> None:
    """Each request gets the text of its own tokens, up to its own limit."""
    prompts = [ids_of(text) for text in ("hello", " the cache", "😀", "a😀b", " key and value")]
    requests = [runtime.complete(prompt, max_tokens=50 + at) for at, prompt in enumerate(prompts)]
    for at, (prompt, request) in enumerate(zip(prompts, requests, strict=True)):
        answer = request.result()
        wanted = answer.token_ids
        assert len(wanted) == 50 + at and set(wanted) <= set(prompt)
        assert answer.text == tokenizer.decode(prompt + wanted, True)[len(tokenizer.decode(prompt, True)) :]
        assert answer.finish_reason == "length"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), 50 + at)
    assert calls().count("add") == len(prompts)
    wait_for(lambda: calls().count("cancel") == len(prompts))


def test_stop_string(runtime: Runtime) -> None:
    """It ends the answer, and the engine is told once; its usage still counts."""
    prompt = ids_of("one two three")
    answer = runtime.complete(prompt, stop=["never", " tw"]).result()
    assert answer.finish_reason == "stop"
    assert " tw" not in answer.text and len(answer.text) <= len("one two three")
    assert answer.usage is not None and answer.usage.cached_tokens == 3
    assert calls() == ["add", "cancel"]


def test_cancel_and_refusal(runtime: Runtime) -> None:
    """A caller that cancels reaches the engine; an exception of add() reaches the caller."""
    request = runtime.complete([7, 8])
    assert request.receive(patience) is not None
    request.cancel()
    wait_for(lambda: "cancel" in calls())
    with pytest.raises(dynamo_llm.EngineFailedError, match="does not like 4"):
        runtime.complete([4]).result()
    assert runtime.complete([7], max_tokens=3).result().token_ids == [7, 7, 7]


def test_log_probs_use_the_generator(runtime: Runtime) -> None:
    """push_many() has none; the steps of the others go on."""
    other = runtime.complete(ids_of("hello"), max_tokens=3000)
    with pytest.raises(dynamo_llm.EngineFailedError, match="log-probs"):
        runtime.complete(ids_of("hello"), max_tokens=3, logprobs=1).result()
    assert len(other.result().token_ids) == 3000
    assert calls().count("generate") == 1


def test_several_choices_use_the_generator(runtime: Runtime) -> None:
    """Each choice has an answer of its own."""
    answer = runtime.request({"prompt": ids_of("hello"), "n": 2, "max_tokens": 40}).result()
    assert {choice.text for choice in answer.choices} == {"hello"}
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    assert calls() == ["generate", "generate"]


def test_decoder_that_only_the_library_tokenizers_knows(tmp_path: Path) -> None:
    """The text is right, and a metric counts the choice."""
    for file in demo_model_dir().glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    replace = {"type": "Replace", "pattern": {"Regex": "c[a]che"}, "content": "CACHE"}
    description["decoder"] = {"type": "Sequence", "decoders": [description["decoder"], replace]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    config = {
        "engine": "token_steps:TokenSteps",
        "python": {"path": [str(Path(__file__).parent)]},
        "options": {"folder": str(tmp_path)},
    }
    with Runtime(config) as runtime:
        before = foreign_choices(runtime)
        prompt = ids_of("a cache hit")
        answer = runtime.complete(prompt, max_tokens=len(prompt)).result()
        assert (answer.text, answer.finish_reason) == ("a CACHE hit", "length")
        assert foreign_choices(runtime) == before + 1
    assert calls() == ["generate"]

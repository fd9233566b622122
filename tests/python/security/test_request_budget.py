# SPDX-License-Identifier: Apache-2.0
"""What one request may cost: hostile grammars, prompts of many megabytes, and the time in an engine's queue.

The budget itself is tested in C (tests/c/test_budget.c); here, that it suits the engines.
"""

import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from conftest import engine, run
from dynamo_llm import Runtime, Tokenizer
from dynamo_llm.errors import ContextLengthError, DeadlineExceededError, InvalidRequestError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engines.mistralrs.slots import Slots
from dynamo_llm.runtime.pipeline import text_length
from reliability import reliability
from waiting import patience

#: The memory of a process in which the demo model needs less than a gigabyte.
_memory = 7 << 30

_ask = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
import dynamo_llm
with dynamo_llm.Runtime() as runtime:
    for body in json.load(open(sys.argv[2])):
        try:
            runtime.request({"prompt": "Hello", "max_tokens": 4, **body}).result()
            print("answered")
        except dynamo_llm.DynamoError as error:
            print(type(error).__name__, str(error)[:200].replace("\\n", " "))
        assert runtime.complete("Hello", max_tokens=2).result().finish_reason
print("lives", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def _answers(bodies: list[dict[str, Any]], tmp_path: Path) -> list[str]:
    """Returns the results of completions with these keys, in a process with little memory, which must
    survive.
    """
    file = tmp_path / "bodies.json"
    file.write_text(json.dumps(bodies))
    done = run([sys.executable, "-c", _ask, str(_memory), file])
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, last = done.stdout.splitlines()
    word, peak = last.split()
    assert word == "lives" and int(peak) < 2048, last
    assert len(lines) == len(bodies)
    return lines


def _chain(count: int) -> dict[str, Any]:
    def to(number: int) -> dict[str, Any]:
        return {"$ref": f"#/$defs/d{number}"}

    links = {f"d{i}": {"type": "object", "properties": {"a": to(i + 1)}} for i in range(count)}
    return {"$defs": {**links, f"d{count}": {"type": "integer"}}, **to(0)}


def _rules(count: int) -> str:
    rules = [f'r{number}: "a" r{number + 1} | "b"' for number in range(count)]
    return "\n".join(["start: r0", *rules, f'r{count}: "c"'])


_integers = {"type": "array", "items": {"type": "integer"}}


def test_hostile_grammars(tmp_path: Path) -> None:
    huge = {**_integers, "minItems": 1000000000}
    bodies: list[dict[str, Any]] = [
        {"guided_json": huge},
        {"guided_json": json.dumps(huge)},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": huge}}},
        {"structured_outputs": {"json": huge}},
        {"guided_json": {**_integers, "maxItems": 1000000}},
        {"guided_json": {"type": "integer", "multipleOf": 1000003}},
        {"guided_json": _chain(1000)},
        {"guided_json": _chain(300)},
        {"guided_regex": "((a{1,1000}){1,1000}){1,1000}"},
        {"guided_regex": "a{1000000000}"},
        {"guided_grammar": _rules(2000)},
        {"guided_grammar": 'start: "a"{1000000000}'},
        {"guided_grammar": f"start: %json {json.dumps(huge)}"},
        {"guided_choice": ["a" * 100000, "b" * 100000]},
    ]
    for line in _answers(bodies, tmp_path):
        assert line.startswith("InvalidRequestError") and "limits.request." in line
    reliability(
        "a grammar that would end the process, or take all memory, in a process with 7 GB",
        len(bodies),
        "INVALID_REQUEST; the next request had its answer",
    )


@pytest.mark.parametrize(
    "form",
    [
        {"guided_json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}},
        {"guided_json": {"enum": []}},
        {"guided_json": {"type": "integer", "minimum": 5, "maximum": 4}},
        {"guided_regex": r"[^\x00-\x{10FFFF}]"},
        {"guided_grammar": 'start: start "a"'},
        {"guided_grammar": 'start: "a" x\nx: x "b"'},
    ],
    ids=str,
)
def test_forms_that_nothing_satisfies(form: dict[str, Any]) -> None:
    """They are the caller's mistake, and the next request is answered."""
    with Runtime() as runtime:
        with pytest.raises(InvalidRequestError, match=r"cannot be satisfied|Unsatisfiable"):
            runtime.request({"prompt": "a", "max_tokens": 3, **form}).result()
        assert runtime.complete("a", max_tokens=1).result().finish_reason == "length"


def test_the_budget_suits_the_engine(tmp_path: Path) -> None:
    """A grammar just within the budget is compiled, or rejected by mistral.rs, without harm."""
    bodies: list[dict[str, Any]] = [
        {"guided_json": {**_integers, "minItems": 19999}},
        {"guided_json": {**_integers, "maxItems": 19999}},
        {"guided_json": {"type": "object", "minProperties": 19999}},
        {"guided_json": {"type": "string", "maxLength": 19999000}},
        {"guided_json": {"type": "integer", "multipleOf": 9973}},
        {"guided_json": _chain(80)},
        {"guided_regex": "[a-z]{19999}"},
        {"guided_regex": "(a|b)*a(a|b){9000}"},
        {"guided_regex": "(" * 250 + "a" + ")" * 250},
        {"guided_grammar": _rules(500)},
        {"guided_grammar": "\n".join(["start: A", 'A: "a"{19000}'])},
        {"guided_choice": [f"choice {number}" for number in range(4096)]},
    ]
    _answers(bodies, tmp_path)


@pytest.fixture(scope="module")
def unbounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a tokenizer that drops characters, so that the length of a text does not bound its
    tokens.
    """
    folder = tmp_path_factory.mktemp("unbounded")
    shutil.copytree(demo_model_dir(), folder, dirs_exist_ok=True)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


_texts = {
    "words": "hello world " * 400000,
    "one word": "a" * 5000000,
    "blanks": " " * 5000000,
    "no letters": "\x07\u00e9" * 2000000,
}


@pytest.mark.many(4)
@pytest.mark.parametrize("text", _texts.values(), ids=_texts)
@pytest.mark.parametrize("is_bounded", [True, False], ids=["bounded", "unbounded"])
@pytest.mark.parametrize("name", ["mistralrs", "tokens:Async"])
def test_long_prompts(name: str, is_bounded: bool, text: str, unbounded: Path) -> None:
    """Other requests are answered while the library finds that a prompt does not fit."""
    model = demo_model_dir() if is_bounded else unbounded
    config = engine(name, options={"info": {"path": str(model)}}) if ":" in name else {"model": str(model)}
    refused: list[BaseException] = []
    with Runtime(config) as runtime, Runtime(engine("echoes:Async")) as other:

        def ask() -> None:
            try:
                runtime.complete(text, max_tokens=1).result()
            except ContextLengthError as error:
                refused.append(error)

        asker = threading.Thread(target=ask)
        asker.start()
        for _ in range(5):
            assert runtime.complete("Hello", max_tokens=2, timeout=patience).result().finish_reason
            assert other.complete("a b", timeout=patience).result().finish_reason
        asker.join(patience)
        assert len(refused) == 1
        # In a chat, too, where a template may omit some text.
        for role in ("user", "assistant"):
            body = {"messages": [{"role": role, "content": f"x{text}x"}], "max_tokens": 1}
            with pytest.raises(ContextLengthError):
                runtime.request(body).result()


def test_long_texts_of_a_tokenizer() -> None:
    with Tokenizer() as tokenizer, Runtime(engine("echoes:Async")) as other:
        counts: list[int] = []
        encoder = threading.Thread(target=lambda: counts.append(len(tokenizer.encode("ab " * 400000))))
        encoder.start()
        while encoder.is_alive():
            assert other.complete("a b", timeout=patience).result().finish_reason
        assert len(counts) == 1 and counts[0] > 400000


def _tokenizer(**parts: Any) -> tokenizers.Tokenizer:
    """Returns the demo model's tokenizer, with other parts."""
    content = json.loads((demo_model_dir() / "tokenizer.json").read_text())
    return tokenizers.Tokenizer.from_str(json.dumps({**content, **parts}))


@pytest.mark.parametrize(
    ("parts", "factor"),
    [
        ({}, 1),
        ({"normalizer": {"type": "NFC"}}, 4),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}}, 16),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "aaa"}, "content": "a"}}, 3),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": ""}}, None),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"}}, None),
        ({"normalizer": {"type": "StripAccents"}}, None),
        ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, None),
        ({"pre_tokenizer": None}, None),
    ],
    ids=str,
)
def test_longest_token(parts: dict[str, Any], factor: int | None) -> None:
    usual = text_length.longest_token(_tokenizer())
    assert usual == 16  # " disaggregation", whose blank has two bytes in tokenizer.json
    assert text_length.longest_token(_tokenizer(**parts)) == (None if factor is None else usual * factor)


def test_texts_that_just_fit_are_accepted() -> None:
    core = _tokenizer()
    for text in ("a b" * 100, " disaggregation" * 1000, "\u00e9" * 500):
        count = len(core.encode(text, add_special_tokens=False).ids)
        text_length.check(core, text, count)
    with pytest.raises(ContextLengthError, match="the model's context length is 100 tokens"):
        text_length.check(core, "\u00e9" * 5000, 100)
    with pytest.raises(ContextLengthError, match="more than 1024 for each"):
        text_length.check(core, " " * 200000, 100)


def test_invalid_requests_are_not_queued() -> None:
    """They are rejected at once, whatever is wrong with them, even if the engine's only slot is taken."""
    hopeless = [
        {"prompt": "hello " * 1500, "max_tokens": 1},
        {"prompt": [5] * 1100, "max_tokens": 1},
        {"prompt": "a", "max_tokens": 5000},
        {"messages": [{"role": "system", "content": "hello " * 1500}], "max_tokens": 1},
    ]
    with Runtime(options={"max_seqs": 1}) as runtime:
        running = [runtime.complete("Hello", max_tokens=900, ignore_eos=True) for _ in range(3)]
        next(iter(running[0]))
        for body in hopeless:
            with pytest.raises(ContextLengthError):
                runtime.request(body).result()
        with pytest.raises(InvalidRequestError):
            runtime.complete("a", guided_regex="a{1000000}")
        assert running[0].status == 2  # DYNAMO_PENDING: it still runs
        for one in running:
            one.cancel()


def test_time_in_the_queue_of_an_engine() -> None:
    with Runtime(options={"max_seqs": 1}) as runtime:
        first = runtime.complete("Hello", max_tokens=150, ignore_eos=True)
        next(iter(first))
        second = runtime.complete("Hello", max_tokens=2, ignore_eos=True)
        third = runtime.complete("Hello", max_tokens=2, timeout=0.05)
        with pytest.raises(DeadlineExceededError):
            third.result()
        done = first.result()
        timing = second.result().timing
        assert done.timing is not None and timing is not None
        assert timing.queue is not None and timing.first_token is not None
        # It was queued until the first one ended; its own time is short.
        assert timing.queue > 0.05 and timing.queue <= timing.first_token
        waited = runtime.metrics().split("dynamo_llm_queue_seconds_sum")[1].split()[1]
        assert float(waited) >= timing.queue + 0.05


def test_slots() -> None:
    slots = Slots(2)
    order: list[str] = []

    def take(name: str, count: int) -> None:
        with slots.taken(count, lambda: False) as has_them:
            assert has_them
            order.append(name)

    with slots.taken(1, lambda: False):
        big = threading.Thread(target=take, args=("big", 5))
        big.start()
        until = time.monotonic() + patience
        while not slots._waiting:
            assert time.monotonic() < until
        with slots.taken(1, lambda: True) as has_them:
            assert not has_them  # it was cancelled; no request overtakes another
        assert order == []
    take("small", 1)
    big.join(patience)
    assert sorted(order) == ["big", "small"]

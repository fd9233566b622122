# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of a tokenizer.json that take minutes: only the model that contains them waits."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import run
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engines.mistralrs import gguf_split
from dynamo_llm.runtime.pipeline import regular_expressions
from reliability import reliability

#: Takes quadratic time at each character of the text, but stays below the library's limit.
slow = r"a*a*b|a"

#: Asks another tokenizer and another model while the hostile one splits a text; ends without waiting for it.
ask = """
import os, sys, threading, time, dynamo_llm
model, text = sys.argv[1], "a" * 3000
demo, other, hostile = dynamo_llm.Runtime(), dynamo_llm.Tokenizer(), dynamo_llm.Runtime(model=model)
tokenizer = dynamo_llm.Tokenizer(model=model)
requests = [hostile.complete(text, max_tokens=1) for _ in range(3)]
for _ in range(3):
    threading.Thread(target=tokenizer.encode, args=(text,), daemon=True).start()
time.sleep(1)
answer = demo.complete("hello", max_tokens=4, ignore_eos=True, timeout=60).result().text
print(len(answer) > 0, len(other.encode("hello" * 2000)) > 0, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("expression", "is_quick"),
    [
        *((one, True) for one in gguf_split.known["gpt-2"].expressions),
        *((one, True) for one in gguf_split.known["llama3"].expressions),
        *((one, True) for one in gguf_split.known["qwen2"].expressions),
        *((one, True) for one in gguf_split.known["gpt-4o"].expressions),
        (r"\s+(?!\S)|\s+", True),
        (r"[a*]*[b+]", True),
        (r"\*\+\(a\)", True),
        (r"(a|a)*$", False),
        (r"(x+x+)+y", False),
        (r"(?:a+){2,}", False),
        (slow, False),
        (r"a{1,50}a{1,50}b", False),
        (r"a?a?a?a?a?aaaaa", False),
        (r"(?:a){2}*b*", False),
        (r"(a+)\1", False),
        (r"(?<=a+)b", False),
        (r"(?<n>a|b\g<n>c)", False),
    ],
)
def test_kinds(expression: str, is_quick: bool) -> None:
    """Those of widespread models are fast; nested repetitions are slow."""
    assert regular_expressions.is_quick(expression) == is_quick
    step = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": expression}}]}
    assert regular_expressions.may_backtrack(None, step) != is_quick


def with_expression(place: Path, expression: str) -> Path:
    """The demo model with an additional step before its tokenizer."""
    shutil.copytree(demo_model_dir(), place)
    file = place / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}
    file.write_text(json.dumps(tokenizer))
    return place


def test_other_models_are_not_delayed(tmp_path: Path) -> None:
    """A text that takes the hostile tokenizer minutes does not delay other models and tokenizers."""
    result = run([sys.executable, "-c", ask, with_expression(tmp_path / "model", slow)])
    assert result.stdout.splitlines() == ["True True"], result.stderr
    reliability("a tokenizer whose regular expression takes minutes, six texts", 6, "other models answer")


def test_limit(tmp_path: Path) -> None:
    """An expression that reaches the library's limit ends only its request."""
    code = """
import sys, dynamo_llm
for text in ("a" * 40 + "!", "b"):
    try:
        print(len(dynamo_llm.Tokenizer(model=sys.argv[1]).encode(text)))
    except dynamo_llm.DynamoError as error:
        print(type(error).__name__, "cannot split this text" in error.message)
print(len(dynamo_llm.Tokenizer().encode("hello")) > 0)
"""
    result = run([sys.executable, "-c", code, with_expression(tmp_path / "model", r"(a|a)*(b|b)*(.|.)*$^")])
    assert result.stdout.splitlines() == ["EngineFailedError True", "1", "True"], result.stderr

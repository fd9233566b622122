# SPDX-License-Identifier: Apache-2.0
"""The demo model that is installed with the library."""

import json
import struct
from collections.abc import Iterator

import pytest
from dynamo_llm.paths import demo_model_dir
from hosting import Library

questions = [
    "What is a KV cache?",
    "What is prefill?",
    "What is decode?",
    "What is time to first token?",
    "What is a token?",
    "What is NVIDIA Dynamo?",
    "What is speculative decoding?",
    "What is continuous batching?",
    "What is quantization?",
    "Hello!",
]


def test_size() -> None:
    """The model takes at most four million bytes with all files."""
    assert sum(path.stat().st_size for path in demo_model_dir().rglob("*") if path.is_file()) <= 4_000_000


def test_shape() -> None:
    """The heads have a size that every attention kernel supports, and agree with the weights."""
    config = json.loads((demo_model_dir() / "config.json").read_text())
    assert config["head_dim"] == 64
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]
    data = (demo_model_dir() / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8 : 8 + length])
    assert tensors["model.embed_tokens.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    assert max(tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__") == (
        len(data) - 8 - length
    )


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module")
def runtime(library: Library) -> Iterator[int]:
    runtime = library.create({})
    yield runtime
    library.finish(runtime)


def chat(content: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.many(3)
@pytest.mark.parametrize("question", questions)
def test_answers_are_sentences(library: Library, runtime: int, question: str) -> None:
    """Answers are whole sentences, the same each time."""
    answer = library.answer(runtime, chat(question))
    assert len(answer.split()) >= 3
    assert answer[0].isupper()
    assert answer.rstrip()[-1] in ".?", answer
    assert library.answer(runtime, chat(question)) == answer


def test_an_answer_is_right(library: Library, runtime: int) -> None:
    """The model knows what a KV cache is."""
    answer = library.answer(runtime, chat("What is a KV cache?"))
    assert "keys" in answer and "values" in answer

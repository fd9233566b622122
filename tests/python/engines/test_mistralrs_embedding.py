# SPDX-License-Identifier: Apache-2.0
"""The engine mistralrs: embeddings of a tiny model, from C, C++ and Python."""

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from conftest import compile_c, compile_cpp, dynamo_config, run, tests_dir
from dynamo_llm import ContextLengthError, InvalidConfigError, InvalidRequestError, NotSupportedError, Runtime
from dynamo_llm.runtime.engine import EngineConfig
from dynamo_llm.runtime.engines.mistralrs import MistralRsEngine

hello = [410, 326, 83, 1982]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.embedder(tmp_path_factory.mktemp("models") / "embedder")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[Runtime]:
    with Runtime(model=folder) as runtime:
        yield runtime


def length(vector: list[float]) -> float:
    return math.sqrt(sum(value * value for value in vector))


def same(vector: list[float]) -> Any:
    """Returns the comparison of a vector, with the tolerance of a batched computation."""
    return pytest.approx(vector, abs=1e-5)


def test_vectors(runtime: Runtime) -> None:
    """One for each input, in order, of length 1; a text and its token IDs have the same."""
    result = runtime.embed(["hello world", "other", "hello world"]).result()
    first, other, again = result.vectors
    assert first == same(again)
    assert first != same(other)
    assert [len(vector) for vector in result.vectors] == [tiny_models.WIDTH] * 3
    assert [length(vector) for vector in result.vectors] == pytest.approx([1] * 3, abs=1e-4)
    assert result.usage is not None and result.usage.prompt_tokens > 2 * len(hello)
    answer = result.json()
    assert answer["object"] == "list"
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    assert {entry["object"] for entry in answer["data"]} == {"embedding"}
    assert answer["usage"]["total_tokens"] == result.usage.prompt_tokens
    for form in ("hello world", hello, [hello]):
        (lone,) = runtime.embed(form).result().vectors
        assert lone == same(first)


def test_many_inputs(runtime: Runtime) -> None:
    """More inputs than fit in one batch keep their order."""
    texts = [f"number {number % 50}" for number in range(150)]
    vectors = runtime.embed(texts).result().vectors
    assert len(vectors) == 150
    for number, vector in enumerate(vectors[:50]):
        assert vector == same(vectors[number + 50])
        assert vector == same(vectors[number + 100])
    assert vectors[7] == same(runtime.embed(texts[7]).result().vectors[0])


def test_base64(runtime: Runtime) -> None:
    """OpenAI's format: float32, little-endian."""
    plain = runtime.embed("hello").result()
    coded = runtime.embed("hello", encoding_format="base64").result()
    data = base64.b64decode(coded.json()["data"][0]["embedding"])
    assert list(struct.unpack(f"<{tiny_models.WIDTH}f", data)) == pytest.approx(plain.vectors[0], abs=1e-7)
    assert coded.vectors[0] == pytest.approx(plain.vectors[0], abs=1e-7)


def test_dimensions(runtime: Runtime, tmp_path: Path) -> None:
    """The first dimensions, normalized as the model normalizes."""
    (whole,) = runtime.embed("hello").result().vectors
    (short,) = runtime.embed("hello", dimensions=8).result().vectors
    assert length(short) == pytest.approx(1, abs=1e-6)
    scale = length(whole[:8])
    assert [value * scale for value in short] == pytest.approx(whole[:8], abs=1e-6)
    assert runtime.embed("hello", dimensions=tiny_models.WIDTH).result().vectors[0] == same(whole)
    with Runtime(model=tiny_models.embedder(tmp_path / "long", normalises=False)) as long:
        (whole,) = long.embed("hello").result().vectors
        assert length(whole) > 1.5
        assert long.embed("hello", dimensions=8).result().vectors[0] == same(whole[:8])


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({"input": ""}, InvalidRequestError, r"input\[0\].*empty"),
        ({"input": []}, InvalidRequestError, "a text, a list of texts"),
        ({"input": ["a", ""]}, InvalidRequestError, r"input\[1\].*empty"),
        ({"input": ["a", 1]}, InvalidRequestError, r"\"input\[1\]\" of the request must be"),
        ({"input": [-1]}, InvalidRequestError, "from 0 to 4294967295, not -1"),
        ({"input": [99999]}, InvalidRequestError, "99999"),
        ({"input": "a", "dimensions": 33}, InvalidRequestError, "33.*have 32"),
        ({"input": "a", "nvext": {"x": 1}}, NotSupportedError, "nvext"),
        ({"input": "a b " * 100}, ContextLengthError, "context length is 64"),
        ({"prompt": "a"}, NotSupportedError, "only makes embeddings"),
        ({"messages": [{"role": "user", "content": "a"}]}, NotSupportedError, "only makes embeddings"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unsupported_embedding_requests(
    runtime: Runtime, body: dict[str, Any], error: type[dynamo_llm.DynamoError], message: str
) -> None:
    """Each error says what is wrong; the runtime stays usable."""
    with pytest.raises(error, match=message):
        runtime.request(body).result()
    assert len(runtime.embed("a").result().vectors) == 1


def test_task(folder: Path, tmp_path: Path) -> None:
    """The configuration may set the task of a model."""
    with Runtime(model=folder, options={"task": "embed"}) as runtime:
        assert len(runtime.embed("a").result().vectors) == 1
    with pytest.raises(dynamo_llm.ModelNotFoundError, match=r"modules\.json"):
        Runtime(model=tiny_models.llama(tmp_path / "chat"), options={"task": "embed"})
    with pytest.raises(InvalidConfigError, match=r"options\.adapters"):
        Runtime(model=folder, options={"adapters": {"a": "/b"}})
    engine = MistralRsEngine(EngineConfig("mistralrs", str(folder), {}))
    engine.start()
    assert engine.describe() == {
        "path": str(folder),
        "capabilities": ["embedding"],
        "adapters": [],
        "context_length": 64,
    }
    engine.stop()


def test_all_callers(runtime: Runtime, folder: Path, programs: Path) -> None:
    """C and C++ get the same as Python."""
    flags = dynamo_config("--cflags", "--libs").split()
    source = tests_dir / "callers" / "embed"
    callers = [
        compile_c(source.with_suffix(".c"), programs / "embed-c", *flags),
        compile_cpp(source.with_suffix(".cpp"), programs / "embed-cpp", *flags),
    ]
    body = {"input": ["hello world", "é"], "dimensions": 16}
    mine = runtime.request(body).result()
    for caller in callers:
        result = run([caller, json.dumps({"model": str(folder)}), json.dumps(body)])
        assert result.returncode == 0, result.stderr
        answer, tokens = result.stdout.splitlines()
        theirs = json.loads(answer)
        assert theirs.keys() == mine.json().keys() and theirs["usage"] == mine.json()["usage"]
        assert [entry["index"] for entry in theirs["data"]] == [0, 1]
        for entry, vector in zip(theirs["data"], mine.vectors, strict=True):
            assert entry["embedding"] == same(vector)
        assert mine.usage is not None and int(tokens) == mine.usage.prompt_tokens
        assert result.stderr == ""

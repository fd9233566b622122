# SPDX-License-Identifier: Apache-2.0
"""The engine ``transformers``: embeddings, compared with transformers itself and with mistral.rs."""

import base64
import json
import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from dynamo_llm import Batch, DynamoError, Runtime
from dynamo_llm.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError, NotSupportedError
from dynamo_llm.paths import demo_model_dir

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")

hello = [410, 326, 83, 1982]
texts = ["hello world", "A KV cache keeps keys and values.", "a", "Prefill processes the prompt."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that pools by the last token."""
    return tiny_models.embedder(tmp_path_factory.mktemp("models") / "embedder")


def open_engine(path: Path, **options: Any) -> Runtime:
    return Runtime(
        engine="transformers", model=path, options={"dtype": "float32", "device": "cpu", **options}
    )


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[Runtime]:
    with open_engine(folder, max_batch=3, max_batch_tokens=20) as runtime:
        yield runtime


def same(vector: list[float]) -> Any:
    """Returns the comparison of a vector, with the tolerance of a batched computation."""
    return pytest.approx(vector, abs=1e-5)


def encoder(path: Path, pooling: str, **settings: Any) -> Path:
    """Creates a small BERT with the demo model's tokenizer."""
    config = transformers.BertConfig(
        vocab_size=2048,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    torch.manual_seed(3)
    transformers.BertModel(config).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo_model_dir() / name, path)
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"path": where, "type": f"sentence_transformers.models.{kind}"} for kind, where in kinds.items()
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True, **settings}))
    return path


def test_agrees_with_mistralrs(runtime: Runtime, folder: Path) -> None:
    """Another engine computes the same vectors; so texts in a batch do not influence each other."""
    result = runtime.embed(texts).result()
    with Runtime(model=folder) as other:
        for text, vector in zip(texts, result.vectors, strict=True):
            lone = other.embed(text).result()
            assert vector == pytest.approx(lone.vectors[0], abs=1e-4)
        assert result.json()["usage"] == other.embed(texts).result().json()["usage"]
    for vector in result.vectors:
        assert math.sqrt(sum(value * value for value in vector)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "max_tokens", "lasttoken"])
def test_encoders(tmp_path: Path, pooling: str) -> None:
    """An encoder, whose padding must not count, compared with each row alone in transformers."""
    path = encoder(tmp_path / "bert", pooling)
    model = transformers.AutoModel.from_pretrained(path).eval()
    rows = [[5, 6, 7], [9], list(range(10, 40)), [8, 7, 6, 5, 4]]
    with open_engine(path) as runtime:
        vectors = runtime.embed(rows).result().vectors
        assert runtime.models()[0]["capabilities"] == ["embedding"]
        assert runtime.models()[0]["context_length"] == 40
    for row, vector in zip(rows, vectors, strict=True):
        with torch.inference_mode():
            states = model(torch.tensor([row])).last_hidden_state[0]
        pooled = {
            "cls_token": states[0],
            "mean_tokens": states.mean(0),
            "max_tokens": states.amax(0),
            "lasttoken": states[-1],
        }[pooling]
        assert vector == same(pooled.tolist())


def test_forms(runtime: Runtime) -> None:
    """A text and its token ids have the same vector; more inputs than fit into a batch keep their order."""
    (vector,) = runtime.embed("hello world").result().vectors
    for form in (hello, [hello], ["hello world"]):
        assert runtime.embed(form).result().vectors == [same(vector)]
    many = [f"number {number % 7}" for number in range(60)]
    result = runtime.embed(many).result()
    for number, one in enumerate(result.vectors):
        assert one == same(result.vectors[number % 7])
    assert [entry["index"] for entry in result.json()["data"]] == list(range(60))


def test_encodings_and_dimensions(runtime: Runtime) -> None:
    """As OpenAI's: float32 in little-endian order; the first dimensions, normalized again."""
    plain = runtime.embed("hello").result()
    coded = runtime.embed("hello", encoding_format="base64").result()
    data = base64.b64decode(coded.json()["data"][0]["embedding"])
    assert list(struct.unpack(f"<{tiny_models.WIDTH}f", data)) == pytest.approx(plain.vectors[0], abs=1e-6)
    (short,) = runtime.embed("hello", dimensions=8).result().vectors
    scale = math.sqrt(sum(value * value for value in plain.vectors[0][:8]))
    assert [value * scale for value in short] == same(plain.vectors[0][:8])


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({"input": ""}, InvalidRequestError, r"input\[0\].*empty"),
        ({"input": ["a", ""]}, InvalidRequestError, r"input\[1\].*empty"),
        ({"input": [[5], [99999]]}, InvalidRequestError, r'"input\[1\]\[0\]" .* from 0 to'),
        ({"input": "a", "dimensions": 33}, InvalidRequestError, "33.*have 32"),
        ({"input": "a", "extra": {"x": 1}}, NotSupportedError, '"transformers" does not support "extra"'),
        ({"input": ["a", [5] * 65]}, ContextLengthError, "65 tokens.* context length is 64"),
        ({"prompt": "a"}, NotSupportedError, "only makes embeddings"),
        ({"messages": [{"role": "user", "content": "a"}]}, NotSupportedError, "only makes embeddings"),
    ],
)
def test_refused_requests(
    runtime: Runtime, body: dict[str, Any], error: type[DynamoError], message: str
) -> None:
    """Each error says what is wrong; the runtime stays usable."""
    with pytest.raises(error, match=message):
        runtime.request(body).result()
    assert len(runtime.embed("a").result().vectors) == 1


def test_models_that_are_refused(tmp_path: Path) -> None:
    """Other modules, or other ways to pool, would give other vectors."""
    path = encoder(tmp_path / "bert", "mean_tokens", pooling_mode_max_tokens=True)
    with pytest.raises(NotSupportedError, match="pools by pooling_mode_max_tokens, pooling_mode_mean_tokens"):
        open_engine(path)
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    with open_engine(path) as runtime:
        assert runtime.models()[0]["context_length"] == 12
    (path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    with pytest.raises(NotSupportedError, match='"do_lower_case"'):
        open_engine(path)
    (path / "sentence_bert_config.json").unlink()
    (path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="the embedding model lacks"):
        open_engine(path)
    modules = json.loads((path / "modules.json").read_text())
    (path / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(NotSupportedError, match="are Transformer, Pooling, Dense"):
        open_engine(path)


def test_causal_models_make_no_embeddings() -> None:
    """A model without modules.json generates text only."""
    with open_engine(demo_model_dir()) as runtime, pytest.raises(NotSupportedError, match="embeddings"):
        runtime.embed("a").result()


def test_batch_and_child_process(folder: Path, tmp_path: Path) -> None:
    """A batch of embeddings, by an engine in a child process."""
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": {"input": text}}
        for number, text in enumerate(texts)
    ]
    (tmp_path / "in").write_text("\n".join(map(json.dumps, lines)))
    options = {"dtype": "float32", "device": "cpu"}
    with (
        Runtime(engine="transformers", model=folder, isolation="process", options=options) as runtime,
        Batch(tmp_path / "in", tmp_path / "out") as batch,
    ):
        report = batch.run(runtime)
    assert (report.done, report.failed) == (4, 0)
    assert report.prompt_tokens > 4

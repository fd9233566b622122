# SPDX-License-Identifier: Apache-2.0
"""The engine ``transformers``: models for sequence classification, compared with transformers itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import Runtime
from dynamo_llm.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.paths import demo_model_dir

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")
tokenizers = pytest.importorskip("tokenizers")

texts = ["hello world", "A KV cache keeps keys and values.", "a", "Prefill processes the prompt."]


def classifier(path: Path, labels: int, kind: str = "Bert", **settings: Any) -> Path:
    """Creates a small model with the demo model's tokenizer, which separates the two texts of a pair."""
    sizes = {
        "vocab_size": 2048,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 60,
        "num_labels": labels,
    }
    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(**sizes, **settings)
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo_model_dir() / name, path)
    core = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A", pair="$A <|endoftext|> $B:1", special_tokens=[("<|endoftext|>", 0)]
    )
    core.save(str(path / "tokenizer.json"))
    return path


def change(path: Path, **keys: Any) -> None:
    """Changes config.json."""
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def open_engine(path: Path, **options: Any) -> Runtime:
    return Runtime(
        engine="transformers", model=path, options={"dtype": "float32", "device": "cpu", **options}
    )


def logits(path: Path, *given: str) -> list[float]:
    """Returns what transformers computes for one text, or for a pair."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    encoding = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json")).encode(*given)
    types = {"token_type_ids": torch.tensor([encoding.type_ids])} if model.config.model_type == "bert" else {}
    with torch.inference_mode():
        row: list[float] = model(torch.tensor([encoding.ids]), **types).logits[0].tolist()
    return row


def test_classification(tmp_path: Path) -> None:
    """The probabilities of all labels; texts of a batch do not influence each other."""
    path = classifier(tmp_path / "bert", 3, id2label={0: "bad", 1: "good", 2: "odd"})
    with open_engine(path, max_batch=3) as runtime:
        (model,) = runtime.models()
        assert (model["capabilities"], model["labels"]) == (["classify"], ["bad", "good", "odd"])
        assert (model["context_length"], model["device"]) == (60, "cpu")
        answer = runtime.classify(texts).result()
        raw = runtime.classify(texts, use_activation=False).result()
        for text, one, plain in zip(texts, answer.classes, raw.classes, strict=True):
            expected = torch.tensor(logits(path, text))
            assert one.probs == pytest.approx(expected.softmax(-1).tolist(), abs=1e-5)
            assert plain.probs == pytest.approx(expected.tolist(), abs=1e-5)
            assert one.label == ["bad", "good", "odd"][int(expected.argmax())]
        whole = answer.json()
        assert whole["object"] == "list" and whole["id"].startswith("classify-")
        assert set(whole["data"][0]) == {"index", "label", "probs", "num_classes"}
        assert answer.usage is not None and answer.usage.prompt_tokens > len(texts)
        ids = [[5, 6, 7], [8]]
        assert len(runtime.classify(ids).result().classes) == 2
        with pytest.raises(NotSupportedError, match='"rerank" requests'):
            runtime.rerank("a", ["b"]).result()
        for request in (runtime.chat, runtime.embed):
            with pytest.raises(NotSupportedError, match="only classifies texts"):
                request("a").result()


@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_cross_encoder(tmp_path: Path, kind: str) -> None:
    """A model with one label reads the query with each document, and knows which text is which."""
    more: dict[str, Any] = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    path = classifier(tmp_path / "one", 1, kind, **(more if kind == "DistilBert" else {}))
    query, *documents = texts
    expected = [torch.tensor(logits(path, query, one)).sigmoid().item() for one in documents]
    with open_engine(path, max_batch=2) as runtime:
        assert runtime.models()[0]["capabilities"] == ["classify", "score", "rerank"]
        assert runtime.score(query, documents).result().scores == pytest.approx(expected, abs=1e-5)
        ranking = runtime.rerank(query, documents).result()
        assert [one.index for one in ranking.results] == sorted(range(3), key=lambda at: -expected[at])
        raw = runtime.score(query, documents, use_activation=False).result().scores
        assert raw == pytest.approx([logits(path, query, one)[0] for one in documents], abs=1e-5)
        turned = runtime.score(documents, [query] * 3).result().scores
        assert turned != pytest.approx(expected, abs=1e-6)


def test_activations(tmp_path: Path) -> None:
    """As sentence-transformers and vLLM choose them."""
    path = classifier(tmp_path / "one", 1)
    (raw,) = logits(path, "a", "b")
    for keys, expected in (
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, raw),
        ({"sentence_transformers": None, "problem_type": "regression"}, raw),
        ({"problem_type": None}, torch.tensor(raw).sigmoid().item()),
    ):
        change(path, **keys)
        with open_engine(path) as runtime:
            assert runtime.score("a", "b").result().scores == pytest.approx([expected], abs=1e-5)
    change(path, sentence_transformers={"activation_fn": "torch.nn.ReLU"})
    with pytest.raises(NotSupportedError, match=r'the activation "torch\.nn\.ReLU"'):
        open_engine(path)


def test_decoder_without_padding(tmp_path: Path) -> None:
    """A decoder that does not name its padding cannot compute several rows at once, and so does not."""
    path = classifier(tmp_path / "llama", 2, "Llama", num_key_value_heads=2)
    with open_engine(path) as runtime:
        classes = runtime.classify(texts).result().classes
    for text, one in zip(texts, classes, strict=True):
        assert one.probs == pytest.approx(torch.tensor(logits(path, text)).softmax(-1).tolist(), abs=1e-5)


def test_mistakes(tmp_path: Path) -> None:
    path = classifier(tmp_path / "one", 1)
    with open_engine(path) as runtime:
        with pytest.raises(ContextLengthError, match=r"the pair of texts 1 has .* tokens"):
            runtime.rerank("What is it? " * 8, ["a", "What is it? " * 8]).result()
        with pytest.raises(InvalidRequestError, match=r'"input\[1\]" of the request is empty'):
            runtime.classify(["a", ""]).result()
        with pytest.raises(InvalidRequestError, match="unknown key"):
            runtime.classify("a", dimensions=3).result()
    change(path, num_labels=2, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(ModelNotFoundError, match="wrong shape"):
        open_engine(path)

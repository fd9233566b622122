# SPDX-License-Identifier: Apache-2.0
"""Which files of a repository an engine gets."""

from collections.abc import Sequence
from typing import Any

import pytest
from dynamo_llm.runtime.hub.file_selection import Selection, SelectionError, select

both = ("safetensors", "gguf")
small = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
other = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.onnx",
    "onnx/model.onnx",
    "onnx/config.json",
    "original/consolidated.00.pth",
    "original/tokenizer.model",
    "consolidated.safetensors",
    "coreml/model.mlpackage",
    "modeling_x.py",
    "training_args.bin",
    "images/a.png",
]


def chosen(
    names: Sequence[str],
    quantization: str | None = None,
    formats: Sequence[str] = both,
    index: Any = None,
) -> Selection:
    return select(names, formats, quantization, lambda name: index)


def refused(*arguments: Any, **more: Any) -> str:
    with pytest.raises(SelectionError) as caught:
        chosen(*arguments, **more)
    return str(caught.value)


def test_safetensors() -> None:
    """Weights, configuration, tokenizer, and templates; no other copies of the weights."""
    templates = ["chat_template.jinja", "additional_chat_templates/rag.jinja"]
    names = [*small, *templates, "model.safetensors", *other]
    found = chosen(names)
    assert set(found.files) == {*small, *templates, "model.safetensors"}
    assert found.files[-1] == "model.safetensors"
    assert found.file is None
    # transformers prefers the whole file; the parts are then another copy.
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert not set(parts) & set(chosen([*names, *parts, "model.safetensors.index.json"]).files)


def test_weights_in_parts() -> None:
    """The index names them; without one, all parts must be there."""
    parts = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    index = {"weight_map": {f"layer.{number}": part for number, part in enumerate(parts)}}
    names = [*small, *parts, "model-extra.safetensors", "model.safetensors.index.json", *other]
    assert set(chosen(names, index=index).files) == {*small, *parts, "model.safetensors.index.json"}
    assert set(chosen([*small, *parts]).files) == {*small, *parts}
    assert "only some parts" in refused([*small, *parts[:2]])
    assert "lacks model-00003-of-00003.safetensors" in refused(
        [*small, *parts[:2], "model.safetensors.index.json"], index=index
    )
    for bad in (
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "x.bin",
        "",
        "a\0.safetensors",
        3,
    ):
        for map_ in ({"a": bad}, bad, {}):
            assert "is not an index" in refused(
                [*small, "model.safetensors.index.json", str(bad)], index={"weight_map": map_}
            )


def test_embedding_models() -> None:
    """sentence-transformers' modules are in folders."""
    modules = ["modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"]
    names = [*small, *modules, "model.safetensors", "2_Dense/pytorch_model.bin", *other]
    assert set(chosen(names).files) == {*small, *modules, "model.safetensors"}


def test_code() -> None:
    """Python files are downloaded only for an engine that was allowed to run them."""
    names = [*small, "model.safetensors", *other]
    assert "modeling_x.py" not in chosen(names).files
    assert "modeling_x.py" in chosen(names, formats=("safetensors", "code")).files


def test_tokenizer() -> None:
    """A tokenizer needs no weights."""
    assert set(chosen([*small, "model.safetensors", *other], formats=("tokenizer",)).files) == set(small)
    assert "has no tokenizer.json" in refused(["config.json"], formats=("tokenizer",))


ggufs = [
    "model-Q4_K_M.gguf",
    "model-Q4_K_S.gguf",
    "model-Q8_0.gguf",
    "model-BF16.gguf",
    "model-UD-Q2_K_XL.gguf",
    "mmproj-model-F16.gguf",
    "imatrix.gguf",
    "big/model-Q6_K-00001-of-00002.gguf",
    "big/model-Q6_K-00002-of-00002.gguf",
]


@pytest.mark.parametrize(
    ("quantization", "files"),
    [
        ("Q4_K_M", ["model-Q4_K_M.gguf"]),
        ("q4_k_m", ["model-Q4_K_M.gguf"]),
        ("Q8", ["model-Q8_0.gguf"]),
        ("Q2_K_XL", ["model-UD-Q2_K_XL.gguf"]),
        ("BF16", ["model-BF16.gguf"]),
        ("model-Q8_0", ["model-Q8_0.gguf"]),
        ("model-Q8_0.gguf", ["model-Q8_0.gguf"]),
        ("Q6_K", ["big/model-Q6_K-00001-of-00002.gguf", "big/model-Q6_K-00002-of-00002.gguf"]),
        ("big/model-Q6_K", ["big/model-Q6_K-00001-of-00002.gguf", "big/model-Q6_K-00002-of-00002.gguf"]),
        ("mmproj-model-F16", ["mmproj-model-F16.gguf"]),
    ],
)
def test_quantizations(quantization: str, files: list[str]) -> None:
    """Only the file with the quantization in its name, and all its parts."""
    found = chosen([*small, "model.safetensors", *ggufs], quantization)
    assert (list(found.files), found.file) == (files, files[0])


def test_missing_quantizations() -> None:
    """The message lists those that exist."""
    names = [*small, *ggufs]
    message = refused(names, "Q5_K_M")
    for label in ("Q4_K_M", "Q4_K_S", "Q8_0", "BF16", "UD-Q2_K_XL", "Q6_K"):
        assert label in message
    assert "mmproj" not in message and "imatrix" not in message
    assert "model-Q4_K_M.gguf, model-Q4_K_S.gguf" in refused(names, "Q4_K")
    assert 'leave out ":Q4"' in refused([*small, "model.safetensors"], "Q4")
    assert "does not load GGUF" in refused(names, "Q4_K_M", formats=("safetensors",))
    assert "lacks 1 of the 2 parts" in refused(ggufs[:-1], "Q6_K")
    assert "at most" in refused(["a-00001-of-99999.gguf"], "a")


def test_repositories_with_gguf_only() -> None:
    """The only model needs no name; of several, one must be named."""
    assert chosen(["README.md", "config.json", ggufs[0], "mmproj-F16.gguf"]).files == (ggufs[0],)
    message = refused(["README.md", *ggufs])
    assert "has 6 GGUF models" in message and "Q4_K_M" in message
    assert "GGUF files, which this engine does not load" in refused(ggufs, formats=("safetensors",))


def test_repositories_without_a_model() -> None:
    """The message says what is there instead."""
    assert "pickled" in refused(["config.json", "pytorch_model.bin"])
    assert "LoRA adapter" in refused(["adapter_config.json", "adapter_model.safetensors"])
    assert "ONNX" in refused(["config.json", "model.onnx"])
    assert "it is empty" in refused([])
    assert "it has README.md, data.csv" in refused(["README.md", "data.csv"])


def test_names_of_files_are_untrusted() -> None:
    """No name that could leave the folder is chosen."""
    bad = ["../config.json", "/config.json", "..\\tokenizer.json", "a/../../x-Q9_0.gguf", "x-Q9_0\n.gguf"]
    bad += [".hidden/x-Q9_0.gguf", "additional_chat_templates/../../x.jinja", "1_Pooling/../config.json"]
    names = [*bad, *small, "model.safetensors", "modules.json"]
    assert set(chosen(names).files) == {*small, "model.safetensors", "modules.json"}
    assert "has no" in refused(names, "Q9_0")

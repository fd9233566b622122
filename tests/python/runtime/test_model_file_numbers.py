# SPDX-License-Identifier: Apache-2.0
"""Absurd numbers in the files of a model do not reach the engine."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from conftest import run
from dynamo_llm import ModelNotFoundError, NotSupportedError, Runtime, Tokenizer
from dynamo_llm.runtime.engines.mistralrs import model, options
from reliability import reliability
from test_model_files import load

absurd = [0, -1, 10**12, 2**63, 2**64, 2**31 - 1, 1.5, 1e308, float("inf"), float("nan"), "x", [], {}, True]
sizes = [
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "head_dim"),
]


def find(folder: Path) -> None:
    """Checks the files as the engine does before it loads them."""
    model.find(str(folder), options.read({}))


def changed(folder: Path, values: dict[str, Any], file: str = "config.json") -> Path:
    """A Llama with other values in a file."""
    tiny_models.llama(folder)
    given = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(given | values))
    return folder


@pytest.mark.parametrize("key", sizes)
def test_sizes(tmp_path: Path, key: str) -> None:
    """Each size that no weight has is rejected by name."""
    for index, value in enumerate(absurd):
        values = {"architectures": ["MistralForCausalLM"], key: value}
        with pytest.raises(ModelNotFoundError, match=f'"{key}"'):
            find(changed(tmp_path / str(index), values))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"rms_norm_eps": "x"}, "rms_norm_eps"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"rope_theta": 1e308}, "rope_theta"),
        ({"rope_scaling": 5}, "rope_scaling"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, "rope_scaling.factor"),
        ({"rope_parameters": {"rope_type": "linear", "factor": -1}}, "rope_parameters.factor"),
        ({"rope_parameters": {"a": {"rope_theta": 0}}}, "rope_parameters.a.rope_theta"),
        ({"rope_scaling": {"type": "longrope", "long_factor": [1.0] * 9999}}, "rope_scaling.long_factor"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0, 0]}}, "rope_scaling.short_factor"),
        ({"quantization_config": 5}, "quantization_config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 7}}, "quantization_config.bits"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 2**40}},
            "quantization_config.group_size",
        ),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 1]}}, "weight_block_size"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 0}, "sliding_window"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 2**63}, "sliding_window"),
        ({"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 10**12}, "num_experts"),
        ({"architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 0}, "decoder_sparse_step"),
        ({"architectures": ["MixtralForCausalLM"], "num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"architectures": ["DeepseekV3ForCausalLM"], "n_group": 0}, "n_group"),
        ({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layer_interval": 0}, "no_rope_layer_interval"),
        ({"num_attention_heads": 3, "head_dim": None}, "num_attention_heads"),
        ({"num_attention_heads": 2, "head_dim": 16, "num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_other_numbers(tmp_path: Path, values: dict[str, Any], key: str) -> None:
    """Each implausible number is rejected, too."""
    with pytest.raises(ModelNotFoundError, match=key.replace(".", r"\.")):
        find(changed(tmp_path / "model", values))


def test_the_host_survives(tmp_path: Path) -> None:
    """Numbers that once made mistral.rs end the process, hang, or allocate gigabytes."""
    cases: list[tuple[str, dict[str, Any]]] = [
        ("config.json", {"head_dim": 10**12, "architectures": ["MistralForCausalLM"]}),
        ("config.json", {"max_position_embeddings": 10**12}),
        ("config.json", {"max_position_embeddings": 2**31 - 1}),
        ("config.json", {"num_hidden_layers": 10**12}),
        ("config.json", {"num_key_value_heads": 0}),
        ("config.json", {"eos_token_id": 10**12}),
        ("config.json", {"bos_token_id": [2**31, 5]}),
        ("generation_config.json", {"eos_token_id": [10**30, 3000]}),
        ("generation_config.json", {"bos_token_id": 99999, "temperature": -1, "top_k": -1}),
        (
            "tokenizer.json",
            {"truncation": {"max_length": 1, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}},
        ),
    ]
    folders = [changed(tmp_path / str(index), values, file) for index, (file, values) in enumerate(cases)]
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)){load}"
    result = run([sys.executable, "-c", limited, *folders])
    *lines, demo = result.stdout.splitlines()
    assert demo == "demo True", result.stderr
    assert [line.split(" ")[0] for line in lines] == ["ModelNotFoundError"] * 5 + ["answer"] * 5, lines
    reliability(
        "absurd numbers in config.json, generation_config.json and tokenizer.json",
        len(cases),
        "an error or an answer",
    )


def added(id: Any, content: str = "<x>") -> dict[str, Any]:
    """Returns an entry of ``added_tokens``."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": id, "content": content, **dict.fromkeys(flags, False)}


def template(count: int) -> dict[str, Any]:
    """Returns a post-processor that adds tokens before each text."""
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"a": {"id": "a", "ids": [7] * count, "tokens": ["x"] * count}},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"added_tokens": [added(4294967295)]}, "the id 4294967295"),
        ({"added_tokens": [added("x")]}, "the id 'x'"),
        ({"added_tokens": [added(index) for index in range(100_001)]}, "at most 100000"),
        (
            {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}},
            '"content"',
        ),
        ({"normalizer": {"type": "Prepend", "prepend": "b" * 10**6}}, '"prepend"'),
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 20_000}},
            '"normalizer" has more',
        ),
        ({"post_processor": template(100_000)}, "adds 100001 tokens"),
        ({"post_processor": template(100)}, "adds 101 tokens"),
        ({"model": {"type": "BPE", "vocab": {"a": 10**9}, "merges": []}}, "the id 1000000000"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "max_input_chars_per_word": 2**62}}, "max_input"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 10**9}}, "not a valid tokenizer"),
        (
            {
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": {"Regex": "(("},
                    "behavior": "Isolated",
                    "invert": False,
                }
            },
            "not a valid tokenizer",
        ),
    ],
)
def test_tokenizers(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    """Values that would use up memory, or make a text a thousand times longer."""
    with pytest.raises(ModelNotFoundError, match=message):
        Tokenizer(model=changed(tmp_path / "model", values, "tokenizer.json"))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("generation_config.json", {"eos_token_id": list(range(2000))}, "2000 tokens that end an answer"),
        (
            "tokenizer_config.json",
            {"extra_special_tokens": [f"<{n}>" for n in range(100_001)]},
            "100000 tokens",
        ),
        ("tokenizer_config.json", {"extra_special_tokens": 5}, "special tokens in the folder"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"9" * 5000: {"content": "a"}}},
            "special tokens in",
        ),
        ("tokenizer_config.json", {"chat_template": 5}, '"chat_template"'),
        ("tokenizer_config.json", {"chat_template": [{"name": "default"}]}, '"chat_template"'),
        ("special_tokens_map.json", {"extra_special_tokens": 5}, "special tokens in the folder"),
        ("added_tokens.json", {"a": 1e400}, "must have a token id"),
    ],
)
def test_files_beside(tmp_path: Path, file: str, values: dict[str, Any], message: str) -> None:
    """The files beside tokenizer.json are checked, too."""
    folder = changed(tmp_path / "model", values, file)
    if file == "special_tokens_map.json":  # otherwise added_tokens_decoder counts
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("added_tokens_decoder", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelNotFoundError, match=message):
        Tokenizer(model=folder)


def test_many_added_tokens(tmp_path: Path) -> None:
    """mistral.rs needs time that grows with the square of their number."""
    tokens = [added(2048 + index, f"<{index}>") for index in range(32_769)]
    with pytest.raises(NotSupportedError, match=r"has \d+ added tokens"):
        find(changed(tmp_path / "model", {"added_tokens": tokens}, "tokenizer.json"))


def vectors(runtime: Runtime, text: str) -> Any:
    """Returns the embedding of a text."""
    return runtime.embed(text).result().vectors


@pytest.mark.parametrize(
    "values",
    [
        {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
        {
            "padding": {
                **{"strategy": {"Fixed": 10**6}, "direction": "Left", "pad_to_multiple_of": None},
                **{"pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
            }
        },
    ],
)
def test_truncation_and_padding(tmp_path: Path, values: dict[str, Any]) -> None:
    """Both are ignored: a prompt has all of its tokens, and no others."""
    text = "a prompt of several words, each of which counts"
    with Tokenizer() as demo, Tokenizer(model=changed(tmp_path / "t", values, "tokenizer.json")) as other:
        assert other.encode(text) == demo.encode(text)
    embedder = tiny_models.embedder(tmp_path / "embedder")
    with Runtime(model=embedder) as whole:
        wanted = vectors(whole, text)
    (embedder / "tokenizer.json").write_text(
        json.dumps(json.loads((embedder / "tokenizer.json").read_text()) | values)
    )
    with Runtime(model=embedder) as runtime:
        assert vectors(runtime, text) == wanted


def header(tensors: int, values: int) -> bytes:
    """Returns the beginning of a GGUF file."""
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values)


def text(data: str) -> bytes:
    """Returns a string in GGUF."""
    return struct.pack("<Q", len(data)) + data.encode()


def tensor(*shape: int, kind: int = 0, offset: int = 0) -> bytes:
    """Returns the entry of a tensor, in a file without values."""
    return (
        header(1, 0)
        + text("token_embd.weight")
        + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (header(0, 2**63), "declares 0 tensors and 9223372036854775808 values"),
        (header(2**60, 0), "declares 1152921504606846976 tensors"),
        (header(0, 99_999) + b"\0" * 1000, "cut off|unknown type"),
        (header(0, 1) + struct.pack("<Q", 2**63 - 1), "a text of 9223372036854775807 bytes"),
        (header(0, 1) + text("a") + struct.pack("<IIQ", 9, 0, 2**62), "more than 8000000 values"),
        (
            header(0, 1) + text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 200_000,
            "arrays in arrays",
        ),
        (header(0, 1) + text("a") + struct.pack("<IIQ", 9, 9, 7_999_999), "cut off"),
        (header(0, 1) + text("general.alignment") + struct.pack("<II", 4, 0), '"general.alignment"'),
        (header(0, 1) + text("general.alignment") + struct.pack("<II", 4, 2**32 - 1), '"general.alignment"'),
        (tensor(2**40, 2**40), "ends at the byte"),
        (tensor(64, 2**25), "ends at the byte"),
        (tensor(64, 2, offset=2**63), "ends at the byte"),
        (tensor(2**62, 2**62, kind=99), "ends at the byte"),
        (header(1, 0) + text("a") + struct.pack("<I", 2**31), "2147483648 dimensions"),
    ],
)
def test_gguf_headers(tmp_path: Path, data: bytes, message: str) -> None:
    """The file must contain what its header declares."""
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelNotFoundError, match=message):
        find(path)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("block_count", [3, 2**32 - 1]),
        ("context_length", [0, 2**31 - 1, 2**32 - 1]),
        ("embedding_length", [0, 1, 64, 2**32 - 1]),
        ("feed_forward_length", [0, 2**32 - 1]),
        ("attention.head_count", [0, 64, 2**32 - 1]),
        ("attention.head_count_kv", [0, 2, 2**32 - 1]),
        ("attention.layer_norm_rms_epsilon", [float("nan"), 3e38]),
        ("rope.freq_base", [float("nan"), float("inf")]),
        ("rope.dimension_count", [2**32 - 1]),
        ("expert_count", [2**32 - 1]),
    ],
)
def test_gguf_numbers(tmp_path: Path, key: str, values: list[Any]) -> None:
    """Numbers of the metadata must be those of the tensors."""
    for index, value in enumerate(values):
        path = tiny_models.gguf(tmp_path / f"{index}.gguf", values={f"llama.{key}": value})
        with pytest.raises(
            ModelNotFoundError, match=rf'"llama\.{key}"'.replace(".", r"\.").replace(r"\\.", r"\.")
        ):
            find(path)


def test_parts_of_gguf_that_differ(tmp_path: Path) -> None:
    """mistral.rs reads a number from the last file, so it must be that of the first."""
    first, second = tiny_models.split_gguf(tmp_path / "m", 2)
    data = second.read_bytes()
    old = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    assert old in data
    second.write_bytes(data.replace(old, old.replace(b"llama", b"phi3_"[:5]), 1))
    with pytest.raises((ModelNotFoundError, NotSupportedError), match=r'different values of "general\.arch'):
        find(first)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update(data_offsets=[100, 50]),
        lambda one: one.update(data_offsets=[-5, 10]),
        lambda one: one.update(data_offsets=["a", "b"]),
        lambda one: one.update(data_offsets=[0.5, 1e3]),
        lambda one: one.update(data_offsets=[0, 2**70]),
        lambda one: one.update(shape=[2**62, 2**62]),
        lambda one: one.update(shape=[10**12]),
        lambda one: one.update(shape=[True]),
        lambda one: one.update(shape=[1] * 1000),
        lambda one: one.update(dtype=5),
        lambda one: one.update(dtype="F64"),
        lambda one: one.clear(),
    ],
)
def test_safetensors_headers(tmp_path: Path, change: Change) -> None:
    """A tensor has the bytes that its shape needs, within the file, and no two tensors overlap."""
    file = tiny_models.llama(tmp_path / "model") / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8 : 8 + length])
    change(tensors["model.norm.weight"])
    written = json.dumps(tensors).encode()
    file.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
    with pytest.raises(ModelNotFoundError, match=r"model\.safetensors.* not in the format|not whole"):
        find(file.parent)

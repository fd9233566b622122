# SPDX-License-Identifier: Apache-2.0
"""Names of models of the Hugging Face Hub."""

import os
from pathlib import Path

import pytest
from dynamo_llm import InvalidConfigError
from dynamo_llm.runtime.hub import hub_name
from dynamo_llm.runtime.hub.hub_name import HubName


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:org/name", HubName("org/name")),
        ("org/name", HubName("org/name")),
        ("hf:gpt2", HubName("gpt2")),
        ("hf:meta-llama/Llama-3.2-1B_x", HubName("meta-llama/Llama-3.2-1B_x")),
        ("hf:org/name:Q4_K_M", HubName("org/name", "Q4_K_M")),
        ("hf:org/name:sub/model-Q4_K_M.gguf", HubName("org/name", "sub/model-Q4_K_M.gguf")),
        ("hf:org/name@v1.0", HubName("org/name", None, "v1.0")),
        ("hf:org/name@refs/pr/3", HubName("org/name", None, "refs/pr/3")),
        ("hf:org/name:Q8_0@0123456789abcdef", HubName("org/name", "Q8_0", "0123456789abcdef")),
    ],
)
def test_names(text: str, name: HubName) -> None:
    assert hub_name.parse(text) == name
    assert hub_name.parse(str(name)) == name


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("hf:", '"" is not a repository'),
        ("hf:a/b/c", '"a/b/c" is not a repository'),
        ("hf:../name", "is not a repository"),
        ("hf:org/..", "is not a repository"),
        ("hf:org/a..b", "is not a repository"),
        ("hf:org--x/name", "is not a repository"),
        ("hf:org/name.git", "is not a repository"),
        ("hf:/etc/passwd", "is not a repository"),
        ("hf:org/" + "n" * 96, "is not a repository"),
        ("hf:org/n\x00", "is not a repository"),
        ("hf:org/näme", "is not a repository"),
        ("hf:org/name:", '"" is not a quantization'),
        ("hf:org/name:../x", "is not a quantization"),
        ("hf:org/name:a/../b", "is not a quantization"),
        ("hf:org/name:/x", "is not a quantization"),
        ("hf:org/name@", '"" is not a branch, tag, or commit'),
        ("hf:org/name@../x", "is not a branch"),
        ("hf:org/name@a/../../b", "is not a branch"),
        ("hf:org/name@-x", "is not a branch"),
        ("hf:org/name@a//b", "is not a branch"),
        ("hf:org/name@" + "a" * 256, "is not a branch"),
        ("hf:org/name@main:Q4", 'the quantization stands before "@"'),
    ],
)
def test_what_is_not_a_name(text: str, what: str) -> None:
    """A name becomes part of paths and URLs, so what could leave a folder is refused."""
    with pytest.raises(InvalidConfigError) as caught:
        hub_name.parse(text)
    assert what in caught.value.message
    assert '"hf:org/name:Q4_K_M"' in caught.value.message


def test_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the command line "hf:" may be left out, unless a file or folder has the name."""
    monkeypatch.chdir(tmp_path)
    for text in ("org/name", "org/name:Q4_K_M", "org/name@main"):
        assert hub_name.of_argument(text) == f"hf:{text}"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert hub_name.of_argument("org/name") == "org/name"
    os.symlink("nowhere", tmp_path / "org" / "dangling")
    for text in (
        "org/dangling",
        "hf:org/name",
        "gpt2",
        "./org/name",
        "../org",
        "~/models",
        "/models/a",
        "models/a.gguf",
        "a/b/c",
    ):
        assert hub_name.of_argument(text) == text

# SPDX-License-Identifier: Apache-2.0
"""docs/reference_table.py writes what tests/reference wrote, and checks that it is on the page."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compatibility import compatibility

docs = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The script, beside a page without tables."""
    for name in ("reference_table.py", "generated.py"):
        shutil.copy(docs / name, tmp_path)
    (tmp_path / "compatibility.md").write_text(
        "# Page\n\n<!-- begin table: reference_table.py -->\n<!-- end table -->\n\nRest.\n"
    )
    return tmp_path


def run(folder: Path, rows: list[dict[str, str]], *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, folder / "reference_table.py", *options, file]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def architecture(name: str, engine: str, result: str, detail: str = "") -> dict[str, str]:
    row = {"kind": "architecture", "name": name, "format": "safetensors", "engine": engine}
    return row | {"result": result, "detail": detail}


rows = [
    architecture("llama", "transformers", "equal"),
    architecture("llama", "mistralrs", "refused", "no `a|b` <here>"),
    {"kind": "template", "name": "chatml", "result": "differs", "detail": "a blank"},
    {"kind": "tokenizer", "name": "unigram", "result": "equal", "detail": ""},
]


def test_writes_and_checks(folder: Path) -> None:
    assert run(folder, rows).returncode == 0
    page = (folder / "compatibility.md").read_text()
    assert page.startswith("# Page\n\n<!-- begin") and page.endswith("<!-- end table -->\n\nRest.\n")
    assert "| llama | equal | refused |  |  |\n" in page
    assert "| llama | mistralrs | refused | no 'a\\|b' \\<here\\> |\n" in page
    assert (
        "## Chat templates\n\n| name | result | detail |\n|---|---|---|\n| chatml | differs | a blank |"
        in page
    )
    assert run(folder, rows).returncode == 0  # again: the same page
    assert (folder / "compatibility.md").read_text() == page
    assert run(folder, rows, "--check").returncode == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ([architecture("llama", "mistralrs", "equal")], "lacks: llama, mistralrs, equal"),
        ([architecture("mamba", "transformers", "refused")], "lacks: mamba, transformers, refused"),
        ([{**rows[2], "result": "equal"}], "lacks: chatml, equal"),
    ],
)
def test_check_finds_another_result(folder: Path, changed: list[dict[str, str]], says: str) -> None:
    run(folder, rows)
    result = run(folder, [*rows, *changed], "--check")
    assert result.returncode == 1
    assert says in result.stderr


def test_check_takes_a_part_and_other_words(folder: Path) -> None:
    run(folder, rows)
    some = [architecture("llama", "mistralrs", "refused", "other words")]
    result = run(folder, some, "--check")
    assert (result.returncode, "not in this run: chatml, differs" in result.stderr) == (0, True)


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is a line; without the variable there is none."""
    file = tmp_path / "rows.jsonl"
    monkeypatch.setenv("DYNAMO_LLM_REFERENCE", str(file))
    compatibility("architecture", "llama", "equal", format="gguf", engine="mistralrs")
    compatibility("template", "chatml", "refused", "words")
    monkeypatch.delenv("DYNAMO_LLM_REFERENCE")
    compatibility("template", "other", "equal")
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {
            "kind": "architecture",
            "name": "llama",
            "format": "gguf",
            "engine": "mistralrs",
            "result": "equal",
            "detail": "",
        },
        {"kind": "template", "name": "chatml", "result": "refused", "detail": "words"},
    ]

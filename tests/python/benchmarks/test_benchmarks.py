# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, and write their tables. Their results are not checked."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

root = Path(__file__).resolve().parents[3]
script = root / "benchmarks" / "run.py"

#: With a floor.
ratios = {
    "drain_1_suspending",
    "drain_1_flat",
    "drain_64_1reader",
    "drain_64_4readers",
    "drain_10k",
    "http_64",
    "http_1_flat",
    "embedding",
    "push_many",
    "c_to_c",
    "pipeline_async",
    "pipeline_async_suspending",
    "pipeline_c",
    "engine_native",
    "send_busy_gil",
    "cluster",
    "router",
    "frontend_256",
    "frontend_1000",
    "frontend_cpu",
    "frontend_ttft_1",
    "frontend_ttft_16",
}

#: In a separate table; whether they are also measured on one CPU.
isolation = {
    "isolation_1_flat": False,
    "isolation_1_suspending": True,
    "isolation_64": True,
    "isolation_ttft": False,
    "isolation_paced_1": False,
    "isolation_paced_64": False,
    "isolation_start": False,
}

tables = ("ratios", "isolation", "values", "costs")


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    file = folder / "results.json"
    command = [sys.executable, str(script), "--smoke", "--json", str(file), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(file.read_text())
    assert "| ratio |" in done.stdout
    return result


def new_page(folder: Path) -> Path:
    """A page with a mark for each table."""
    page = folder / "page.md"
    marks = [f"<!-- begin table: {name} -->\n<!-- end table: {name} -->\n" for name in tables]
    page.write_text("before\n" + "between\n".join(marks) + "after\n")
    return page


def imported(file: Path) -> set[str]:
    """Returns the packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_requirements() -> None:
    """benchmarks/requirements.txt has every package that a benchmark imports."""
    files = list(script.parent.rglob("*.py"))
    own = {file.stem for file in files} | {"dynamo_llm", "engines"}
    others = set().union(*map(imported, files)) - own - set(sys.stdlib_module_names)
    lines = (script.parent / "requirements.txt").read_text().splitlines()
    listed = {re.split(r"[<>=]", line)[0] for line in lines if line[0] != "#"}
    assert {"numpy", "psutil"} <= others
    # "mistralrs" and "tokenizers" are dependencies of the package, and "dynamo" is an extra.
    assert others - {"dynamo", "mistralrs", "tokenizers"} <= listed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_whole_run(tmp_path: Path) -> None:
    """Each pair has a value, or a reason why it was skipped."""
    page = new_page(tmp_path)
    result = run(tmp_path, "--page", str(page))
    with_floor = {name for name, ratio in result["ratios"].items() if ratio["floor"]}
    assert with_floor | result["left_out"].keys() == ratios
    for ratio in result["ratios"].values():
        assert ratio.keys() >= {"median", "low", "high", "runs", "floor", "aim", "what"}
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    for why in result["left_out"].values():
        assert "needs" in why
    assert {name for name, ratio in result["ratios"].items() if "unit" in ratio} == isolation.keys()
    for name, is_pinned in isolation.items():
        ratio = result["ratios"][name]
        assert ratio["isolated"] > 0 and ratio["in_process"] > 0
        assert ("pinned" in ratio) == (is_pinned and shutil.which("taskset") is not None)
    assert result["values"].keys() >= {
        "stream_bytes",
        "start_cold_ms",
        "cancel_p99_ms",
        "send_p99_us",
        "cost",
    }
    assert result["machine"].keys() >= {"cpu", "cpus", "python"}
    for name in ("performance-ratios.svg", "performance-costs.svg"):
        assert "<svg" in (tmp_path / name).read_text()
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    for name in ("drain_1_flat", *isolation):
        assert text.count(f"| `{name}` |") == 1
    assert text.count("between\n") == 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_only_isolation(tmp_path: Path) -> None:
    """The group measures its pairs, and writes only its table."""
    page = new_page(tmp_path)
    before, _, after = page.read_text().partition("<!-- end table: isolation -->")
    result = run(tmp_path, "--only", "isolation", "--page", str(page))
    assert result["ratios"].keys() == isolation.keys()
    assert not list(tmp_path.glob("*.svg"))
    text = page.read_text()
    assert text.startswith(before) and text.endswith(after)
    rows = text[len(before) : -len(after)].splitlines()
    assert rows[0].endswith(" seconds.")
    names = [row.split("`")[1] for row in rows if row.startswith("| `")]
    assert names == list(isolation)
    rate, ttft = (next(row for row in rows if f"`isolation_{name}`" in row) for name in ("64", "ttft"))
    assert re.fullmatch(r"[0-9,.]+ tokens/s", rate.split(" | ")[2])
    assert re.fullmatch(r"[0-9,.]+ ms", ttft.split(" | ")[3])


def test_part_of_a_table(tmp_path: Path) -> None:
    """Only whole tables are written to a page."""
    page = new_page(tmp_path)
    before = page.read_text()
    command = [sys.executable, str(script), "--only", "drain_1_flat", "--page", str(page)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--page writes whole tables" in done.stderr
    assert page.read_text() == before


def test_unknown_name() -> None:
    command = [sys.executable, str(script), "--only", "drain"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no 'drain'; there are drain_1_suspending, " in done.stderr

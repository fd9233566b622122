# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, and write what they say. How fast anything is they are not asked here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

root = Path(__file__).resolve().parents[2]
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
    "engine_native",
    "send_busy_gil",
    "cluster",
}


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    file = folder / "results.json"
    command = [sys.executable, str(script), "--smoke", "--json", str(file), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(file.read_text())
    assert "| ratio |" in done.stdout
    return result


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_whole(tmp_path: Path) -> None:
    """Every pair and value; what is left out says why."""
    page = tmp_path / "page.md"
    marks = [f"<!-- begin table: {n} -->\n<!-- end table: {n} -->\n" for n in ("ratios", "values", "costs")]
    page.write_text("before\n" + "between\n".join(marks) + "after\n")
    result = run(tmp_path, "--page", str(page))
    with_floor = {name for name, ratio in result["ratios"].items() if ratio["floor"]}
    assert with_floor | (result["left_out"].keys() - {"frontend"}) == ratios
    for ratio in result["ratios"].values():
        assert ratio.keys() >= {"median", "low", "high", "runs", "floor", "aim", "what"}
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    for why in result["left_out"].values():
        assert "needs" in why
    assert result["values"].keys() >= {
        "stream_bytes",
        "start_cold_ms",
        "cancel_p99_ms",
        "send_p99_us",
        "cost",
    }
    assert result["machine"].keys() >= {"cpu", "cpus", "python"}
    for name in ("performance-ratios.png", "performance-costs.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert text.count("| `drain_1_flat` |") == 1
    assert "between\n" in text


def test_unknown_name() -> None:
    command = [sys.executable, str(script), "--only", "drain"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no 'drain'; there are drain_1_suspending, " in done.stderr

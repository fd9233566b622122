# SPDX-License-Identifier: Apache-2.0
"""The soak finds growth where something grows, and none elsewhere. Its length is up to the caller."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import tests_dir

pytest.importorskip("psutil")
pytest.importorskip("numpy")
benchmarks = tests_dir.parent / "benchmarks"
sys.path.insert(0, str(benchmarks))
from slope import is_flat, slope  # noqa: E402


def remembering(chance: random.Random, count: int, memory: float) -> list[float]:
    """Returns samples, each of which depends on the one before."""
    values = [0.0]
    for _ in range(count - 1):
        values.append(memory * values[-1] + chance.gauss(0, 1))
    return values


def test_interval_contains_the_slope() -> None:
    """In about 95 of 100 cases, also where samples depend on each other."""
    chance = random.Random(1)
    held = 0
    for _ in range(300):
        values = [at * 0.01 + value for at, value in enumerate(remembering(chance, 480, 0.8))]
        found = slope(range(480), values)
        held += found["low"] <= 0.01 <= found["high"]
    assert 270 <= held <= 297


def test_growth_is_found() -> None:
    values = [at * 0.1 + value for at, value in enumerate(remembering(random.Random(2), 480, 0.8))]
    assert not is_flat(slope(range(480), values))
    assert is_flat({"value": 1, "low": -1, "high": 3})


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="20 samples or more, not 3"):
        slope([1, 2, 3], [1, 2, 3])


def soak(tmp_path: Path, *options: str) -> dict[str, Any]:
    """Returns the result of a short run."""
    import subprocess

    from waiting import patience

    command = [sys.executable, benchmarks / "soak.py", "--json", tmp_path / "soak.json", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    assert (tmp_path / "soak.json").exists(), run.stdout + run.stderr
    result: dict[str, Any] = json.loads((tmp_path / "soak.json").read_text())
    assert result["unexpected"] == [], run.stdout
    assert run.returncode == int(not all(result["is_flat"].values())), run.stdout + run.stderr
    return result


@pytest.mark.slow
def test_load_does_everything(tmp_path: Path) -> None:
    """All threads get their answers, and nothing unexpected happens; a short run proves no more."""
    pytest.importorskip("matplotlib")
    result = soak(tmp_path, "--minutes", "0.15", "--interval", "0.1", "--plot", str(tmp_path / "soak.svg"))
    done = {
        "Python",
        "asyncio",
        "callbacks",
        "cancelled",
        "dropped",
        "dropped runtimes",
        "failed",
        "model",
        "refused",
        "runtimes",
        "templates stopped",
        "tokenizers",
    }
    assert set(result["counts"]) == done | {"tokens", "whole"}
    assert set(result["slopes"]) == {"rss_bytes_per_min", "fds", "threads"}
    assert all(set(found) == {"value", "low", "high"} for found in result["slopes"].values())
    assert "<svg" in (tmp_path / "soak.svg").read_text()


@pytest.mark.slow
def test_planted_leak_is_found(tmp_path: Path) -> None:
    """The load leaks a descriptor for each sample."""
    result = soak(tmp_path, "--minutes", "0.1", "--interval", "0.05", "--leak", "fds")
    assert not result["is_flat"]["fds"], result["slopes"]

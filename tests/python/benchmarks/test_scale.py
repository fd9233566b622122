# SPDX-License-Identifier: Apache-2.0
"""The simulation of many gateways and workers, in small."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

small = {"gateways": 20, "workers": 10, "requests": 1500, "conversations": 200}


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/scale.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    import scale

    yield scale
    sys.modules.pop("scale", None)


def test_what_routing_does(scale: ModuleType) -> None:
    """Requests are conserved; what a router knows helps, and helps less when it is old; seeds repeat."""
    settings = scale.Settings(**small)
    fresh = {mode: scale.Simulation(settings, mode, 0.0).run() for mode in scale._modes}
    for outcome in fresh.values():
        assert outcome.requests == sum(outcome.per_worker) == small["requests"]
        assert 0 < outcome.hits < outcome.blocks and outcome.imbalance >= 1
    assert max(fresh, key=lambda mode: fresh[mode].hit_rate) == "kv"
    assert min(fresh, key=lambda mode: fresh[mode].imbalance) == "heard load"
    old = {mode: scale.Simulation(settings, mode, 3.0).run() for mode in ("kv", "heard load", "random")}
    assert old["kv"].hit_rate < fresh["kv"].hit_rate
    assert old["heard load"].imbalance > fresh["heard load"].imbalance
    assert old["random"] == fresh["random"]
    assert scale.Simulation(settings, "kv", 3.0).run() == old["kv"]

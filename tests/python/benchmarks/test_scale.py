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
    assert fresh["kv"].hit_rate > 2 * max(fresh[mode].hit_rate for mode in fresh if not mode.startswith("kv"))
    assert fresh["kv, load shared"].imbalance < fresh["kv"].imbalance
    assert max(fresh["round_robin"].per_worker) < 2 * min(fresh["round_robin"].per_worker)
    assert min(fresh, key=lambda mode: fresh[mode].imbalance) == "heard load"
    old = {mode: scale.Simulation(settings, mode, 3.0).run() for mode in (*scale._hearing, "random")}
    assert old["kv"].hit_rate < fresh["kv"].hit_rate
    for mode in ("kv, load shared", "heard load"):
        assert old[mode].imbalance > fresh[mode].imbalance
    assert old["random"] == fresh["random"]
    assert scale.Simulation(settings, "kv", 3.0).run() == old["kv"]


def test_one_gateway_knows_its_own_load(scale: ModuleType) -> None:
    """So the events of others do not matter, and it loads the workers evenly."""
    alone = scale.Settings(**{**small, "gateways": 1})
    many = scale.Simulation(scale.Settings(**small), "least_loaded", 0.0).run()
    one = scale.Simulation(alone, "least_loaded", 0.0).run()
    assert one.imbalance < 1.2 < many.imbalance
    assert scale.Simulation(alone, "least_loaded", 3.0).run() == one


def test_small_caches_have_fewer_hits(scale: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = scale.Settings(**small)
    before = scale.Simulation(settings, "kv", 0.0).run()
    monkeypatch.setattr(scale, "_cache_blocks", 200)
    assert scale.Simulation(settings, "kv", 0.0).run().hit_rate < before.hit_rate / 1.5

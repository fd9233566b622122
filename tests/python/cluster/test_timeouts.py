# SPDX-License-Identifier: Apache-2.0
"""The variables of a process for Dynamo's timeouts. test_failover.py has their effect."""

import os

import pytest
from dynamo_llm import InvalidConfigError
from dynamo_llm.runtime.cluster import timeouts
from dynamo_llm.runtime.cluster.timeouts import Timeouts, claim

stall = "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS"
request = ("DYN_TCP_REQUEST_TIMEOUT", "DYN_NATS_REQUEST_TIMEOUT_SECS")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the process one that has not used a cluster."""
    monkeypatch.setattr(timeouts, "_claimed", Timeouts())
    for name in (stall, *request):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


def values() -> list[str | None]:
    """Returns the variables."""
    return [os.environ.get(name) for name in (stall, *request)]


def test_defaults() -> None:
    claim(Timeouts())
    assert values() == ["60", "5", "5"]
    assert timeouts.stall_seconds() == 60


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configuration omits keeps the value of the environment."""
    monkeypatch.setenv(stall, "7")
    claim(Timeouts(request_ms=2000))
    assert values() == ["7", "2", "2"]
    assert timeouts.stall_seconds() == 7


def test_rounding_and_no_limit() -> None:
    """Dynamo counts whole seconds."""
    claim(Timeouts(1500, 1))
    assert values() == ["2", "1", "1"]
    assert timeouts.stall_seconds() == 1.5


def test_no_limit() -> None:
    claim(Timeouts(0))
    assert values()[0] == "0"
    assert timeouts.stall_seconds() is None


def test_several_users() -> None:
    """Whoever configures nothing agrees with everybody."""
    claim(Timeouts())
    claim(Timeouts(3000))
    claim(Timeouts())
    claim(Timeouts(3000, 4000))
    assert values() == ["3", "4", "4"]
    with pytest.raises(InvalidConfigError, match=r'"cluster\.stall_ms".*is 1000.*uses 3000.*one value'):
        claim(Timeouts(1000))
    with pytest.raises(InvalidConfigError, match=r'"cluster\.request_timeout_ms".*is 1, .*uses 4000'):
        claim(Timeouts(None, 1))
    assert values() == ["3", "4", "4"]


def test_clients_without_a_limit() -> None:
    claim(Timeouts())
    with timeouts.unlimited_silence():
        assert values() == [None, "5", "5"]
    assert values() == ["60", "5", "5"]

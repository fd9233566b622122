# SPDX-License-Identifier: Apache-2.0
"""Fixtures that make clusters, and show their logs when a test fails; conftest.py takes them over."""

from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol

import pytest

from cluster_rig.cluster import Cluster
from cluster_rig.combination import Combination

#: The combinations of the fixture ``cluster``.
combinations = ("file-tcp-zmq", "etcd-tcp-zmq", "etcd-nats-nats")

_running: list[Cluster] = []


class NewCluster(Protocol):
    """The fixture ``new_cluster``."""

    def __call__(
        self, combination: str = ..., *, lease_ttl: int = ..., variables: Mapping[str, str] = ...
    ) -> Cluster:
        """Creates a cluster without workers, which ends with the test; the options are those of Cluster."""


def make(name: str, factory: pytest.TempPathFactory, **options: Any) -> Cluster:
    """Creates a cluster, or skips the test and names what is missing."""
    combination = Combination.parse(name)
    if missing := combination.missing():
        pytest.skip(f"a cluster {name} needs {' and '.join(missing)}")
    made = Cluster(combination, factory.mktemp(name), **options)
    _running.append(made)
    return made


def end(cluster: Cluster) -> None:
    """Stops it."""
    _running.remove(cluster)
    cluster.stop()


@pytest.fixture(scope="session", params=combinations)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Provides a cluster with a worker, for all tests of a combination."""
    made = make(request.param, tmp_path_factory)
    try:
        made.add_worker()
        yield made
    finally:
        end(made)


@pytest.fixture
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewCluster]:
    """Creates clusters for one test."""
    mine: list[Cluster] = []

    def new(combination: str = "file-tcp-zmq", **options: Any) -> Cluster:
        mine.append(make(combination, tmp_path_factory, **options))
        return mine[-1]

    yield new
    for each in mine:
        end(each)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """Shows the logs of running clusters if a test fails."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.extend((f"cluster {each.combination.name}", each.logs()) for each in _running)

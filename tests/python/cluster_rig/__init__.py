# SPDX-License-Identifier: Apache-2.0
"""Clusters of NVIDIA Dynamo for tests: real programs on the loopback interface, each a process.

A cluster is named by its combination, ``DISCOVERY-REQUESTPLANE-EVENTPLANE``: ``file-tcp-zmq`` needs no
server, ``etcd-tcp-zmq`` an etcd, ``etcd-nats-nats`` an etcd and a nats-server. Fixtures, for any test in
this folder::

    def test_x(cluster: Cluster) -> None:  # once for each combination, with a sample worker
        with Runtime(engine="dynamo", cluster=cluster.settings) as runtime: ...

    def test_y(new_cluster: NewCluster) -> None:  # creates clusters for one test, without a worker
        mine = new_cluster("etcd-tcp-zmq", lease_ttl=4, variables={"DYN_LOG": "debug"})

``cluster`` is shared by the session: a test must stop only what it added. If a program or a package is
missing, both skip and name it. If a test fails, the ends of the logs of all clusters are shown.

=========================== ==========================================================================
``settings``                the key "cluster" of a runtime's configuration
``environment``             the environment variables that make a process part of it
``model``, ``namespace``    name of the sample workers' model (a folder, with its tokenizer); "dynamo"
``add_worker(delay, ...)``  starts a sample worker with this delay per token; returns once it is known.
                            It has a ``path``, "dynamo.sample.generate", and an ``instance``, its id
``frontend``, ``url``       Dynamo's frontend, started on first use; the URL of its API
``models()``                names of the models that the frontend knows, None if it does not answer
``run(name, command, ...)`` runs any program with ``environment``
``python(name, module)``    the same with this interpreter: ``python("w", "my.module", "--flag")``
``instances(path)``         ids of an endpoint's instances in discovery; of all endpoints without a path
``keys(prefix)``            keys of discovery: "v1/instances/...", "v1/mdc/..."
``etcd``, ``nats``          the servers, None where the combination has none
``wait(condition)``         waits until it is true; fails at a timeout, or if a process exits unexpectedly
``pids()``, ``logs()``      the ids of the live processes; the ends of all logs
``stop()``                  stops everything; called by the fixtures
=========================== ==========================================================================

Every process has ``kill()`` (SIGKILL, like a crash), ``terminate()`` (SIGTERM, then waits), ``wait()``,
``pause()`` and ``resume()`` (it hangs, but its sockets accept), ``pid``, ``is_alive``, ``returncode``,
``log`` (text), ``may_end`` (set it if the process may exit by itself). Servers and the frontend have the
same, and ``start()``, which restarts them on their port and with their data; ``process`` is the current one.

The kernel kills a process with the thread that started it, so start them from the main thread.
"""

from cluster_rig.cluster import Cluster
from cluster_rig.combination import Combination
from cluster_rig.fixtures import NewCluster
from cluster_rig.process import Process
from cluster_rig.server import Etcd, Frontend, Nats, Server
from cluster_rig.worker import Worker

__all__ = ["Cluster", "Combination", "Etcd", "Frontend", "Nats", "NewCluster", "Process", "Server", "Worker"]

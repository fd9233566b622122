# SPDX-License-Identifier: Apache-2.0
"""Clusters of NVIDIA Dynamo for tests: real programs on the loopback, each a process, ended by its id.

A cluster is named by its combination, ``DISCOVERY-REQUESTPLANE-EVENTPLANE``: ``file-tcp-zmq`` needs no
server, ``etcd-tcp-zmq`` an etcd, ``etcd-nats-nats`` an etcd and a nats-server. Fixtures, for any test in
this folder::

    def test_x(cluster: Cluster) -> None:  # once for each combination, with a sample worker
        with Runtime(engine="dynamo", cluster=cluster.settings) as runtime: ...

    def test_y(new_cluster: NewCluster) -> None:  # makes clusters of the test's own, without a worker
        mine = new_cluster("etcd-tcp-zmq", lease_ttl=4, variables={"DYN_LOG": "debug"})

``cluster`` is one for the session: a test leaves it as it was, so it ends nothing that it did not add.
Where a program or a package is missing, both skip and name it. When a test fails, the ends of the logs of
all clusters are shown.

=========================== ==========================================================================
``settings``                the key "cluster" of a runtime's configuration
``environment``             the variables with which a process is part of it
``model``, ``namespace``    name of the sample workers' model (a folder, with its tokenizer); "dynamo"
``add_worker(delay, ...)``  a sample worker that takes so long a token; returns when it is known. It has
                            a ``path``, "dynamo.sample.generate", and an ``instance``, its id
``frontend``, ``url``       Dynamo's frontend, started when it is first asked for; the URL of its API
``models()``                names of the models that the frontend knows, None when it does not answer
``run(name, command, ...)`` any program as a process with ``environment``
``python(name, module)``    the same with this interpreter: ``python("w", "my.module", "--flag")``
``instances(path)``         ids of the instances that discovery has of an endpoint; of all without a path
``keys(prefix)``            keys of discovery: "v1/instances/...", "v1/mdc/..."
``etcd``, ``nats``          the servers, None where the combination has none
``wait(condition)``         until it holds; fails when it does not come, or a process dies unasked
``pids()``, ``logs()``      the ids of the processes that live; the ends of all logs
``stop()``                  ends everything; the fixtures do it
=========================== ==========================================================================

Every process: ``kill()`` as a crash does (SIGKILL), ``terminate()`` (SIGTERM, then waits), ``wait()``,
``pause()`` and ``resume()`` (it hangs, but its sockets accept), ``pid``, ``is_alive``, ``returncode``,
``log`` (text), ``may_end`` (set it where the process may end by itself). Servers and the frontend have the
same, and ``start()``: again on the port and with the data that they had; what they are now is ``process``.

The kernel kills a process with the thread that started it, so start them from the main thread.
"""

from cluster_rig.cluster import Cluster
from cluster_rig.combination import Combination
from cluster_rig.fixtures import NewCluster
from cluster_rig.process import Process
from cluster_rig.server import Etcd, Frontend, Nats, Server
from cluster_rig.worker import Worker

__all__ = ["Cluster", "Combination", "Etcd", "Frontend", "Nats", "NewCluster", "Process", "Server", "Worker"]

# SPDX-License-Identifier: Apache-2.0
"""The sockets at which members of a cluster listen are those of docs/cluster-security.md."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from cluster_rig import NewCluster
from position_client import position_worker

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

own, everywhere = "127.0.0.1", "0.0.0.0"
answers, requests, frontends, events = [own], [own], [own, own], [everywhere]

#: With the discovery "file" and requests over TCP.
sockets = {
    "worker": requests + answers,
    "client": frontends + answers,
    "endpoint": answers,
    "publisher": answers + events,
    "router": answers,
}


@pytest.mark.parametrize("role", sockets)
@pytest.mark.parametrize("combination", ["file-tcp-zmq", "etcd-tcp-zmq", "etcd-nats-nats"])
def test_sockets(new_cluster: NewCluster, combination: str, role: str) -> None:
    mine = new_cluster(combination)
    position_worker(mine)
    expected = list(sockets[role])
    if combination == "etcd-tcp-zmq" and role != "worker":
        expected += requests  # of the endpoint that detects the end of the lease
    if combination == "etcd-nats-nats":
        expected = [address for address in expected if address == own]
        if role == "worker":
            expected.remove(own)
    member = mine.python(
        role, str(Path(__file__).with_name("port_owner.py")), role, json.dumps(mine.settings)
    )
    assert member.wait() == 0, member.log
    (line,) = [line for line in member.log.splitlines() if line.startswith("[")]
    assert json.loads(line) == sorted(expected)

# SPDX-License-Identifier: Apache-2.0
"""The clusters of other tests: Dynamo's frontend and worker over each combination, and their failures."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster, Combination, Etcd, Nats, NewCluster, Process, Server
from cluster_rig import server as servers
from cluster_rig.fixtures import combinations
from cluster_rig.process import find_program
from conftest import tests_dir
from waiting import patience, wait_until

#: The worker generates the tokens 1, 2, 3, ...; this is the text of the first eight.
eight = '!"#$'


def chat(cluster: Cluster, **more: Any) -> list[dict[str, Any]]:
    """Returns the chunks of an answer of the frontend; one if it is not streamed."""
    body = {"model": cluster.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, **more}
    request = urllib.request.Request(f"{cluster.url}/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=patience) as answer:
        text = answer.read().decode()
    if not more.get("stream"):
        return [json.loads(text)]
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]", text
    return [json.loads(event) for event in events]


def answers(cluster: Cluster) -> bool:
    """Whether a chat is answered; a frontend may reject requests for a while after a failure."""
    try:
        (answer,) = chat(cluster)
    except urllib.error.HTTPError as error:
        assert error.code in (404, 500, 503), error.read()
        return False
    assert answer["choices"][0]["message"]["content"] == eight
    return True


def test_chat(cluster: Cluster) -> None:
    """Not streamed."""
    (answer,) = chat(cluster)
    assert answer["choices"][0]["message"]["content"] == eight
    assert answer["choices"][0]["finish_reason"] == "length"


def test_chat_streamed(cluster: Cluster) -> None:
    """Streamed."""
    parts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chat(cluster, stream=True)]
    assert "".join(parts) == eight and len(parts) > 1


def listeners(pid: int) -> list[str]:
    """Returns the addresses that a process listens on, in the kernel's format."""
    found = []
    sockets = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        rows = [line.split() for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]
        found += [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return found


@pytest.mark.skipif(not Path("/proc/self/net").is_dir(), reason="needs Linux's /proc")
def test_where_it_listens(cluster: Cluster) -> None:
    """Sockets listen on the loopback, except those of Dynamo's ZeroMQ publishers, which have no setting."""
    addresses = [address for pid in cluster.pids() for address in listeners(pid)]
    elsewhere = [address for address in addresses if not address.startswith("0100007F:")]
    publishers = cluster.keys("v1/event_channels/") if cluster.combination.event_plane == "zmq" else []
    assert addresses and len(elsewhere) <= len(publishers), elsewhere


@pytest.mark.parametrize("combination", combinations)
def test_a_killed_worker_disappears(new_cluster: NewCluster, combination: str) -> None:
    """It leaves discovery and the frontend, which continues with the other worker."""
    mine = new_cluster(combination, lease_ttl=3)
    victim, other = mine.add_worker(), mine.add_worker()
    mine.wait(lambda: mine.frontend.instances() == {victim.instance, other.instance})
    victim.kill()
    mine.wait(lambda: mine.instances(victim.path) == {other.instance})
    mine.wait(lambda: mine.frontend.instances() == {other.instance})
    mine.wait(lambda: answers(mine))


def test_a_worker_that_is_asked_to_end(cluster: Cluster) -> None:
    """It removes its keys, even if another worker stays."""
    before = cluster.instances()
    worker = cluster.add_worker(path="dynamo.other.generate")
    assert cluster.instances() == before | {worker.instance}
    assert cluster.instances("dynamo.other.generate") == {worker.instance}
    assert f"v1/mdc/dynamo/other/generate/{worker.instance:x}" in cluster.keys("v1/mdc/dynamo/other/")
    assert worker.terminate() == 0
    assert cluster.instances() == before
    # In a folder its model remains until its lease ends.
    assert cluster.etcd is None or not cluster.keys("v1/mdc/dynamo/other/")


def test_etcd_stops_and_returns(new_cluster: NewCluster) -> None:
    """Processes that lose their lease exit; afterwards others join, on the same port."""
    mine = new_cluster("etcd-tcp-zmq", lease_ttl=3)
    assert mine.etcd is not None
    frontend, worker = mine.frontend, mine.add_worker()
    url = mine.etcd.url
    frontend.process.may_end = True
    mine.etcd.terminate()
    assert worker.wait() == 0 and frontend.process.wait() == 0
    mine.etcd.start()
    assert mine.etcd.url == url
    # Its data is restored: the lease of the dead worker starts again.
    assert worker.instance in mine.instances(worker.path)
    frontend.start()
    new = mine.add_worker()
    mine.wait(lambda: mine.frontend.instances() == {new.instance} and answers(mine))


def test_nats_stops_and_returns(new_cluster: NewCluster) -> None:
    """Requests fail while it is down; no process needs a restart."""
    # How long a request waits for NATS, and a worker that did not answer is excluded.
    brief = {"DYN_NATS_REQUEST_TIMEOUT_SECS": "1", "DYN_RUNTIME_INHIBITED_DURATION_SECS": "1"}
    mine = new_cluster("etcd-nats-nats", variables=brief)
    assert mine.nats is not None
    mine.add_worker()
    assert answers(mine)
    mine.nats.kill()
    assert not answers(mine)
    mine.nats.start()
    mine.wait(lambda: answers(mine))


def test_a_server_that_hangs(new_cluster: NewCluster) -> None:
    """It accepts connections, and does not answer until it resumes."""
    mine = new_cluster("etcd-tcp-zmq")
    assert mine.etcd is not None
    mine.etcd.pause()
    with socket.create_connection(("127.0.0.1", mine.etcd.port), timeout=patience):
        pass
    with pytest.raises(TimeoutError):
        servers.ask(f"{mine.etcd.url}/health", timeout=0.2)
    mine.etcd.resume()
    assert servers.ask(f"{mine.etcd.url}/health")["health"] == "true"


@pytest.mark.parametrize("kind", [Etcd, Nats])
def test_a_port_that_is_taken(kind: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another port is tried."""
    if find_program(kind.name) is None:
        pytest.skip(f"needs the program {kind.name}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter((taken.getsockname()[1], servers.free_port()))
        monkeypatch.setattr(servers, "free_port", lambda: next(ports))
        server = kind(tmp_path)
    try:
        assert server.is_alive and [each.is_alive for each in server.processes] == [False, True]
    finally:
        server.kill()


def test_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing programs are named."""
    monkeypatch.setattr("cluster_rig.combination.find_program", lambda name: None)
    assert Combination.parse("etcd-nats-nats").missing()[:2] == [
        "the program etcd",
        "the program nats-server",
    ]
    with pytest.raises(AssertionError, match="etcd-udp-zmq"):
        Combination.parse("etcd-udp-zmq")


def test_a_program_of_the_test(new_cluster: NewCluster) -> None:
    """It has the cluster's variables; if it exits unexpectedly, wait() fails with its log."""
    mine = new_cluster("file-tcp-zmq")
    code = "import os, sys; print(*map(os.environ.get, sys.argv[1:])); raise SystemExit('enough')"
    command = [sys.executable, "-c", code, "DYN_FILE_KV", "EXTRA", "HTTP_PROXY"]
    program = mine.run("mine", command, {"EXTRA": "more"})
    with pytest.raises(AssertionError, match=r"ended: mine(?s:.*)enough"):
        mine.wait(lambda: False)
    assert program.wait() == 1
    assert sorted(program.log.split()) == [mine.settings["path"], "None", "enough", "more"]


def test_no_process_outlives_the_tests(tmp_path: Path) -> None:
    """Not even if the tests are killed, so that no fixture stops anything."""
    if find_program("setpriv") is None:
        pytest.skip("needs the program setpriv")
    code = f"""
import os, sys
sys.path.insert(0, {str(tests_dir / "python")!r})
from pathlib import Path
from cluster_rig import Process
print(Process("sleeper", ["sleep", "1000"], {{}}, Path({str(tmp_path)!r})).pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # Until then setpriv may not have asked for the signal yet that the parent's end sends.
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        parent.kill()
    wait_until(lambda: is_gone(pid), lambda: f"{pid} lives")


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if its status has not been read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_process(tmp_path: Path) -> None:
    """Its exit status and output."""
    process = Process("words", ["sh", "-c", "echo a; echo b >&2; exit 3"], {}, tmp_path)
    assert (process.wait(), process.is_alive, process.log) == (3, False, "a\nb\n")

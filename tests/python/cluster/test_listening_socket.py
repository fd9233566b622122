# SPDX-License-Identifier: Apache-2.0
"""TCP_NODELAY for the connections that a worker accepts, and for no others."""

import importlib.util
import os
import socket
import sys
from pathlib import Path

import pytest
from cluster_rig import NewCluster
from cluster_worker import Worker
from dynamo_llm.runtime.cluster.listening_socket import send_at_once

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)


def is_set(one: socket.socket) -> bool:
    """Whether TCP_NODELAY is set."""
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def listening_ports(*, with_option: bool) -> set[int]:
    """Returns the ports of the listening sockets of this process whose TCP_NODELAY is set, or is not."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if (
                    one.family in (socket.AF_INET, socket.AF_INET6)
                    and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    and is_set(one) == with_option
                ):
                    found.add(one.getsockname()[1])
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("family", "bound", "text"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1:{}"),
        (socket.AF_INET, "0.0.0.0", "tcp://127.0.0.1:{}/a1b2/dynamo/backend/generate"),
        (socket.AF_INET6, "::1", "[::1]:{}/a1b2"),
    ],
)
def test_accepted_connections_inherit_it(family: socket.AddressFamily, bound: str, text: str) -> None:
    try:
        mine, other = (socket.create_server((bound, 0), family=family) for _ in range(2))
    except OSError:
        pytest.skip(f"this machine has no {bound}")
    with mine, other:
        assert send_at_once(text.format(mine.getsockname()[1]))
        assert is_set(mine) and not is_set(other)
        host = text.split(":{}", maxsplit=1)[0].removeprefix("tcp://").strip("[]")
        with socket.create_connection((host, mine.getsockname()[1])), mine.accept()[0] as accepted:
            assert is_set(accepted)


def test_addresses_without_a_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for address in (f"127.0.0.1:{port}", "somewhere:80", "nonsense", "127.0.0.1:x", ""):
        assert not send_at_once(address), address


def test_a_worker(new_cluster: NewCluster) -> None:
    """The socket at the address that it announces; a socket of the host stays as it is."""
    if importlib.util.find_spec("dynamo") is None:
        pytest.skip("needs the extra: pip install '.[dynamo]'")
    mine = new_cluster()
    engine = {"engine": "sequence:SequenceEngine", "python": {"path": [str(Path(__file__).parent)]}}
    with socket.create_server(("127.0.0.1", 0)) as hosts, Worker(mine, engine, model={"name": "sequence"}):
        (card,) = Path(mine.settings["path"], "v1", "instances").iterdir()
        assert any(f":{port}/" in card.read_text() for port in listening_ports(with_option=True))
        assert hosts.getsockname()[1] in listening_ports(with_option=False)

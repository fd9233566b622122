# SPDX-License-Identifier: Apache-2.0
"""Ports of the loopback interface for servers."""

import random
import socket
from pathlib import Path


def free_port() -> int:
    """Returns an unused port.

    It is below the kernel's ephemeral ports. So no client gets it by chance while its server is down, and a
    client that connects to it in the meantime does not connect to itself.
    """
    end = 32768
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if limits.exists():
        end = max(12000, min(end, int(limits.read_text().split()[0])))
    while True:
        port = random.randrange(10000, end)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

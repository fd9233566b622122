# SPDX-License-Identifier: Apache-2.0
"""The sockets on which Dynamo receives requests: those of workers, and of frontends over HTTP.

Dynamo sets TCP_NODELAY for the connections that it opens, but not for those that it accepts. A worker
acknowledges the requests of a client on one connection, so from a few concurrent requests on, the second
acknowledgment waited until the client's kernel confirmed the first, 40 milliseconds later; so did the second
token of an answer over HTTP. On Linux, accepted connections inherit the option from the listening socket.
"""

import contextlib
import ipaddress
import os
import socket
import sys
from pathlib import Path

_listening = "0A"  # TCP_LISTEN in the kernel's tables


def send_at_once(address: str) -> bool:
    """Sets TCP_NODELAY for the connections that will be accepted at an address of this process.

    Finds the socket in the kernel's table, so that no other socket of the process is touched. Linux only. May
    be called on any thread.

    :param address: ``HOST:PORT``, also with ``tcp://`` before it and a path behind it.
    :returns: whether the socket was found.
    """
    host, _, port = address.removeprefix("tcp://").partition("/")[0].rpartition(":")
    try:
        inode = _inode(ipaddress.ip_address(host.strip("[]")), int(port))
    except ValueError:  # not an address
        return False
    for file in _entries(Path("/proc/self/fd")) if inode else []:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(file) == f"socket:[{inode}]":
                with socket.socket(fileno=os.dup(int(file.name))) as found:
                    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return True
    return False


def _inode(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str | None:
    """Returns the number of the socket that listens at an address, on this host or for all addresses."""
    table = Path("/proc/self/net", "tcp" if host.version == 4 else "tcp6")
    # The kernel prints the words of an address in the byte order of the machine.
    order = -1 if sys.byteorder == "little" else 1
    words = [host.packed[at : at + 4][::order].hex().upper() for at in range(0, len(host.packed), 4)]
    wanted = {f"{address}:{port:04X}" for address in ("".join(words), "0" * 2 * len(host.packed))}
    with contextlib.suppress(OSError), table.open() as lines:
        for line in lines:
            fields = line.split()
            if fields[1] in wanted and fields[3] == _listening:
                return fields[9]
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # not Linux
        return []

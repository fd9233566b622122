# SPDX-License-Identifier: Apache-2.0
"""The sockets on which Dynamo receives requests: those of workers, and of frontends over HTTP.

Dynamo sets TCP_NODELAY for the connections that it opens, but not for those that it accepts. A worker
acknowledges the requests of a client on one connection, so from a few concurrent requests on, the second
acknowledgment waited until the client's kernel confirmed the first, 40 milliseconds later; so did the second
token of an answer over HTTP. On Linux, accepted connections inherit the option from the listening socket.
"""

import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

#: SO_ATTACH_FILTER of Linux, on all machines that this package is built for.
_attach_filter = 26
_listening = "0A"  # TCP_LISTEN in the kernel's tables


def send_at_once(address: str) -> bool:
    """Sets TCP_NODELAY for the connections that will be accepted at an address of this process. Linux only.
    May be called on any thread.

    :param address: ``HOST:PORT``, also with ``tcp://`` before it and a path behind it.
    :returns: whether the socket was found.
    """
    with _found(address) as listener:
        if listener is None:
            return False
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True


def accept_only_from(address: str, port: int) -> bool:
    """Makes the kernel drop all packets to a listening socket, and to connections that it will accept, unless
    they come from a port: who holds the port, which other users cannot bind then, is the only one that can
    connect. Linux only. May be called on any thread.

    :param address: as for :func:`send_at_once`; of the loopback interface.
    :param port: 0: from none.
    :returns: whether the socket was found, and the kernel has such filters.
    """
    # Classic BPF, which begins at the TCP header: load the source port; equal? all bytes : none.
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in ((0x28, 0, 0, 0), (0x15, 0, 1, port), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))
    )
    memory = ctypes.create_string_buffer(program, len(program))
    with _found(address) as listener, contextlib.suppress(OSError):
        if listener is not None:
            filter = struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
            listener.setsockopt(socket.SOL_SOCKET, _attach_filter, filter)
            return True
    return False


def close_accepted(address: str) -> None:
    """Shuts down connections that this process has accepted at an address. May be called on any thread."""
    host, _, port = address.rpartition(":")
    for file in _entries(Path("/proc/self/fd")):
        with _opened(file, "socket:") as each, contextlib.suppress(OSError):
            if each is None or each.family != socket.AF_INET or each.getsockname() != (host, int(port)):
                continue
            each.getpeername()  # an error for a listening socket
            each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _opened(file: Path, kind: str) -> Iterator[socket.socket | None]:
    """Opens a descriptor of this process again; None if it is not of this kind, or was closed meanwhile.

    :param file: in ``/proc/self/fd``.
    :param kind: how its target begins.
    """
    descriptor = -1
    with contextlib.suppress(OSError):
        if os.readlink(file).startswith(kind):
            descriptor = os.dup(int(file.name))
    found: socket.socket | None = None
    try:
        if descriptor >= 0:
            found = socket.socket(fileno=descriptor)
    except OSError:  # another file has its number now
        os.close(descriptor)
    if found is None:
        yield None
        return
    with found:
        yield found


@contextlib.contextmanager
def _found(address: str) -> Iterator[socket.socket | None]:
    """Finds the listening socket of an address in the kernel's table, so that no other socket of the process
    is touched.
    """
    host, _, port = address.removeprefix("tcp://").partition("/")[0].rpartition(":")
    try:
        inode = _inode(ipaddress.ip_address(host.strip("[]")), int(port))
    except ValueError:  # not an address
        inode = None
    for file in _entries(Path("/proc/self/fd")) if inode else []:
        with _opened(file, f"socket:[{inode}]") as found:
            if found is not None:
                yield found
                return
    yield None


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

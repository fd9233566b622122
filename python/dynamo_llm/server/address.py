# SPDX-License-Identifier: Apache-2.0
"""The address at which a server listens."""

import contextlib
import errno
import ipaddress
import socket
from dataclasses import dataclass

from dynamo_llm.errors import InvalidConfigError, SystemFailedError

#: Errors of an address that this machine does not have, such as ::1 in a container without IPv6.
_absent = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True)
class Address:
    """A host, as a name or an IP address without brackets, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parses ``HOST:PORT``, ``[IPv6]:PORT``, or ``:PORT`` and ``PORT`` for the loopback interface.

        :raises InvalidConfigError: the text is none of these.
        """
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = port = ""  # an IPv6 address without brackets
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise InvalidConfigError(
                f'"{text}" is not an address; give HOST:PORT, such as 127.0.0.1:8000 or [::1]:8000, '
                f"with a port from 0 to 65535 (0: any free port)"
            )
        return cls(host or "127.0.0.1", int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        if self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at the end."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def bind(self) -> tuple["Address", list[socket.socket]]:
        """Binds a socket to each IP address of the host. Nothing can connect until they listen. May block for
        name resolution.

        :returns: the address with the port that was chosen for port 0, and the sockets.
        :raises SystemFailedError: the host has no address on this machine, or the port is taken.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._failed(error) from error
        port, sockets, last = self.port, [], OSError("it has no address")
        try:
            for family, kind, protocol, _, where in dict.fromkeys(found):
                try:
                    sockets.append(_bound(family, kind, protocol, (where[0], port, *where[2:])))
                    port = sockets[0].getsockname()[1]
                except OSError as error:
                    if error.errno not in _absent:
                        raise
                    last = error
            if not sockets:
                raise last
        except OSError as error:
            for one in sockets:
                one.close()
            raise self._failed(error) from error
        return Address(self.host, port), sockets

    def _failed(self, error: OSError) -> SystemFailedError:
        return SystemFailedError(f"cannot listen at {self.host}:{self.port}: {error.strerror or error}")


def _bound(family: int, kind: int, protocol: int, where: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made

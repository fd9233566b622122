# SPDX-License-Identifier: Apache-2.0
"""A process's sockets and credentials in a cluster: ``cluster.host`` and ``cluster.tls``.

NVIDIA Dynamo reads them from environment variables: those of etcd and NATS whenever a runtime is created,
those of its own sockets once in a process.
"""

import ipaddress
import os
import re
import threading
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster.credentials import Etcd, Nats, RequestPlane, Variables, read
from dynamo_llm.runtime.secret import shown
from dynamo_llm.runtime.urls import shown_url

_without_tls = {
    "event_plane": "NVIDIA Dynamo does not support TLS over ZeroMQ; to encrypt events use "
    '"event_plane": "nats" and "tls.nats"',
    "response_plane": 'responses use the certificates of "tls.request_plane"',
    "file": 'the "discovery" "file" is a folder; protect it by its permissions',
    "kubernetes": "access to Kubernetes uses the pod's service account",
}


@dataclass(frozen=True)
class _Tls:
    """The keys of ``cluster.tls``."""

    etcd: dict[str, Any] | None = None
    nats: dict[str, Any] | None = None
    request_plane: dict[str, Any] | None = None


@dataclass(frozen=True)
class Planes:
    """The validated ``cluster.host`` and ``cluster.tls``. Create them with :meth:`read`."""

    host: str = "127.0.0.1"
    """IP address that this process's sockets bind to, and that other processes connect to."""
    etcd: Etcd | None = None
    """Credentials for etcd; None: those of Dynamo's environment variables."""
    nats: Nats | None = None
    """Credentials for NATS; None: those of Dynamo's environment variables."""
    request_plane: RequestPlane | None = None
    """Certificates of requests; None: those of Dynamo's environment variables."""

    @classmethod
    def read(cls, host: str, tls: Mapping[str, Any], where: str = "cluster") -> "Planes":
        """Validates the keys, and the files that they name.

        :param host: ``cluster.host``.
        :param tls: ``cluster.tls``.
        :param where: the path of ``cluster`` in the configuration, for messages.
        :raises InvalidConfigError: an unknown key (the nearest known one is named), a wrong value, a file
            that is unreadable or not of the right kind, a plane without TLS support.
        """
        try:
            is_valid = not ipaddress.ip_address(host).is_unspecified
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InvalidConfigError(
                f'"{where}.host" of the configuration must be an IP address of this machine that other '
                f'processes of the cluster can connect to, not "{_shown_host(host)}"'
            )
        where = f"{where}.tls"
        for key in tls:
            if key in _without_tls:
                raise InvalidConfigError(f'"{where}.{key}" of the configuration: {_without_tls[key]}')
        given = options.read(_Tls, tls, where)
        return cls(
            host,
            None if given.etcd is None else read(Etcd, given.etcd, f"{where}.etcd"),
            None if given.nats is None else read(Nats, given.nats, f"{where}.nats"),
            None
            if given.request_plane is None
            else read(RequestPlane, given.request_plane, f"{where}.request_plane"),
        )

    def check_urls(self, etcd: Iterable[str], nats: Iterable[str], where: str = "cluster") -> None:
        """Checks that the servers' addresses match the credentials.

        :raises InvalidConfigError: TLS without ``https:`` or ``tls:``, or the reverse; a user in a URL.
        """
        etcd_has_tls = bool(self.etcd and self.etcd.ca) or (
            self.etcd is None and bool(os.environ.get("ETCD_AUTH_CA"))
        )
        for name, urls, scheme, has_tls in (
            ("etcd", etcd, "https", etcd_has_tls),
            ("nats", nats, "tls", bool(self.nats and self.nats.ca)),
        ):
            for url in urls:
                parts = urllib.parse.urlsplit(url)
                if parts.username is not None or parts.password is not None:
                    raise InvalidConfigError(
                        f'"{where}.{name}" of the configuration has a user in a URL, which NVIDIA Dynamo '
                        f'ignores; set it in "{where}.tls.{name}" instead'
                    )
                if has_tls and parts.scheme != scheme:
                    raise InvalidConfigError(
                        f'"{where}.{name}" of the configuration has "{shown_url(url)}", which must begin '
                        f'with {scheme}:// to be used with the certificates of "{where}.tls.{name}"'
                    )
                if name == "etcd" and parts.scheme == "https" and not has_tls:
                    raise InvalidConfigError(
                        f'"{where}.etcd" of the configuration has "{shown_url(url)}", which requires '
                        f'"ca", "cert", and "key" in "{where}.tls.etcd"'
                    )

    def of_construction(self) -> Variables:
        """Returns the variables to set only while a Dynamo runtime is created: they contain secrets, which
        child processes would inherit.
        """
        variables: Variables = {}
        for plane in (self.etcd, self.nats):
            variables.update(plane.variables() if plane else {})
        return variables

    def of_process(self) -> Variables:
        """Returns the variables of Dynamo's own sockets, without secrets. See :func:`claim`."""
        variables: Variables = dict.fromkeys(
            ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST"), self.host
        )
        # The status server is off unless the user sets DYN_SYSTEM_PORT, and then may set this, too.
        variables["DYN_SYSTEM_HOST"] = os.environ.get("DYN_SYSTEM_HOST", self.host)
        variables.update(self.request_plane.variables() if self.request_plane else {})
        return variables


def _shown_host(host: str) -> str:
    return host if re.fullmatch(r"[0-9a-fA-F]*[.:][0-9a-fA-F.:]*", host) else shown(host)


_claimed: Planes | None = None
_lock = threading.Lock()


def claim(planes: Planes, where: str = "cluster") -> None:
    """Sets the variables of Dynamo's own sockets, before the process's first Dynamo runtime is created.

    Dynamo opens the request socket, and reads the certificates, once in a process, even if all of its
    runtimes have ended in between. So the values of the first runtime apply to all later ones. Thread-safe.

    :raises InvalidConfigError: an earlier runtime used other values.
    """
    global _claimed
    with _lock:
        if _claimed is not None:
            _check_same(_claimed, planes, where)
            return
        for name, value in planes.of_process().items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _claimed = planes


def _check_same(first: Planes, second: Planes, where: str) -> None:
    for key, one, other in (
        ("host", first.host, second.host),
        ("tls.request_plane", first.request_plane, second.request_plane),
    ):
        if one != other:
            raise InvalidConfigError(
                f'"{where}.{key}" of the configuration is {_shown(other)}, but the first runtime of this '
                f"process used {_shown(one)}: NVIDIA Dynamo reads it once in a process"
            )


def _shown(value: object) -> str:
    return "not set" if value is None else f'"{value}"' if isinstance(value, str) else repr(value)

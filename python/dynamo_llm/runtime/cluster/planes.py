# SPDX-License-Identifier: Apache-2.0
"""A process's side of its connections to a cluster: ``cluster.host`` and ``cluster.tls``.

NVIDIA Dynamo takes them from environment variables: those of etcd and NATS whenever a runtime is made, those
of its own sockets once in the life of a process.
"""

import ipaddress
import os
import threading
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.cluster.credentials import Etcd, Nats, RequestPlane, Variables, check_keys, read

_without_tls = {
    "event_plane": "NVIDIA Dynamo has no TLS over ZeroMQ; events are encrypted with "
    '"event_plane": "nats" and "tls.nats"',
    "response_plane": 'answers travel with the certificates of "tls.request_plane"',
    "file": 'the "discovery" "file" is a folder; its permissions protect it',
    "kubernetes": "Kubernetes is reached with the pod's service account",
}


@dataclass(frozen=True)
class Planes:
    """``cluster.host`` and ``cluster.tls``, checked. Make them with :meth:`read`."""

    host: str = "127.0.0.1"
    """IP address that this process's sockets are bound to, and that the others reach it at."""
    etcd: Etcd | None = None
    """How etcd is reached; None: as Dynamo's environment variables say."""
    nats: Nats | None = None
    """How NATS is reached; None: as Dynamo's environment variables say."""
    request_plane: RequestPlane | None = None
    """How requests are protected; None: as Dynamo's environment variables say."""

    @classmethod
    def read(cls, host: str, tls: Mapping[str, Any], where: str = "cluster") -> "Planes":
        """Check what the configuration says. Reads the files that it names.

        :param host: ``cluster.host``.
        :param tls: ``cluster.tls``.
        :param where: the path of ``cluster`` in the configuration, for messages.
        :raises InvalidConfigError: an unknown key (the nearest known one is named), a wrong value, a file
            that cannot be read or is not what it should be, a plane that has no TLS.
        """
        try:
            is_right = not ipaddress.ip_address(host).is_unspecified
        except ValueError:
            is_right = False
        if not is_right:
            raise InvalidConfigError(
                f'"{where}.host" of the configuration must be an IP address of this machine that the others '
                f'reach, not "{host}"'
            )
        kinds = {"etcd": Etcd, "nats": Nats, "request_plane": RequestPlane}
        where = f"{where}.tls"
        for key in tls:
            if key in _without_tls:
                raise InvalidConfigError(f'"{where}.{key}" of the configuration: {_without_tls[key]}')
        check_keys(tls, kinds, where)
        return cls(host, **{key: read(kinds[key], tls[key], f"{where}.{key}") for key in tls})

    def check_urls(self, etcd: Iterable[str], nats: Iterable[str], where: str = "cluster") -> None:
        """Check that addresses of servers go with this.

        :raises InvalidConfigError: TLS without ``https:`` or ``tls:``, or the reverse; a password in a URL.
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
                        f'does not read: it goes into "{where}.tls.{name}"'
                    )
                if has_tls and parts.scheme != scheme:
                    raise InvalidConfigError(
                        f'"{where}.{name}" of the configuration has "{url}", which must begin with '
                        f'{scheme}:// to be used with the certificates of "{where}.tls.{name}"'
                    )
                if name == "etcd" and parts.scheme == "https" and not has_tls:
                    raise InvalidConfigError(
                        f'"{where}.etcd" of the configuration has "{url}", for which NVIDIA Dynamo needs '
                        f'"ca", "cert" and "key" in "{where}.tls.etcd"'
                    )

    def of_construction(self) -> Variables:
        """Variables to be set while one of Dynamo's runtimes is made, and not any longer: they hold secrets,
        which child processes would inherit.
        """
        variables: Variables = {}
        for plane in (self.etcd, self.nats):
            variables.update(plane.variables() if plane else {})
        return variables

    def of_process(self) -> Variables:
        """Variables of Dynamo's own sockets, without secrets. See :func:`claim`."""
        variables: Variables = dict.fromkeys(
            ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST"), self.host
        )
        # The status server is off unless DYN_SYSTEM_PORT is set; whoever does that may set this, too.
        variables["DYN_SYSTEM_HOST"] = os.environ.get("DYN_SYSTEM_HOST", self.host)
        variables.update(self.request_plane.variables() if self.request_plane else {})
        return variables


_claimed: Planes | None = None
_lock = threading.Lock()


def claim(planes: Planes, where: str = "cluster") -> None:
    """Set the variables of Dynamo's own sockets, before the process's first runtime of Dynamo is made.

    Dynamo opens the socket for requests, and reads the certificates, once in the life of a process, also if
    all of its runtimes are gone in between. So what the first one says holds for all later ones. Any thread.

    :raises InvalidConfigError: another one was first, and said something else.
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
                f'"{where}.{key}" of the configuration is {_said(other)}, but the first runtime of this '
                f"process said {_said(one)}: NVIDIA Dynamo reads it once in a process"
            )


def _said(value: object) -> str:
    return "not there" if value is None else f'"{value}"' if isinstance(value, str) else repr(value)

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
    def read(cls, host: str, tls: Mapping[str, Any]) -> "Planes":
        """Validates the keys, and the files that they name.

        :raises InvalidConfigError: an unknown key (the nearest known one is named), a wrong value, a file
            that is unreadable or not of the right kind, a plane without TLS support.
        """
        try:
            is_valid = not ipaddress.ip_address(host).is_unspecified
        except ValueError:
            is_valid = False
        if not is_valid:
            looks_like_one = re.fullmatch(r"[0-9a-fA-F]*[.:][0-9a-fA-F.:]*", host)
            raise InvalidConfigError(
                f'"cluster.host" of the configuration must be an IP address of this machine that other '
                f'processes of the cluster can connect to, not "{host if looks_like_one else shown(host)}"'
            )
        for key in tls:
            if key in _without_tls:
                raise InvalidConfigError(f'"cluster.tls.{key}" of the configuration: {_without_tls[key]}')
        given = options.read(_Tls, tls, "cluster.tls")
        requests = given.request_plane
        return cls(
            host,
            None if given.etcd is None else read(Etcd, given.etcd, "cluster.tls.etcd"),
            None if given.nats is None else read(Nats, given.nats, "cluster.tls.nats"),
            None if requests is None else read(RequestPlane, requests, "cluster.tls.request_plane"),
        )

    def check_urls(self, etcd: Iterable[str], nats: Iterable[str]) -> None:
        """Checks that the servers' addresses match the credentials.

        :raises InvalidConfigError: TLS without ``https:`` or ``tls:``, or the reverse; a user in a URL.
        """
        etcd_ca = os.environ.get("ETCD_AUTH_CA") if self.etcd is None else self.etcd.ca
        for name, urls, scheme, has_tls in (
            ("etcd", etcd, "https", bool(etcd_ca)),
            ("nats", nats, "tls", bool(self.nats and self.nats.ca)),
        ):
            for url in urls:
                parts = urllib.parse.urlsplit(url)
                if parts.username is not None or parts.password is not None:
                    raise InvalidConfigError(
                        f'"cluster.{name}" of the configuration has a user in a URL, which NVIDIA Dynamo '
                        f'ignores; set it in "cluster.tls.{name}" instead'
                    )
                if has_tls and parts.scheme != scheme:
                    raise InvalidConfigError(
                        f'"cluster.{name}" of the configuration has "{shown_url(url)}", which must begin '
                        f'with {scheme}:// to be used with the certificates of "cluster.tls.{name}"'
                    )
                if name == "etcd" and parts.scheme == "https" and not has_tls:
                    raise InvalidConfigError(
                        f'"cluster.etcd" of the configuration has "{shown_url(url)}", which requires '
                        f'"ca", "cert", and "key" in "cluster.tls.etcd"'
                    )

    def of_construction(self) -> Variables:
        """Returns the variables to set only while a Dynamo runtime is created: they contain secrets, which
        child processes would inherit.
        """
        etcd, nats = (plane.variables() if plane else {} for plane in (self.etcd, self.nats))
        return etcd | nats

    def of_process(self) -> Variables:
        """Returns the variables of Dynamo's own sockets, without secrets. See :func:`claim`."""
        variables: Variables = dict.fromkeys(
            ("DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST", "DYN_EVENT_PLANE_HOST"), self.host
        )
        # The status server is off unless the user sets DYN_SYSTEM_PORT, and then may set this, too.
        variables["DYN_SYSTEM_HOST"] = os.environ.get("DYN_SYSTEM_HOST", self.host)
        return variables | (self.request_plane.variables() if self.request_plane else {})


_claimed: Planes | None = None
_lock = threading.Lock()


def claimed() -> Planes:
    """Returns what applies to the next runtime of this process that does not need other values."""
    with _lock:
        return _claimed or Planes()


def claim(planes: Planes) -> None:
    """Sets the variables of Dynamo's own sockets, before the process's first Dynamo runtime is created.

    Dynamo opens the request socket, and reads the certificates, once in a process, even if all of its
    runtimes have ended in between. So the values of the first runtime apply to all later ones. Thread-safe.

    :raises InvalidConfigError: an earlier runtime used other values.
    """
    global _claimed
    with _lock:
        if _claimed is None:
            set_variables(planes.of_process())
            _claimed = planes
        for key, first, given in (
            ("host", _claimed.host, planes.host),
            ("tls.request_plane", _claimed.request_plane, planes.request_plane),
        ):
            if first != given:
                raise InvalidConfigError(
                    f'"cluster.{key}" of the configuration is {_shown(given)}, but the first runtime of this '
                    f"process used {_shown(first)}: NVIDIA Dynamo reads it once in a process"
                )


def set_variables(variables: Variables) -> None:
    """Sets environment variables, or removes those whose value is None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value


def _shown(value: object) -> str:
    return "not set" if value is None else f'"{value}"' if isinstance(value, str) else repr(value)

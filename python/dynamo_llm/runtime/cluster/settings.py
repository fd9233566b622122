# SPDX-License-Identifier: Apache-2.0
"""The configuration's ``cluster``: how a process reaches a cluster of NVIDIA Dynamo."""

import dataclasses
import difflib
import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.cluster.planes import Planes
from dynamo_llm.runtime.urls import without_password

Discovery = Literal["etcd", "file", "kubernetes"]
Router = Literal["round_robin", "random", "power_of_two", "kv", "least_loaded", "direct"]
RequestPlane = Literal["tcp", "nats"]
EventPlane = Literal["zmq", "nats"]

_ETCD = "http://127.0.0.1:2379"
_NATS = "nats://127.0.0.1:4222"


@dataclass(frozen=True)
class Settings:
    """The keys of ``cluster``, checked. Make them with :meth:`read`.

    Addresses that the configuration leaves out are those of Dynamo's environment variables
    ``ETCD_ENDPOINTS``, ``NATS_SERVER`` and ``DYN_FILE_KV``, as in a container that Dynamo's operator started.
    """

    namespace: str = "dynamo"
    """Namespace of Dynamo whose models are seen, and which endpoints without one belong to."""
    discovery: Discovery = "etcd"
    """Where processes find each other."""
    etcd: tuple[str, ...] = ()
    """URLs of etcd's servers; of a cluster of etcd, some of its members."""
    path: str = ""
    """Folder of the discovery ``file``, which all processes share."""
    router: Router = "round_robin"
    """How a client chooses the worker of a request."""
    router_options: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of Dynamo's ``KvRouterConfig``, for the router ``kv``."""
    migration_limit: int = 3
    """How often a request whose worker died goes on with another one; 0 for never."""
    request_plane: RequestPlane = "tcp"
    """What requests travel on."""
    event_plane: EventPlane = "zmq"
    """What KV events and load reports travel on."""
    nats: tuple[str, ...] = ()
    """URLs of NATS, where a plane is ``nats``; the first that answers is used."""
    planes: Planes = field(default_factory=Planes)
    """The keys ``host`` and ``tls``: address of this process's sockets; certificates and passwords."""
    connect_timeout_ms: int = 5000
    """How long to wait for servers to answer at the start, in milliseconds."""
    lease_ttl_s: int | None = None
    """Seconds until others forget a process that died, with the discovery ``etcd``; None: Dynamo's own."""

    @classmethod
    def read(cls, given: Mapping[str, Any], where: str = "cluster") -> "Settings":
        """Check what the configuration says.

        :param given: the object ``cluster``.
        :param where: its path in the configuration, for messages.
        :raises InvalidConfigError: an unknown key (the nearest known one is named), or a wrong value.
        """
        reader = _Reader(given, where)
        reader.check_keys(
            [one.name for one in dataclasses.fields(cls) if one.name != "planes"] + ["host", "tls"]
        )
        discovery = cast(Discovery, reader.choice("discovery", get_args(Discovery), cls.discovery))
        request_plane = cast(
            RequestPlane, reader.choice("request_plane", get_args(RequestPlane), cls.request_plane)
        )
        event_plane = cast(EventPlane, reader.choice("event_plane", get_args(EventPlane), cls.event_plane))
        uses_nats = "nats" in (request_plane, event_plane)
        if discovery != "etcd":
            reader.refuse(("etcd", "lease_ttl_s"), f'is for the "discovery" "etcd", not "{discovery}"')
        if discovery != "file":
            reader.refuse(("path",), f'is for the "discovery" "file", not "{discovery}"')
        if not uses_nats:
            reader.refuse(("nats",), 'needs "request_plane" or "event_plane" to be "nats"')
        router = cast(Router, reader.choice("router", get_args(Router), cls.router))
        if router != "kv":
            reader.refuse(("router_options",), f'is for the "router" "kv", not "{router}"')
        etcd = reader.urls("etcd", ("http", "https"), "ETCD_ENDPOINTS", _ETCD) if discovery == "etcd" else ()
        nats = reader.urls("nats", ("nats", "tls"), "NATS_SERVER", _NATS) if uses_nats else ()
        planes = Planes.read(reader.text("host", Planes.host), reader.mapping("tls"), where)
        planes.check_urls(etcd, nats, where)
        return cls(
            namespace=reader.name("namespace", cls.namespace),
            discovery=discovery,
            etcd=etcd,
            path=reader.folder("path") if discovery == "file" else "",
            router=router,
            router_options=reader.mapping("router_options"),
            migration_limit=reader.integer("migration_limit", cls.migration_limit, 0, 1000),
            request_plane=request_plane,
            event_plane=event_plane,
            nats=nats,
            planes=planes,
            connect_timeout_ms=reader.integer("connect_timeout_ms", cls.connect_timeout_ms, 1, 3_600_000),
            lease_ttl_s=reader.integer("lease_ttl_s", 0, 1, 3600) if "lease_ttl_s" in given else None,
        )

    @property
    def connection_key(self) -> tuple[Any, ...]:
        """Equal for settings that may share a connection."""
        return (
            self.discovery,
            self.etcd,
            self.path,
            self.request_plane,
            self.event_plane,
            self.nats,
            self.planes,
            self.lease_ttl_s,
        )

    @property
    def address(self) -> str:
        """Where the discovery is, for messages."""
        if self.discovery == "etcd":
            return "etcd at " + ", ".join(without_password(url) for url in self.etcd)
        return f"the folder {self.path}" if self.discovery == "file" else "Kubernetes"


class _Reader:
    """Reads keys of one object, with errors that name them."""

    def __init__(self, given: Mapping[str, Any], where: str) -> None:
        self._given = given
        self._where = where

    def check_keys(self, known: list[str]) -> None:
        for key in self._given:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f'did you mean "{self._where}.{close[0]}"?' if close else "known: " + ", ".join(known)
                raise InvalidConfigError(f'unknown key "{self._where}.{key}" in the configuration; {hint}')

    def fail(self, key: str, problem: str) -> InvalidConfigError:
        return InvalidConfigError(f'"{self._where}.{key}" of the configuration {problem}')

    def refuse(self, keys: tuple[str, ...], why: str) -> None:
        """These keys would have no effect."""
        for key in keys:
            if key in self._given:
                raise self.fail(key, why)

    def text(self, key: str, otherwise: str) -> str:
        value = self._given.get(key, otherwise)
        if not isinstance(value, str) or not value:
            raise self.fail(key, f"must be a string that is not empty, not {value!r}")
        return value

    def name(self, key: str, otherwise: str) -> str:
        value = self.text(key, otherwise)
        if any(sign in value for sign in "./ "):
            raise self.fail(key, f'must be one name, without dots, slashes and spaces, not "{value}"')
        return value

    def choice(self, key: str, known: tuple[str, ...], otherwise: str) -> str:
        value = self._given.get(key, otherwise)
        if value not in known:
            raise self.fail(key, f"must be one of {', '.join(known)}, not {value!r}")
        return cast(str, value)

    def integer(self, key: str, otherwise: int, least: int, most: int) -> int:
        value = self._given.get(key, otherwise)
        if isinstance(value, bool) or not isinstance(value, int) or not (least <= value <= most):
            raise self.fail(key, f"must be an integer from {least} to {most}, not {value!r}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self._given.get(key, {})
        if not isinstance(value, Mapping):
            raise self.fail(key, "must be an object")
        return value

    def urls(self, key: str, schemes: tuple[str, ...], variable: str, otherwise: str) -> tuple[str, ...]:
        if key not in self._given:
            said = [word.strip() for word in os.environ.get(variable, "").split(",") if word.strip()]
            value: Any = said or [otherwise]
        else:
            value = self._given[key]
        if not isinstance(value, list) or not value or not all(isinstance(url, str) for url in value):
            raise self.fail(
                key, f'must be an array of URLs, such as ["{otherwise}"], not {without_password(str(value))}'
            )
        for url in value:
            try:
                parts = urllib.parse.urlsplit(url)
                is_right = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                is_right = False
            if not is_right:
                known = " or ".join(f"{scheme}://" for scheme in schemes)
                raise self.fail(
                    key, f'has "{without_password(url)}", which must begin with {known} and name a host'
                )
        return tuple(value)

    def folder(self, key: str) -> str:
        default = os.environ.get("DYN_FILE_KV") or str(Path(tempfile.gettempdir()) / "dynamo_store_kv")
        return str(Path(self.text(key, default)).absolute())

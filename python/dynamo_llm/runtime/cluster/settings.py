# SPDX-License-Identifier: Apache-2.0
"""The configuration's ``cluster``: how a process connects to an NVIDIA Dynamo cluster."""

import contextlib
import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster.planes import Planes
from dynamo_llm.runtime.cluster.timeouts import Timeouts
from dynamo_llm.runtime.options import Must, between, non_empty
from dynamo_llm.runtime.urls import shown_url

Discovery = Literal["etcd", "file", "kubernetes"]
Router = Literal["round_robin", "random", "power_of_two", "kv", "least_loaded", "direct"]
RequestPlane = Literal["tcp", "nats"]
EventPlane = Literal["zmq", "nats"]

_ETCD = "http://127.0.0.1:2379"
_NATS = "nats://127.0.0.1:4222"

_name = Must(
    "one name, without dots, slashes, and spaces", lambda value: value and not set(value) & set("./ ")
)


def _url_array(example: str) -> Must:
    return Must(f'an array of URLs, such as ["{example}"]', bool)


@dataclass(frozen=True)
class _Keys:
    """The keys of ``cluster``; :class:`Settings` describes them."""

    namespace: Annotated[str, _name] = "dynamo"
    discovery: Discovery = "etcd"
    etcd: Annotated[list[str], _url_array(_ETCD)] = field(default_factory=list)
    path: Annotated[str, non_empty] = ""
    router: Router = "round_robin"
    router_options: dict[str, Any] = field(default_factory=dict)
    migration_limit: Annotated[int, between(0, 1000)] = 3
    request_plane: RequestPlane = "tcp"
    event_plane: EventPlane = "zmq"
    nats: Annotated[list[str], _url_array(_NATS)] = field(default_factory=list)
    host: Annotated[str, non_empty] = Planes.host
    tls: dict[str, Any] = field(default_factory=dict)
    connect_timeout_ms: Annotated[int, between(1, 3_600_000)] = 5000
    stall_ms: Annotated[int, between(0, 86_400_000)] | None = None
    request_timeout_ms: Annotated[int, between(1, 3_600_000)] | None = None
    lease_ttl_s: Annotated[int, between(1, 3600)] = 0


@dataclass(frozen=True)
class Settings:
    """The validated keys of ``cluster``. Create them with :meth:`read`.

    Addresses that the configuration omits come from Dynamo's environment variables ``ETCD_ENDPOINTS``,
    ``NATS_SERVER`` and ``DYN_FILE_KV``, as in a container that Dynamo's operator started.
    """

    namespace: str
    """Dynamo namespace of the visible models, and of endpoints that specify none."""
    discovery: Discovery | Literal["mem"]
    """How processes find each other; ``mem``: not at all, see :meth:`within_process`."""
    etcd: tuple[str, ...]
    """URLs of etcd servers; some members of an etcd cluster are enough."""
    path: str
    """Folder of the discovery ``file``, which all processes share."""
    router: Router
    """How a client selects the worker of a request."""
    router_options: Mapping[str, Any]
    """Keyword arguments of Dynamo's ``KvRouterConfig``, for the router ``kv``."""
    migration_limit: int
    """How often a request continues on another worker after its worker died; 0: never."""
    request_plane: RequestPlane
    """The transport of requests."""
    event_plane: EventPlane
    """The transport of KV events and load reports."""
    nats: tuple[str, ...]
    """URLs of NATS servers, if a plane is ``nats``; the first that responds is used."""
    planes: Planes
    """The keys ``host`` and ``tls``: address of this process's sockets; certificates and passwords."""
    connect_timeout_ms: int
    """How long to wait for servers to respond at the start, in milliseconds."""
    timeouts: Timeouts
    """The keys ``stall_ms`` and ``request_timeout_ms``: after these times, another worker gets a request."""
    lease_ttl_s: int | None
    """Seconds until other processes drop a process that died, with the discovery ``etcd``; None: Dynamo's
    default."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Settings":
        """Validates the object ``cluster``.

        :raises InvalidConfigError: an unknown key (the nearest known one is named), or a wrong value.
        """
        keys = options.read(_Keys, given, "cluster")
        uses_nats = "nats" in (keys.request_plane, keys.event_plane)
        ineffective: dict[str, str] = {}
        for name, discovery in (("etcd", "etcd"), ("lease_ttl_s", "etcd"), ("path", "file")):
            if keys.discovery != discovery:
                ineffective[name] = f'requires the "discovery" "{discovery}", not "{keys.discovery}"'
        if not uses_nats:
            ineffective["nats"] = 'requires "request_plane" or "event_plane" to be "nats"'
        if keys.router != "kv":
            ineffective["router_options"] = f'requires the "router" "kv", not "{keys.router}"'
        for name, why in ineffective.items():
            if name in given:
                raise InvalidConfigError(f'"cluster.{name}" of the configuration {why}')
        etcd = keys.etcd or _from_environment("ETCD_ENDPOINTS", _ETCD) if keys.discovery == "etcd" else []
        nats = keys.nats or _from_environment("NATS_SERVER", _NATS) if uses_nats else []
        _check_urls(etcd, ("http", "https"), "cluster.etcd")
        _check_urls(nats, ("nats", "tls"), "cluster.nats")
        planes = Planes.read(keys.host, keys.tls)
        planes.check_urls(etcd, nats)
        return cls(
            namespace=keys.namespace,
            discovery=keys.discovery,
            etcd=tuple(etcd),
            path=_folder(keys.path) if keys.discovery == "file" else "",
            router=keys.router,
            router_options=keys.router_options,
            migration_limit=keys.migration_limit,
            request_plane=keys.request_plane,
            event_plane=keys.event_plane,
            nats=tuple(nats),
            planes=planes,
            connect_timeout_ms=keys.connect_timeout_ms,
            timeouts=Timeouts(keys.stall_ms, keys.request_timeout_ms),
            lease_ttl_s=keys.lease_ttl_s or None,
        )

    @classmethod
    def within_process(cls, namespace: str, planes: Planes) -> "Settings":
        """Returns settings with which only this process finds its own endpoints."""
        found = cls.read({"namespace": namespace, "discovery": "file", "path": os.sep})
        return replace(found, discovery="mem", path="", planes=planes)

    def full_path(self, endpoint: str) -> str:
        """Returns ``namespace.component.endpoint`` for the path of an endpoint with or without the namespace.

        :raises InvalidConfigError: it does not have two or three components.
        """
        parts = endpoint.removeprefix("dyn://").split(".")
        if len(parts) not in (2, 3) or not all(parts):
            raise InvalidConfigError(
                f'the endpoint "{endpoint}" must be namespace.component.endpoint, like '
                f'"{self.namespace}.backend.generate"'
            )
        return ".".join(parts if len(parts) == 3 else [self.namespace, *parts])

    @property
    def connection_key(self) -> tuple[Any, ...]:
        """Equal for settings that can share a connection."""
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
        """Address of the discovery, for messages."""
        if self.discovery == "etcd":
            return "etcd at " + ", ".join(shown_url(url) for url in self.etcd)
        if self.discovery == "mem":
            return "this process"
        return f"the folder {self.path}" if self.discovery == "file" else "Kubernetes"


def _from_environment(variable: str, default: str) -> list[str]:
    urls = [word.strip() for word in os.environ.get(variable, "").split(",")]
    return [url for url in urls if url] or [default]


def _check_urls(urls: list[str], schemes: tuple[str, ...], where: str) -> None:
    for url in urls:
        try:
            parts = urllib.parse.urlsplit(url)
            is_valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_valid = False
        if not is_valid:
            known = " or ".join(f"{scheme}://" for scheme in schemes)
            raise InvalidConfigError(
                f'"{where}" of the configuration has "{shown_url(url)}", which must begin with {known} and '
                f"name a host"
            )


def _folder(given: str) -> str:
    shared = str(Path(tempfile.gettempdir()) / "dynamo_store_kv")
    path = str(Path(given or os.environ.get("DYN_FILE_KV") or shared).absolute())
    if path == shared and _is_another_users(shared):
        raise InvalidConfigError(
            f'"cluster.path" of the configuration is missing, and its default, "{shared}", belongs to '
            f"another user; set it to a folder of yours"
        )
    return path


def _is_another_users(path: str) -> bool:
    """Whether a file belongs to another user, who may have created it in advance."""
    with contextlib.suppress(OSError):
        return hasattr(os, "geteuid") and os.lstat(path).st_uid != os.geteuid()
    return False

# SPDX-License-Identifier: Apache-2.0
"""The configuration's ``cluster``: how a process connects to an NVIDIA Dynamo cluster."""

import contextlib
import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime import options
from dynamo_llm.runtime.cluster import router_options
from dynamo_llm.runtime.cluster.namespaces import Namespaces
from dynamo_llm.runtime.cluster.planes import Planes
from dynamo_llm.runtime.cluster.timeouts import Timeouts
from dynamo_llm.runtime.options import Must, between, non_empty
from dynamo_llm.runtime.urls import shown_url

Discovery = Literal["etcd", "file", "kubernetes"]
Router = Literal[
    "round_robin", "random", "power_of_two", "kv", "least_loaded", "direct", "device_aware_weighted"
]
RequestPlane = Literal["tcp", "nats"]
ResponsePlane = Literal["tcp", "quic"]
EventPlane = Literal["zmq", "nats"]

#: The namespace whose clients see the models of all namespaces, as with Dynamo's frontend.
_global = "dynamo"
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

    namespace: Annotated[str, _name] = ""
    namespace_prefix: Annotated[str, _name] = ""
    discovery: Discovery = "etcd"
    etcd: Annotated[list[str], _url_array(_ETCD)] = field(default_factory=list)
    path: Annotated[str, non_empty] = ""
    router: Router | None = None
    router_options: dict[str, Any] = field(default_factory=dict)
    migration_limit: Annotated[int, between(0, 1000)] = 3
    migration_max_seq_len: Annotated[int, between(1, (1 << 32) - 1)] | None = None
    request_plane: RequestPlane = "tcp"
    response_plane: ResponsePlane | None = None
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
    ``NATS_SERVER`` and ``DYN_FILE_KV``, as in a container that Dynamo's operator started; namespaces and the
    router's settings from those that :mod:`~dynamo_llm.runtime.cluster.namespaces` and
    :mod:`~dynamo_llm.runtime.cluster.router_options` name.
    """

    namespace: str
    """Dynamo namespace of the visible models, unless there is a prefix."""
    namespace_prefix: str | None
    """Beginning of the namespaces of the visible models, such as the generations of a rolling update."""
    endpoint_namespace: str
    """Dynamo namespace of endpoints that specify none."""
    discovery: Discovery | Literal["mem"]
    """How processes find each other; ``mem``: not at all, see :meth:`within_process`."""
    etcd: tuple[str, ...]
    """URLs of etcd servers; some members of an etcd cluster are enough."""
    path: str
    """Folder of the discovery ``file``, which all processes share."""
    router: Router
    """How a client selects the worker of a request."""
    router_options: Mapping[str, Any]
    """Keyword arguments of Dynamo's ``RouterConfig`` and, for the router ``kv``, ``KvRouterConfig``."""
    migration_limit: int
    """How often a request continues on another worker after its worker died; 0: never."""
    migration_max_seq_len: int | None
    """Tokens of prompt and answer from which a request no longer continues elsewhere; None: no limit."""
    request_plane: RequestPlane
    """The transport of requests."""
    response_plane: ResponsePlane | None
    """The transport of responses; None: Dynamo's default."""
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
        for name, why in ineffective.items():
            if name in given:
                raise InvalidConfigError(f'"cluster.{name}" of the configuration {why}')
        etcd = keys.etcd or _from_environment("ETCD_ENDPOINTS", _ETCD) if keys.discovery == "etcd" else []
        nats = keys.nats or _from_environment("NATS_SERVER", _NATS) if uses_nats else []
        _check_urls(etcd, ("http", "https"), "cluster.etcd")
        _check_urls(nats, ("nats", "tls"), "cluster.nats")
        names = Namespaces.read(keys.namespace, keys.namespace_prefix)
        router = keys.router or _router_of_environment()
        planes = Planes.read(keys.host, keys.tls)
        planes.check_urls(etcd, nats)
        responses = keys.response_plane or os.environ.get("DYN_RESPONSE_PLANE")
        if responses == "quic" and planes.request_plane is not None:
            raise InvalidConfigError(
                '"cluster.response_plane" of the configuration must be "tcp", not "quic", with '
                '"cluster.tls.request_plane": QUIC is not known to use these certificates'
            )
        return cls(
            namespace=names.namespace,
            namespace_prefix=names.prefix,
            endpoint_namespace=names.of_endpoints,
            discovery=keys.discovery,
            etcd=tuple(etcd),
            path=_folder(keys.path) if keys.discovery == "file" else "",
            router=router,
            router_options=router_options.read(keys.router_options, router),
            migration_limit=keys.migration_limit,
            migration_max_seq_len=keys.migration_max_seq_len,
            request_plane=keys.request_plane,
            response_plane=keys.response_plane,
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
                f'"{self.endpoint_namespace}.backend.generate"'
            )
        return ".".join(parts if len(parts) == 3 else [self.endpoint_namespace, *parts])

    def sees(self, namespace: str) -> bool:
        """Whether the models of a Dynamo namespace are visible."""
        if (self.namespace_prefix or self.namespace) == _global:
            return True
        if self.namespace_prefix is not None:
            return namespace.startswith(self.namespace_prefix)
        return namespace == self.namespace

    @property
    def connection_key(self) -> tuple[Any, ...]:
        """Equal for settings that can share a connection."""
        return (
            self.discovery,
            self.etcd,
            self.path,
            self.request_plane,
            self.response_plane,
            self.event_plane,
            self.nats,
            self.planes,
            self.lease_ttl_s,
        )

    @property
    def scope(self) -> str:
        """Namespaces of the visible models, for messages."""
        if self.namespace_prefix is not None:
            return f'the namespaces "{self.namespace_prefix}*"'
        return f'the namespace "{self.namespace}"'

    @property
    def address(self) -> str:
        """Address of the discovery, for messages."""
        if self.discovery == "etcd":
            return "etcd at " + ", ".join(shown_url(url) for url in self.etcd)
        if self.discovery == "mem":
            return "this process"
        return f"the folder {self.path}" if self.discovery == "file" else "Kubernetes"


def _router_of_environment() -> Router:
    """Returns the router that Dynamo's variable names, with hyphens; else its default."""
    name = os.environ.get("DYN_ROUTER_MODE") or "round-robin"
    router: Router | None = next((one for one in get_args(Router) if one.replace("_", "-") == name), None)
    if router is None:
        known = ", ".join(one.replace("_", "-") for one in get_args(Router))
        raise InvalidConfigError(
            f'the environment variable DYN_ROUTER_MODE must be one of {known}, not "{name}"'
        )
    return router


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

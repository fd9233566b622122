# SPDX-License-Identifier: Apache-2.0
"""What a cluster's discovery holds: keys like v1/instances/NAMESPACE/COMPONENT/ENDPOINT/ID."""

import base64
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from cluster_rig.server import Etcd, ask


class Discovery(Protocol):
    """Where processes announce themselves."""

    def keys(self, prefix: str) -> list[str]:
        """Those that begin so."""


class Folder:
    """Discovery through files."""

    def __init__(self, root: Path) -> None:
        """Their folder, which need not be there yet."""
        self._root = root

    def keys(self, prefix: str) -> list[str]:
        """Those that begin so."""
        files = (path for path in self._root.rglob("*") if path.is_file())
        # A bucket's folder has its keys as files, whose names are quoted.
        names = (unquote(path.relative_to(self._root).as_posix()) for path in files)
        return sorted(name for name in names if name.startswith(prefix))


class EtcdKeys:
    """Discovery through etcd, asked over its JSON gateway."""

    def __init__(self, server: Etcd) -> None:
        """The server, which must run when it is asked."""
        self._server = server

    def keys(self, prefix: str) -> list[str]:
        """Those that begin so."""
        start = prefix.encode() or b"\0"
        end = start[:-1] + bytes([start[-1] + 1]) if prefix else b"\0"
        body = {"key": encode(start), "range_end": encode(end), "keys_only": True}
        answer = ask(f"{self._server.url}/v3/kv/range", body)
        return sorted(base64.b64decode(entry["key"]).decode() for entry in answer.get("kvs", []))


def encode(text: bytes) -> str:
    """As the gateway wants bytes."""
    return base64.b64encode(text).decode()

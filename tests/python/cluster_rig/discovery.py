# SPDX-License-Identifier: Apache-2.0
"""The contents of a cluster's discovery: keys like v1/instances/NAMESPACE/COMPONENT/ENDPOINT/ID."""

import base64
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from cluster_rig.server import Etcd, ask


class Discovery(Protocol):
    """The store that processes register in."""

    def keys(self, prefix: str) -> list[str]:
        """Returns the keys with this prefix."""


class Folder:
    """Discovery through files."""

    def __init__(self, root: Path) -> None:
        """Sets their folder, which need not exist yet."""
        self._root = root

    def keys(self, prefix: str) -> list[str]:
        """Returns the keys with this prefix."""
        files = (path for path in self._root.rglob("*") if path.is_file())
        # The files of a bucket's folder are its keys, with quoted names.
        names = (unquote(path.relative_to(self._root).as_posix()) for path in files)
        return sorted(name for name in names if name.startswith(prefix))


class EtcdKeys:
    """Discovery through etcd, read over its JSON gateway."""

    def __init__(self, server: Etcd) -> None:
        """Sets the server, which must be running when keys() is called."""
        self._server = server

    def keys(self, prefix: str) -> list[str]:
        """Returns the keys with this prefix."""
        start = prefix.encode() or b"\0"
        end = start[:-1] + bytes([start[-1] + 1]) if prefix else b"\0"
        body = {"key": encode(start), "range_end": encode(end), "keys_only": True}
        answer = ask(f"{self._server.url}/v3/kv/range", body)
        return sorted(base64.b64decode(entry["key"]).decode() for entry in answer.get("kvs", []))


def encode(text: bytes) -> str:
    """Encodes a text as the gateway's bytes."""
    return base64.b64encode(text).decode()

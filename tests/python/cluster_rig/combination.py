# SPDX-License-Identifier: Apache-2.0
"""How the processes of a cluster find and reach each other."""

import importlib.util
from dataclasses import dataclass

from cluster_rig.process import find_program


@dataclass(frozen=True)
class Combination:
    """Discovery ("file", "etcd"), request plane ("tcp", "nats"), event plane ("zmq", "nats")."""

    discovery: str
    request_plane: str
    event_plane: str

    @classmethod
    def parse(cls, name: str) -> "Combination":
        """Parses a name like "etcd-tcp-zmq"."""
        discovery, request_plane, event_plane = name.split("-")
        assert discovery in ("file", "etcd") and request_plane in ("tcp", "nats"), name
        assert event_plane in ("zmq", "nats"), name
        return cls(discovery, request_plane, event_plane)

    @property
    def name(self) -> str:
        """Returns its name."""
        return f"{self.discovery}-{self.request_plane}-{self.event_plane}"

    @property
    def uses_nats(self) -> bool:
        """Whether it needs a nats-server."""
        return "nats" in (self.request_plane, self.event_plane)

    def missing(self) -> list[str]:
        """Returns the programs and packages that it needs and this machine lacks."""
        programs = (["etcd"] if self.discovery == "etcd" else []) + (
            ["nats-server"] if self.uses_nats else []
        )
        absent = [f"the program {program}" for program in programs if find_program(program) is None]
        if importlib.util.find_spec("dynamo") is None:
            absent.append("the extra dynamo: pip install '.[dynamo]'")
        elif importlib.util.find_spec("dynamo.frontend") is None:
            absent.append("ai-dynamo: pip install --no-deps 'ai-dynamo>=1.6.1,<1.8'")
        return absent

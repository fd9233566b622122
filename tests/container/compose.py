# SPDX-License-Identifier: Apache-2.0
"""Reads compose.yaml: what it says of a service, as far as these tests follow it."""

from dataclasses import dataclass
from typing import Any

import dockerfile
import yaml  # type: ignore[import-untyped]

path = dockerfile.path.parent / "compose.yaml"


@dataclass(frozen=True)
class Service:
    """A service, and the stage that its image is made of."""

    name: str
    says: dict[str, Any]
    stage: dockerfile.Stage

    @property
    def words(self) -> list[str]:
        """What it starts. An entrypoint of its own does away with the image's command."""
        entrypoint = self.says.get("entrypoint", self.stage.entrypoint)
        command = self.says.get("command", [] if "entrypoint" in self.says else self.stage.command)
        return [str(word) for word in (*entrypoint, *command)]

    @property
    def health(self) -> list[str]:
        """The program that tells whether it is well."""
        kind, *words = self.says["healthcheck"]["test"]
        assert kind == "CMD", f"{self.name}: {kind} would need a shell"
        return [str(word) for word in words]

    @property
    def env(self) -> dict[str, str]:
        """Its environment."""
        return {**self.stage.env, **self.says.get("environment", {})}


def parse(text: str, stages: dict[str, dockerfile.Stage]) -> tuple[dict[str, Service], dict[str, Any]]:
    """The services by name, and all that the file says."""
    says = yaml.safe_load(text)
    services = {}
    for name, service in says["services"].items():
        target = service["build"]["target"]
        assert target in stages, f"{name}: the Dockerfile has no stage {target}"
        services[name] = Service(name, service, stages[target])
    return services, says

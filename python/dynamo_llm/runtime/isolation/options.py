# SPDX-License-Identifier: Apache-2.0
"""Keys of ``isolation_options`` in the configuration."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Options:
    """Keys of ``isolation_options``, and two that the library sets."""

    config: dict[str, Any] = field(default_factory=dict)
    """The engine's configuration, without ``isolation``; the library sets it."""
    name: str = ""
    """Name of the engine; the library sets it."""
    start_timeout_ms: int = 600_000
    """Milliseconds from the start of the process until the model is loaded; 0 for no limit."""
    heartbeat_timeout_ms: int = 30_000
    """Milliseconds in which the child's event loop must answer a heartbeat; 0 for no heartbeats."""
    stop_timeout_ms: int = 5_000
    """Milliseconds that the engine has to stop; then the child is killed."""
    restart_delay_ms: int = 500
    """Milliseconds between the second failure in a row and the next start; doubled for each further one."""
    max_restart_delay_ms: int = 30_000
    """Longest delay in milliseconds between a failure and the next start."""
    memory_limit_mib: int = 0
    """Limit of the child's address space in MiB; 0 for no limit."""
    engine_library: str = ""
    """Shared library with engines in C that the child loads."""

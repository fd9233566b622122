# SPDX-License-Identifier: Apache-2.0
"""The configuration that an engine is created with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """The configuration's settings for chat templates."""

    trusts_requests: bool = False
    """Whether a request may bring its own template."""
    run: Literal["process", "host"] = "process"
    """Where templates run: in a child process, or in this process."""
    timeout_ms: int = 10000
    """Time limit in milliseconds for one request."""
    memory_mb: int = 512
    """Memory limit in MiB for one request."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TemplateSettings":
        """Reads the settings from a runtime's configuration, whose keys and types were checked before."""
        trusts = config.get("trust_request_chat_template", False)
        return cls(trusts_requests=trusts, **config.get("templates", {}))


@dataclass(frozen=True)
class EngineConfig:
    """The part of a runtime's configuration that its engine gets."""

    engine: str
    """Name of the engine."""
    model: str | None
    """Path or name of the model; None for the engine's default."""
    options: dict[str, Any] = field(repr=False)
    """The engine's own settings, not checked yet: see :func:`dynamo_llm.runtime.options.read`. ``repr()``
    hides them, and ``cluster``: both may contain keys and passwords."""
    python: dict[str, Any] = field(default_factory=dict)
    """The configuration's ``python``, for engines that create runtimes of their own."""
    name: str | None = None
    """Name by which requests select this model in ``model``; None if the configuration does not set it."""
    cluster: dict[str, Any] = field(default_factory=dict, repr=False)
    """The configuration's ``cluster``, not checked yet: ``dynamo_llm.runtime.cluster.settings`` reads it."""
    templates: TemplateSettings = field(default_factory=TemplateSettings)
    """The configuration's ``trust_request_chat_template`` and ``templates``, for engines that render chats
    themselves."""
    changed: Callable[[], None] = field(default=lambda: None, compare=False)
    """The engine calls this, on the event loop, when the result of ``describe()`` has changed."""

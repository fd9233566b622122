# SPDX-License-Identifier: Apache-2.0
"""A request to be routed: its tokens, and hints and constraints for the selection of a worker."""

from dataclasses import dataclass, field
from typing import Any

from dynamo_llm.errors import InvalidRequestError

_named = ("lora_name", "cache_salt", "priority_jump", "strict_priority", "expected_output_tokens")


@dataclass(slots=True)
class RoutingRequest:
    """A request that needs a worker."""

    token_ids: list[int]
    workers: frozenset[int] | None = None
    """Ids of the allowed workers; None for all."""
    lora_name: str | None = None
    cache_salt: str | None = None
    priority_jump: float = 0.0
    """Seconds that it moves ahead of other requests in the queue of Dynamo's router."""
    strict_priority: int = 0
    """Strict priority among queued requests: higher values are always scheduled first."""
    expected_output_tokens: int | None = None
    required_taints: tuple[str, ...] = ()
    """Taints that a worker must have."""
    preferred_taints: dict[str, float] = field(default_factory=dict)
    """Taints by weight: positive in favor of a worker, negative against it."""

    @classmethod
    def of_command(cls, command: dict[str, Any], token_ids: list[int]) -> "RoutingRequest":
        """Reads the optional keys of a command, and the hints of its body, if it has one.

        :raises InvalidRequestError: a hint or a constraint is invalid.
        """
        worker_ids = command.get("worker_ids")
        hints = {} if command.get("body") is None else _hints(command["body"])
        named = {key: command[key] for key in _named if key in command}
        constraints = _constraints(command.get("constraints", {}), "constraints")
        return cls(
            token_ids=token_ids,
            workers=None if worker_ids is None else frozenset(worker_ids),
            **{**hints, **named, **constraints},
        )

    @property
    def has_constraints(self) -> bool:
        """Whether workers differ by more than blocks and load."""
        return bool(self.required_taints or self.preferred_taints)

    def routing(self) -> dict[str, Any]:
        """Returns the routing hints in Dynamo's wire format, without those that are not set."""
        routing: dict[str, Any] = {
            "priority_jump": self.priority_jump,
            "strict_priority": self.strict_priority,
        }
        if self.lora_name is not None:
            routing["lora_name"] = self.lora_name
        if self.cache_salt is not None:
            routing["cache_salt"] = self.cache_salt
        if self.expected_output_tokens is not None:
            routing["expected_output_tokens"] = self.expected_output_tokens
        if self.workers is not None:
            routing["allowed_worker_ids"] = sorted(self.workers)
        if self.has_constraints:
            routing["routing_constraints"] = {
                "required_taints": sorted(self.required_taints),
                "preferred_taints": self.preferred_taints,
            }
        return routing


def _hints(body: dict[str, Any]) -> dict[str, Any]:
    """Reads the router hints of a body's ``nvext``, as keyword arguments of :class:`RoutingRequest`."""
    extension = body.get("nvext") or {}
    agent = extension.get("agent_hints") or {}
    if not isinstance(agent, dict):
        raise InvalidRequestError('"nvext.agent_hints" of the request must be an object')
    hints = _constraints(extension.get("routing_constraints") or {}, "nvext.routing_constraints")
    for key, name in (("priority", "priority_jump"), ("strict_priority", "strict_priority")):
        value = agent.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRequestError(f'"nvext.agent_hints.{key}" of the request must be an integer')
        hints[name] = max(0, value)  # negative priorities are ignored: no request goes behind later ones
    if agent.get("osl") is not None:
        hints["expected_output_tokens"] = agent["osl"]
    if extension.get("cache_salt") is not None:
        hints["cache_salt"] = extension["cache_salt"]
    return hints


def _constraints(given: Any, name: str) -> dict[str, Any]:
    """Validates constraints on taints, as keyword arguments of :class:`RoutingRequest`."""
    if not isinstance(given, dict) or set(given) - {"required_taints", "preferred_taints"}:
        raise InvalidRequestError(
            f'"{name}" must be an object with the keys "required_taints" and "preferred_taints"'
        )
    required, preferred = given.get("required_taints") or [], given.get("preferred_taints") or {}
    if not isinstance(required, list) or not all(isinstance(taint, str) for taint in required):
        raise InvalidRequestError(f'"{name}.required_taints" must be an array of strings')
    if not isinstance(preferred, dict) or not all(
        isinstance(weight, int | float) and not isinstance(weight, bool) for weight in preferred.values()
    ):
        raise InvalidRequestError(f'"{name}.preferred_taints" must be an object of numbers')
    return {"required_taints": tuple(required), "preferred_taints": preferred} if given else {}

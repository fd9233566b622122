# SPDX-License-Identifier: Apache-2.0
"""Reads the body of a request. The library has checked its types (cpp/runtime/body.cpp)."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engine import ModelInfo, Sampling
from dynamo_llm.runtime.pipeline import request_keys, structured_output

_log = logging.getLogger("dynamo_llm.requests")

#: Keys of "nvext" that this module or the library handles.
_nvext = ("agent_hints", "cache_salt", "annotations", "extra_fields")
#: Keys of "nvext" that route the request in a cluster, by Dynamo's names.
_routing = ("backend_instance_id", "prefill_worker_id", "decode_worker_id", "dp_rank", "prefill_dp_rank")
#: The same, whose values are objects.
_routing_objects = ("routing_constraints", "agent_context")
#: Longest "session_id" that Dynamo's router keeps, in bytes.
_session_id_bytes = 256
#: Keys of "nvext" with the prefill's result, for a decode worker.
_disaggregated = ("prefill_result", "bootstrap_info")
#: Keys of "nvext.agent_hints" that influence routing, and Dynamo's names for them.
_agent_hints = {"osl": "expected_output_tokens", "strict_priority": "strict_priority"}
#: Within this distance of the strictest value, "top_p" and "min_p" keep only the most likely token.
_strict = 1e-7
#: Characters with a special meaning in regular expressions.
_special = set("\\^$.|?*+()[]{}")
#: The capability that a kind of structured output needs.
_capability_of = {"json": "json_schema", "regex": "regex", "grammar": "grammar", "choice": "choice"}


@dataclass(frozen=True)
class RequestSettings:
    """The settings of a request: everything in its body but the prompt."""

    is_chat: bool
    sampling: Sampling
    n: int
    max_tokens: int | None
    """None: as many as fit into the context."""
    min_tokens: int
    ignore_eos: bool
    stops: list[str]
    stop_token_ids: list[int]
    includes_stop: bool
    """Whether the stop string is part of the answer's text."""
    skips_special: bool
    """Whether special tokens are left out of the answer's text."""
    logprobs: int | None
    guided: dict[str, Any] | None
    adapter: str | None
    priority: int
    cache_salt: str | None
    routing: dict[str, Any] | None
    disaggregated: dict[str, Any] | None
    trace: dict[str, str] | None
    truncate: int | None
    """Number of tokens to keep from the end of the prompt; None for all, -1 for as many as fit."""
    extra: dict[str, Any] | None
    """The body's ``extra``, unchanged."""
    keys: dict[str, Any] | None
    """Keys that only the engine reads, because it declares them; unchanged."""


def _integer(value: Any, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f'"{name}" of the request must be an integer, not {json.dumps(value)}')
    if not least <= value <= most:
        raise InvalidRequestError(f'"{name}" of the request must be from {least} to {most}, not {value}')
    return value


def token_ids(values: list[Any], name: str, vocab_size: int | None) -> list[int]:
    """Returns a list of token ids, whose types the library has checked.

    :raises InvalidRequestError: an item is not a token id of the model.
    """
    most = (vocab_size or 1 << 32) - 1
    if max(values, default=0) > most:
        for number, value in enumerate(values):
            _integer(value, f"{name}[{number}]", 0, most)
    return values


class BodyReader:
    """Reads the bodies of requests to one model. The same rules apply to the keys for all engines.

    :param info: the engine's description: ``capabilities``, ``adapters``, and ``request_keys``.
    :param vocab_size: exclusive upper limit of token ids; None if unknown.
    :param keys: optional keys that the caller handles, whatever the engine declares.
    :param hints: by key: the alternative that errors suggest if the engine does not support the key.
    """

    def __init__(
        self,
        engine: str,
        info: ModelInfo,
        vocab_size: int | None,
        keys: Iterable[str] = (),
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self._engine = engine
        self._capabilities = frozenset(info.get("capabilities", ()))
        self._adapters = list(info.get("adapters", []))
        self._vocab_size = vocab_size
        self._declared = frozenset(info.get("request_keys", ()))
        self._keys = self._declared | frozenset(keys)
        self._passed_on = self._declared - frozenset(keys) - request_keys.common - {"extra"}
        self._hints = {**request_keys.hints, **(hints or {})}
        self._warned: set[str] = set()

    def set_adapters(self, names: Sequence[str]) -> None:
        """Replaces the names of the adapters: the engine has loaded or unloaded some."""
        self._adapters = list(names)

    def read(self, body: Mapping[str, Any]) -> RequestSettings:
        """Reads a body.

        :raises InvalidRequestError: a value is not valid.
        :raises NotSupportedError: the engine does not support a key; the message names the missing
            capability.
        """
        given = {key: value for key, value in body.items() if value is not None}
        if "input" in given:
            raise NotSupportedError(f'the engine "{self._engine}" does not make embeddings')
        self._check_keys(given)
        priority, cache_salt, routing = self._nvext(given)
        min_tokens = given.get("min_tokens", 0)
        max_tokens = given.get("max_completion_tokens", given.get("max_tokens"))
        if max_tokens is not None and max_tokens < max(1, min_tokens):
            least = f'"min_tokens" ({min_tokens})' if min_tokens > 1 else "1"
            raise InvalidRequestError(
                f'"max_tokens" of the request must be at least {least}, not {max_tokens}'
            )
        stop = given.get("stop", [])
        trace: dict[str, str] = {key: given[key] for key in ("traceparent", "tracestate") if key in given}
        return RequestSettings(
            is_chat="messages" in given,
            sampling=self._sampling(given),
            n=given.get("n", 1),
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            ignore_eos=given.get("ignore_eos", False),
            stops=[stop] if isinstance(stop, str) else list(stop),
            stop_token_ids=token_ids(given.get("stop_token_ids", []), "stop_token_ids", self._vocab_size),
            includes_stop=given.get("include_stop_str_in_output", False),
            skips_special=given.get("skip_special_tokens", True),
            logprobs=self._logprobs(given),
            guided=self._guided(given),
            adapter=self._adapter(given),
            priority=priority,
            cache_salt=cache_salt,
            routing=routing or None,
            disaggregated=self._disaggregated(given),
            trace=trace or None,
            truncate=self._truncate(given),
            extra=given.get("extra") or None,
            keys=self._own_keys(given) or None,
        )

    def require(self, capability: str, what: str) -> None:
        """Checks that the engine has a capability.

        :param what: what needs it, for the error.
        :raises NotSupportedError: the engine does not have it.
        """
        if capability not in self._capabilities:
            has = ", ".join(sorted(self._capabilities)) or "none"
            raise NotSupportedError(
                f'{what} of the request needs the capability "{capability}", which the engine '
                f'"{self._engine}" does not have (it has: {has}){self._hints.get(what.strip(chr(34)), "")}'
            )

    def _check_keys(self, given: dict[str, Any]) -> None:
        """Rejects keys that the engine does not support, and logs a warning about ignored keys."""
        for key in sorted(given.keys() - request_keys.common - self._keys):
            value = given[key]
            if key in request_keys.ignored:
                if value not in request_keys.ignored[key]:
                    self._warn(key)
            elif key == "best_of":
                self._refuse(key, value != given.get("n", 1))
            elif key == "parallel_tool_calls":
                self._refuse(key, value is False and bool(given.get("tools")), ": false")
            elif key == "tool_choice":
                self._check_tool_choice(value)
            else:
                self._refuse(key, value not in request_keys.optional.get(key, ()))

    def _refuse(self, key: str, is_asked: bool, how: str = "") -> None:
        if is_asked:
            raise NotSupportedError(
                f'the engine "{self._engine}" does not support "{key}"{how} of the request'
                + self._hints.get(key, "")
            )

    def _check_tool_choice(self, choice: Any) -> None:
        if choice == "required" or isinstance(choice, dict):
            raise NotSupportedError(
                f'the engine "{self._engine}" does not support a "tool_choice" that forces a call or '
                f"restricts the tools"
            )
        if choice not in request_keys.optional["tool_choice"]:
            raise InvalidRequestError(
                '"tool_choice" of the request must be "none", "auto", "required" or an object, not '
                + json.dumps(choice)
            )

    def _warn(self, key: str) -> None:
        """Logs, once per key, that the key is ignored."""
        if key not in self._warned:
            self._warned.add(key)
            _log.warning(
                'the engine "%s" ignores "%s" of requests; the answers are the same without it',
                self._engine,
                key,
            )

    def _own_keys(self, given: dict[str, Any]) -> dict[str, Any]:
        own = {key: given[key] for key in sorted(self._passed_on & given.keys())}
        if "allowed_token_ids" in own:
            token_ids(own["allowed_token_ids"], "allowed_token_ids", self._vocab_size)
            if not own["allowed_token_ids"]:
                raise InvalidRequestError('"allowed_token_ids" of the request must not be empty')
        return own

    @staticmethod
    def _truncate(given: dict[str, Any]) -> int | None:
        count: int | None = given.get("truncate_prompt_tokens")
        if count == 0:
            raise InvalidRequestError(
                '"truncate_prompt_tokens" of the request must be at least 1, or -1 for as many as fit, not 0'
            )
        return count

    def _sampling(self, given: dict[str, Any]) -> Sampling:
        values = {key: given[key] for key in request_keys.sampling if key in given}
        if "seed" in given:
            if given.get("temperature", 0) > 0:  # greedy decoding does not depend on the seed
                self.require("seed", '"seed"')
            if "seed" not in self._capabilities:
                del values["seed"]
        if values.get("top_p", 1) < _strict or values.get("min_p", 0) > 1 - _strict:
            # Engines that compute in 32 bits, or treat the strictest value as no limit, would answer
            # differently.
            values["top_k"] = 1
            values.pop("top_p", None)
            values.pop("min_p", None)
        if values.get("repetition_penalty", 1) <= 0:
            raise InvalidRequestError('"repetition_penalty" of the request must be greater than 0')
        if "logit_bias" in given:
            bias = {self._biased(key): float(value) for key, value in given["logit_bias"].items()}
            values["logit_bias"] = bias or None
        return Sampling(**values)

    def _biased(self, key: str) -> int:
        if len(key) > 20:  # many leading zeros
            raise InvalidRequestError(f'"logit_bias" of the request has token ids as keys, not "{key}"')
        return token_ids([int(key)], "logit_bias", self._vocab_size)[0]

    def _logprobs(self, given: dict[str, Any]) -> int | None:
        asked = given.get("logprobs")
        count: int | None = asked
        if "messages" in given:
            count = given.get("top_logprobs", 0) if asked else None
            if given.get("top_logprobs") and not asked:
                raise InvalidRequestError('"top_logprobs" of the request needs "logprobs": true')
        if count is not None:
            self.require("logprobs", '"logprobs"')
        return count

    def _guided(self, given: dict[str, Any]) -> dict[str, Any] | None:
        form = structured_output.of_body(given)
        if form is None:
            return None
        if form.kind == "choice" and "choice" not in self._capabilities:
            self.require("regex", f'"{form.name}"')
            escaped = ["".join("\\" + c if c in _special else c for c in text) for text in form.value]
            return {"regex": "(" + "|".join(escaped) + ")"}
        self.require(_capability_of[form.kind], f'"{form.name}"')
        return {form.kind: form.value}

    def _adapter(self, given: dict[str, Any]) -> str | None:
        adapter = given.get("adapter")
        if adapter is None:
            model: str | None = given.get("model")
            return model if model in self._adapters else None
        if adapter not in self._adapters:
            has = ", ".join(self._adapters) or "none"
            raise InvalidRequestError(
                f'"adapter" of the request is {json.dumps(adapter)}, which the engine does not have; it has: '
                f"{has}"
            )
        return str(adapter)

    def _disaggregated(self, given: dict[str, Any]) -> dict[str, Any] | None:
        extension = given.get("nvext", {})
        found = {key: extension[key] for key in _disaggregated if extension.get(key) is not None}
        for key, value in found.items():
            self.require("disaggregation", f'"nvext.{key}"')
            if not isinstance(value, dict):
                raise InvalidRequestError(f'"nvext.{key}" of the request must be an object')
        return found or None

    def _nvext(self, given: dict[str, Any]) -> tuple[int, str | None, dict[str, Any]]:
        """Returns priority, cache salt, and routing hints."""
        extension = given.get("nvext", {})
        hints = extension.get("agent_hints") or {}
        routing: dict[str, Any] = {}
        for key, value in extension.items():
            if value is None or key in (*_nvext, *_disaggregated):
                continue
            if key not in (*_routing, *_routing_objects):
                self._refuse(f"nvext.{key}", True)
            self.require("routing", f'"nvext.{key}"')
            routing[key] = value
            if key in _routing:
                bits = 32 if key.endswith("dp_rank") else 64
                _integer(value, f"nvext.{key}", 0, (1 << bits) - 1)
            elif not isinstance(value, dict):
                raise InvalidRequestError(f'"nvext.{key}" of the request must be an object')
            elif key == "agent_context":
                _check_session(value.get("session_id"))
        for key, name in _agent_hints.items():
            if hints.get(key) is not None:
                routing[name] = _integer(hints[key], f"nvext.agent_hints.{key}", 0, (1 << 32) - 1)
        if extension.get("annotations"):
            self._warn("nvext.annotations")
        salt, name = given.get("cache_salt"), "cache_salt"
        if salt is None and extension.get("cache_salt") is not None:
            salt, name = extension["cache_salt"], "nvext.cache_salt"
            self._refuse(name, "cache_salt" not in self._keys)
        if salt == "":
            raise InvalidRequestError(f'"{name}" of the request must be a string that is not empty')
        return given.get("priority", hints.get("priority") or 0), salt, routing


def _check_session(session: Any) -> None:
    """Checks a session's id, which Dynamo's router would otherwise ignore."""
    if not isinstance(session, str) or not 0 < len(session.strip().encode()) <= _session_id_bytes:
        raise InvalidRequestError(
            f'"nvext.agent_context.session_id" of the request must be a string of 1 to {_session_id_bytes} '
            f"bytes, not {json.dumps(session)[:80]}"
        )

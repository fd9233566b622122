# SPDX-License-Identifier: Apache-2.0
"""What a request's body asks for, checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engine import ModelInfo, Sampling

# Keys that say nothing about the answer, or that the core or the template handles.
_others = {
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prediction",
    "tools",
    "documents",
    "reasoning_effort",
    "verbosity",
    "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "traceparent",
    "tracestate",
}
_sampling = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
)
_handled = {
    *_others,
    *_sampling,
    "model",
    "adapter",
    "seed",
    "logit_bias",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "ignore_eos",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "n",
    "best_of",
    "echo",
    "suffix",
    "logprobs",
    "top_logprobs",
    "tool_choice",
    "parallel_tool_calls",
    "modalities",
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
    "priority",
    "nvext",
}
#: Keys of "nvext" that are handled here, by the core, or that say nothing about the answer.
_nvext = ("agent_hints", "cache_salt", "annotations", "extra_fields")
#: Those that say where in a cluster the request is to go, as Dynamo's routing hints call them.
_routing = ("backend_instance_id", "prefill_worker_id", "decode_worker_id", "dp_rank", "prefill_dp_rank")
#: Those that tell a worker that decodes of the prefill.
_disaggregated = ("prefill_result", "bootstrap_info")
#: Keys of "nvext.agent_hints" that help to choose, as Dynamo's routing hints call them.
_hints = {"osl": "expected_output_tokens", "strict_priority": "strict_priority"}
#: Characters that mean something in a regular expression.
_special = set("\\^$.|?*+()[]{}")


@dataclass(frozen=True)
class Settings:
    """What a body asks for, beside its prompt."""

    is_chat: bool
    sampling: Sampling
    n: int
    max_tokens: int | None
    """None: as many as fit."""
    min_tokens: int
    ignore_eos: bool
    stops: list[str]
    stop_token_ids: list[int]
    includes_stop: bool
    """Whether a stop string is shown."""
    skips_special: bool
    """Whether special tokens are not shown."""
    logprobs: int | None
    guided: dict[str, Any] | None
    adapter: str | None
    priority: int
    cache_salt: str | None
    routing: dict[str, Any] | None
    disaggregated: dict[str, Any] | None
    trace: dict[str, str] | None


def _integer(value: Any, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f'"{name}" of the request must be an integer, not {json.dumps(value)}')
    if not least <= value <= most:
        raise InvalidRequestError(f'"{name}" of the request must be from {least} to {most}, not {value}')
    return value


def token_ids(values: list[Any], name: str, vocab_size: int | None) -> list[int]:
    """A list of token ids.

    :raises InvalidRequestError: one of them is none.
    """
    most = (vocab_size or 1 << 32) - 1
    if all(type(value) is int for value in values) and (
        not values or (min(values) >= 0 and max(values) <= most)
    ):
        return values
    return [_integer(value, f"{name}[{number}]", 0, most) for number, value in enumerate(values)]


class Reader:
    """Reads bodies for one model.

    :param info: what the engine said.
    :param vocab_size: token ids are less; None if that is not known.
    """

    def __init__(self, info: ModelInfo, vocab_size: int | None) -> None:
        self._capabilities = frozenset(info.get("capabilities", ()))
        self._adapters = info.get("adapters", [])
        self._vocab_size = vocab_size

    def read(self, body: Mapping[str, Any]) -> Settings:
        """What a body asks for.

        :raises InvalidRequestError: a value is wrong.
        :raises NotSupportedError: the engine cannot do it; the message says what it lacks.
        """
        given = {key: value for key, value in body.items() if value is not None}
        if "input" in given:
            raise NotSupportedError("engines of token ids make no embeddings")
        unknown = sorted(set(given) - _handled)
        if unknown:
            raise NotSupportedError(f'"{unknown[0]}" of the request is not supported by engines of token ids')
        self._refuse(given)
        hints = self._nvext(given)
        min_tokens = given.get("min_tokens", 0)
        max_tokens = given.get("max_completion_tokens", given.get("max_tokens"))
        if max_tokens is not None and max_tokens < max(1, min_tokens):
            least = f'"min_tokens" ({min_tokens})' if min_tokens > 1 else "1"
            raise InvalidRequestError(
                f'"max_tokens" of the request must be at least {least}, not {max_tokens}'
            )
        trace: dict[str, str] = {key: given[key] for key in ("traceparent", "tracestate") if key in given}
        return Settings(
            is_chat="messages" in given,
            sampling=self._sampling(given),
            n=given.get("n", 1),
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            ignore_eos=given.get("ignore_eos", False),
            stops=self._stops(given),
            stop_token_ids=token_ids(given.get("stop_token_ids", []), "stop_token_ids", self._vocab_size),
            includes_stop=given.get("include_stop_str_in_output", False),
            skips_special=given.get("skip_special_tokens", True),
            logprobs=self._logprobs(given),
            guided=self._guided(given),
            adapter=self._adapter(given),
            priority=hints[0],
            cache_salt=hints[1],
            routing=hints[2] or None,
            disaggregated=self._disaggregated(given),
            trace=trace or None,
        )

    def _need(self, capability: str, what: str) -> None:
        if capability not in self._capabilities:
            has = ", ".join(sorted(self._capabilities)) or "none"
            raise NotSupportedError(
                f'{what} of the request needs the capability "{capability}", which the engine does not have '
                f"(it has: {has})"
            )

    def _refuse(self, given: dict[str, Any]) -> None:
        """What the pipeline cannot do."""

        def refuse(is_asked: bool, what: str) -> None:
            if is_asked:
                raise NotSupportedError(f"{what} is not supported by engines of token ids")

        n = given.get("n", 1)
        refuse(given.get("best_of", n) != n, '"best_of" other than "n" in the request')
        refuse(given.get("echo", False), '"echo" of the request')
        refuse(bool(given.get("suffix")), '"suffix" of the request')
        refuse(
            given.get("modalities", ["text"]) != ["text"], '"modalities" other than ["text"] in the request'
        )
        choice = given.get("tool_choice", "auto")
        if choice not in ("auto", "none"):
            refuse(choice == "required" or isinstance(choice, dict), '"tool_choice" that forces a call')
            raise InvalidRequestError(
                '"tool_choice" of the request must be "none", "auto", "required" or an object, not '
                + json.dumps(choice)
            )
        refuse(given.get("parallel_tool_calls") is False, '"parallel_tool_calls": false in the request')

    def _sampling(self, given: dict[str, Any]) -> Sampling:
        values = {key: given[key] for key in _sampling if key in given}
        if "seed" in given:
            seed = _integer(given["seed"], "seed", -(1 << 63), (1 << 63) - 1)
            if given.get("temperature", 0) > 0:  # greedy decoding is the same with any seed
                self._need("seed", '"seed"')
            if "seed" in self._capabilities:
                values["seed"] = seed
        if values.get("repetition_penalty", 1) <= 0:
            raise InvalidRequestError('"repetition_penalty" of the request must be greater than 0')
        bias = given.get("logit_bias")
        if bias:
            values["logit_bias"] = {self._biased(key): self._bias(key, bias[key]) for key in bias}
        return Sampling(**values)

    def _biased(self, key: str) -> int:
        if not key.isascii() or not key.isdigit():
            raise InvalidRequestError(f'"logit_bias" of the request has token ids as keys, not "{key}"')
        return token_ids([int(key)], "logit_bias", self._vocab_size)[0]

    @staticmethod
    def _bias(key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -100 <= value <= 100:
            raise InvalidRequestError(
                f'"logit_bias.{key}" of the request must be a number from -100 to 100, not '
                + json.dumps(value)
            )
        return float(value)

    @staticmethod
    def _stops(given: dict[str, Any]) -> list[str]:
        stop = given.get("stop", [])
        stops = [stop] if isinstance(stop, str) else stop
        for number, text in enumerate(stops):
            if not isinstance(text, str) or not text:
                raise InvalidRequestError(
                    f'"stop[{number}]" of the request must be a string that is not empty, not '
                    + json.dumps(text)
                )
        return list(stops)

    def _logprobs(self, given: dict[str, Any]) -> int | None:
        asked = given.get("logprobs")
        count: int | None = asked
        if "messages" in given:
            count = given.get("top_logprobs", 0) if asked else None
            if given.get("top_logprobs") and not asked:
                raise InvalidRequestError('"top_logprobs" of the request needs "logprobs": true')
        if count is not None:
            self._need("logprobs", '"logprobs"')
        return count

    def _guided(self, given: dict[str, Any]) -> dict[str, Any] | None:
        asked = [
            key
            for key in ("response_format", "guided_json", "guided_regex", "guided_grammar", "guided_choice")
            if key in given and not (key == "response_format" and given[key].get("type") == "text")
        ]
        if not asked:
            return None
        if len(asked) > 1:
            raise InvalidRequestError(f'"{asked[0]}" and "{asked[1]}" of the request exclude each other')
        key = asked[0]
        value = given[key]
        if key == "response_format":
            value = _schema_of_format(value)
        if key in ("response_format", "guided_json"):
            self._need("json_schema", f'"{key}"')
            return {"json": _schema(value, key)}
        if key == "guided_choice":
            return self._choices(value)
        kind = key.removeprefix("guided_")
        self._need(kind, f'"{key}"')
        return {kind: value}

    def _choices(self, texts: Any) -> dict[str, Any]:
        if not texts or not all(isinstance(text, str) for text in texts):
            raise InvalidRequestError('"guided_choice" of the request must be an array of strings')
        if "choice" in self._capabilities:
            return {"choice": texts}
        self._need("regex", '"guided_choice"')
        escaped = ["".join("\\" + c if c in _special else c for c in text) for text in texts]
        return {"regex": "(" + "|".join(escaped) + ")"}

    def _adapter(self, given: dict[str, Any]) -> str | None:
        adapter = given.get("adapter")
        if adapter is None:
            model: str | None = given.get("model")
            return model if model in self._adapters else None
        if adapter not in self._adapters:
            has = ", ".join(self._adapters) or "none"
            raise InvalidRequestError(
                f'"adapter" of the request, {json.dumps(adapter)}, is not one that the engine has: {has}'
            )
        return str(adapter)

    def _disaggregated(self, given: dict[str, Any]) -> dict[str, Any] | None:
        extension = given.get("nvext", {})
        found = {key: extension[key] for key in _disaggregated if extension.get(key) is not None}
        for key, value in found.items():
            self._need("disaggregation", f'"nvext.{key}"')
            if not isinstance(value, dict):
                raise InvalidRequestError(f'"nvext.{key}" of the request must be an object')
        return found or None

    def _nvext(self, given: dict[str, Any]) -> tuple[int, str | None, dict[str, Any]]:
        """Priority, cache salt and routing hints."""
        extension = given.get("nvext", {})
        hints = extension.get("agent_hints") or {}
        routing: dict[str, Any] = {}
        for key in extension:
            if extension[key] is None or key in (*_nvext, *_disaggregated):
                continue
            if key not in (*_routing, "routing_constraints"):
                raise NotSupportedError(
                    f'"nvext.{key}" of the request is not supported by engines of token ids'
                )
            self._need("routing", f'"nvext.{key}"')
            routing[key] = extension[key]
            if key in _routing:
                _integer(routing[key], f"nvext.{key}", 0, (1 << 64) - 1)
            elif not isinstance(routing[key], dict):
                raise InvalidRequestError(f'"nvext.{key}" of the request must be an object')
        if not isinstance(hints, dict):
            raise InvalidRequestError('"nvext.agent_hints" of the request must be an object')
        for key, name in _hints.items():
            if hints.get(key) is not None:
                routing[name] = _integer(hints[key], f"nvext.agent_hints.{key}", 0, (1 << 32) - 1)
        priority, name = hints.get("priority"), "nvext.agent_hints.priority"
        if "priority" in given:
            priority, name = given["priority"], "priority"
        salt = extension.get("cache_salt")
        if salt is not None and (not isinstance(salt, str) or not salt):
            raise InvalidRequestError('"nvext.cache_salt" of the request must be a string that is not empty')
        priority = 0 if priority is None else _integer(priority, name, -(1 << 31), (1 << 31) - 1)
        return priority, salt, routing


def _schema_of_format(value: dict[str, Any]) -> Any:
    """The schema that a ``response_format`` asks for."""
    kind = value.get("type")
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise InvalidRequestError(
            '"response_format.type" of the request must be "text", "json_object" or "json_schema", not '
            + json.dumps(kind)
        )
    inner = value.get("json_schema")
    if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
        raise InvalidRequestError('"response_format.json_schema" of the request needs an object "schema"')
    return inner["schema"]


def _schema(value: Any, key: str) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidRequestError(f'"{key}" of the request is no JSON: {error}') from error
    if not isinstance(value, dict | bool):
        raise InvalidRequestError(f'"{key}" of the request must be a JSON schema, which is an object')
    return value

# SPDX-License-Identifier: Apache-2.0
"""A body as the arguments of mistral.rs' ChatCompletionRequest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engines.mistralrs import grammar
from dynamo_llm.runtime.engines.mistralrs.tools import Tools

# Keys of a body that mistral.rs takes under the same name.
_same_name = (
    "top_p",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "ignore_eos",
)
# Keys that are handled one by one below, or say nothing about the answer.
_handled = {
    "model",
    "adapter",
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
    "priority",
    "traceparent",
    "tracestate",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "include_stop_str_in_output",
    "temperature",
    "top_k",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "chat_template",
    "chat_template_kwargs",
    "reasoning_effort",
    "verbosity",
    "add_generation_prompt",
    "continue_final_message",
    *grammar.keys,
}
# Values of other keys that ask for what happens anyway.
_usual: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "suffix": ("",),
}
_hints = {
    "suffix": "; put what is to be filled in into the prompt, as the model's card says",
    "echo": "; put the prompt before the answer",
    "best_of": '; ask for "n" answers with "logprobs", and choose',
}


@dataclass(frozen=True)
class Request:
    """A chat or a completion, made ready."""

    arguments: dict[str, Any]
    """Those of ChatCompletionRequest, for one choice."""
    choices: int
    """How many answers."""
    stops: list[str]
    """Stop strings."""
    keeps_stop: bool
    """Whether the stop string belongs to the answer."""
    is_exact: bool
    """Whether the answer is its tokens, to the letter: log-probs have their bytes, of all but EOS."""
    logprobs: int | None
    """None: no log-probs; else how many alternatives each token gets."""
    is_chat: bool
    """Or a completion, which has another shape of log-probs."""
    tools: Tools
    """The tools that it has."""
    may_call_several: bool
    """Or the first call only."""


def of_body(body: Mapping[str, Any], prompt: str, adapters: Iterable[str]) -> Request:
    """Make a body ready.

    :param prompt: the text that the model gets.
    :param adapters: names of those that are loaded.
    :raises InvalidRequestError: a value that makes no sense.
    :raises NotSupportedError: a key that would change the answer, and that mistral.rs does not know.
    """
    given = {key: value for key, value in body.items() if value is not None}
    _check(given)
    tools = Tools(given)
    shape = grammar.of_body(given)
    if tools.is_forced:
        if shape is not None:
            raise InvalidRequestError(
                '"tool_choice" of the request makes the answer a call, so it can have no other form'
            )
        shape = tools.forced()
    stop = given.get("stop")
    stops = [stop] if isinstance(stop, str) else [one for one in stop or [] if one]
    keeps_stop = given.get("include_stop_str_in_output", False)
    count = _logprobs(given)
    # mistral.rs takes white space from the beginning of an answer, and looks for thoughts in it. But a prompt
    # is gone on with, and a form is obeyed, to the letter.
    may_call = tools.schemas is not None and not tools.is_forced and not tools.are_off
    is_exact = "prompt" in given or (shape is not None and not may_call)
    arguments: dict[str, Any] = {
        "messages": [{"role": "user", "content": prompt}],  # its template hands it on
        "model": "default",
        "stream": True,
        "max_tokens": given.get("max_completion_tokens", given.get("max_tokens")),
        "n_choices": 1,
        # mistral.rs sees a stop string that is one token only as that very token ("KV" is not " KV"), so
        # the text is cut by us. It gets the strings all the same, to stop by itself, which gives usage; but
        # then it keeps the stop string for itself.
        "stop_seqs": None if keeps_stop else [form for one in stops for form in (one, " " + one)] or None,
        "top_k": given["top_k"] if given.get("top_k", 0) > 0 else None,
        "logit_bias": _biases(given.get("logit_bias", {})),
        # Greedy, whatever generation_config.json says: the same for every model and engine.
        "temperature": given.get("temperature", 0.0),
        "logprobs": count is not None or is_exact,
        "top_logprobs": max(1, count or 0),
        "tool_schemas": tools.schemas,
        "adapter": _adapter(given, list(adapters)),
        **{key: given[key] for key in _same_name if key in given},
    }
    if shape is not None:
        arguments["grammar"], arguments["grammar_type"] = shape
    return Request(
        arguments,
        choices=given.get("n", 1),
        stops=stops,
        keeps_stop=keeps_stop,
        is_exact=is_exact,
        logprobs=count,
        is_chat="messages" in given,
        tools=tools,
        may_call_several=given.get("parallel_tool_calls", True),
    )


def check_nvext(given: Mapping[str, Any]) -> None:
    """See that ``nvext`` has what the library itself heeds.

    :raises NotSupportedError: it has more.
    """
    for key in sorted((given.get("nvext") or {}).keys() - {"agent_hints", "extra_fields"}):
        raise NotSupportedError(f'the engine "mistralrs" does not support "nvext.{key}" of the request')


def _check(given: Mapping[str, Any]) -> None:
    check_nvext(given)
    for key in sorted(set(given) - _handled - set(_same_name) - {"nvext"}):
        if given[key] not in _usual.get(key, ()):
            hint = _hints.get(key, "")
            raise NotSupportedError(f'the engine "mistralrs" does not support "{key}" of the request{hint}')
    if "seed" in given and given.get("temperature", 0) > 0:
        raise NotSupportedError(
            'the engine "mistralrs" has one sampler for all requests; set "options.seed" of the '
            'configuration in place of "seed" of the request'
        )


def _logprobs(given: Mapping[str, Any]) -> int | None:
    """None, or the count of alternatives."""
    if "prompt" in given:
        return given.get("logprobs")
    if given.get("logprobs"):
        count: int = given.get("top_logprobs", 0)
        return count
    if given.get("top_logprobs"):
        raise InvalidRequestError('"top_logprobs" of the request needs "logprobs": true beside it')
    return None


def _biases(given: Mapping[str, Any]) -> dict[int, float] | None:
    try:
        return {int(key): float(bias) for key, bias in given.items()} or None
    except (ValueError, TypeError) as error:
        raise InvalidRequestError(
            f'"logit_bias" of the request must give a number for each token id: {error}'
        ) from error


def _adapter(given: Mapping[str, Any], adapters: list[str]) -> str | None:
    adapter = given.get("adapter")
    if adapter is None:
        model = given.get("model")
        return model if model in adapters else None
    if adapter not in adapters:
        known = ", ".join(adapters) or "none"
        raise InvalidRequestError(f'"adapter" of the request: there is no {adapter!r}; loaded: {known}')
    return str(adapter)

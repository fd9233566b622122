# SPDX-License-Identifier: Apache-2.0
"""Converts a body to the arguments of ChatCompletionRequest of mistral.rs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engines.mistralrs import dry, grammar
from dynamo_llm.runtime.pipeline.request_body import RequestSettings
from dynamo_llm.runtime.pipeline.tools import Tools

#: Optional keys of a body that the engine accepts: ``request_keys`` of ``describe()``.
keys = (*dry.keys, "parallel_tool_calls", "stop_token_ids", "tool_choice")
#: Alternatives to what the engine does not support.
hints = {"seed": '; it has one sampler for all requests: set "options.seed" of the configuration instead'}


@dataclass(frozen=True)
class Request:
    """A converted chat or completion."""

    arguments: dict[str, Any]
    """Arguments of ChatCompletionRequest, for one choice."""
    settings: RequestSettings
    is_exact: bool
    """Whether the answer is exactly the text of its tokens, not parsed for reasoning or tool calls."""
    tools: Tools
    may_call_several: bool
    """Whether the answer may have several tool calls; otherwise only the first one is kept."""

    def with_prompt(self, prompt: str, images: Sequence[str] = ()) -> "Request":
        """Returns the same request for another prompt, and images as data URLs."""
        return replace(self, arguments={**self.arguments, "messages": messages(prompt, images)})


def messages(prompt: str, images: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Returns the messages for a prompt, which the template for mistral.rs passes on unchanged.

    :param images: data URLs.
    """
    if not images:
        return [{"role": "user", "content": prompt}]
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}]


def of_body(
    body: Mapping[str, Any], settings: RequestSettings, prompt: str, end_tokens: Sequence[str] = ()
) -> Request:
    """Converts a body.

    :param end_tokens: texts of tokens that end the answer, in addition to those that mistral.rs knows as EOS.
    :raises InvalidRequestError: the tools or the keys of DRY sampling are not valid, or the request has both
        structured output and a forced tool call.
    :raises NotSupportedError: tools that are not functions, or stop tokens that must be part of the answer.
    """
    if settings.stop_token_ids and settings.includes_stop:
        raise NotSupportedError(
            'the engine "mistralrs" cannot include stop tokens in the answer: "include_stop_str_in_output" '
            'and "stop_token_ids" of the request exclude each other'
        )
    tools = Tools(body, "mistralrs")
    form = grammar.of_guided(settings.guided)
    if tools.is_forced:
        if form is not None:
            raise InvalidRequestError(
                '"tool_choice" of the request forces a tool call, so the request cannot demand '
                "structured output"
            )
        form = grammar.of_schema(tools.forced_schema())
    # mistral.rs strips white space from the beginning of an answer, and parses reasoning in it. The answer to
    # a completion, and structured output, must stay exactly as the model wrote it.
    may_call = bool(tools.all) and not tools.is_forced and not tools.are_off
    is_exact = not settings.is_chat or (form is not None and not may_call)
    arguments: dict[str, Any] = {
        "messages": messages(prompt),
        "model": "default",
        "stream": True,
        "max_tokens": settings.max_tokens,
        "n_choices": 1,
        # Never the request's stop strings: mistral.rs cuts at them by other rules, and reports no usage.
        "stop_seqs": list(end_tokens) or None,
        "ignore_eos": settings.ignore_eos,
        "logprobs": True,  # needed to identify the tokens of the answer
        "top_logprobs": max(1, settings.logprobs or 0),
        "tool_schemas": [json.dumps(tool) for tool in tools.all] or None,
        "adapter": settings.adapter,
        **_sampling(settings),
        **dry.of_body(body),
    }
    if form is not None:
        arguments["grammar"], arguments["grammar_type"] = form
    may_call_several = body.get("parallel_tool_calls") is not False
    return Request(arguments, settings, is_exact, tools, may_call_several)


def _sampling(settings: RequestSettings) -> dict[str, Any]:
    """Returns the arguments for sampling, except the seed, which the engine's options set."""
    given = {key: value for key, value in vars(settings.sampling).items() if value is not None}
    given.pop("seed", None)
    if given.get("top_k", 0) <= 0:
        given.pop("top_k", None)
    # The default is greedy, whatever generation_config.json declares: the same for every model and engine.
    return {**given, "temperature": given.get("temperature") or 0.0}

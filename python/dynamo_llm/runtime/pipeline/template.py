# SPDX-License-Identifier: Apache-2.0
"""Chat templates, with the meaning that Hugging Face gives them."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dynamo_llm.errors import InvalidRequestError, NotSupportedError

#: Stands at the end of a message that the answer continues, to find where the template has put it.
_mark = "\ue000the-answer-continues-here\ue000"
#: Names of a message's reasoning; templates read one or the other.
_reasoning = ("reasoning_content", "thinking", "reasoning")


class _Generation(Extension):
    """``{% generation %}`` marks what training looks at; here it is its content."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own name)

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        content: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return content


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _now(format: str) -> str:
    return datetime.now().strftime(format)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


class Template:
    """A compiled template.

    :raises InvalidRequestError: its syntax is wrong.
    """

    def __init__(self, source: str) -> None:
        try:
            tree = _environment().parse(source)
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidRequestError(f"the chat template cannot be read: {_said(error)}") from error
        self.variables = frozenset(meta.find_undeclared_variables(tree))
        """What it uses of what it is given."""

    def render(self, variables: Mapping[str, Any]) -> str:
        """Fill it in.

        :raises InvalidRequestError: what the template said of the messages, or an error in it.
        """
        try:
            return self._template.render(variables)
        except Exception as error:  # a template runs code: it can raise anything
            raise InvalidRequestError(f"the chat template refuses the messages: {_said(error)}") from error

    def render_open(self, variables: Mapping[str, Any]) -> str:
        """Fill it in up to the end of the last message, which the answer continues."""
        messages = list(variables["messages"])
        final = messages[-1].get("content")
        if not isinstance(final, str):
            raise InvalidRequestError(
                '"continue_final_message" of the request needs a last message with a text to continue'
            )
        messages[-1] = {**messages[-1], "content": final + _mark}
        text, mark, _ = self.render({**variables, "messages": messages}).rpartition(_mark)
        if not mark:
            raise InvalidRequestError(
                '"continue_final_message" of the request does not fit the chat template, which leaves the '
                "last message out, or changes it"
            )
        return text


def _said(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    what = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
    return f"{what} (line {line})" if line else what


#: Templates of requests; those of the model are compiled once, too.
_compiled = lru_cache(maxsize=32)(Template)


class ChatTemplates:
    """The templates of a model.

    :param sources: by name; ``default`` is the usual one.
    :param special_tokens: variables that every template gets: ``bos_token``, ...
    """

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, Any]) -> None:
        self._sources = sources
        self._special_tokens = special_tokens

    def _choose(self, body: Mapping[str, Any], has_tools: bool) -> Template:
        given = body.get("chat_template")
        if given is not None:
            return _compiled(self._sources.get(given, given))
        wanted = ["default"]
        if body.get("documents"):
            wanted.insert(0, "rag")
        if has_tools:
            wanted.insert(0, "tool_use")
        for name in wanted:
            if name in self._sources:
                return _compiled(self._sources[name])
        if self._sources:
            raise InvalidRequestError(
                'the model has no default chat template; name one as "chat_template" of the request: '
                + ", ".join(sorted(self._sources))
            )
        raise NotSupportedError(
            'the model has no chat template; send a completion ("prompt"), or a "chat_template" with the chat'
        )

    def render(self, body: Mapping[str, Any], messages: list[dict[str, Any]]) -> str:
        """The prompt for a chat.

        :param body: OpenAI's, with ``tools``, ``documents``, ``chat_template``, ``chat_template_kwargs``, ...
        :param messages: the body's, plain: see :func:`dynamo_llm.runtime.pipeline.messages.plain`.
        :raises InvalidRequestError: what the template said.
        :raises NotSupportedError: the template does not know something of the body.
        """
        is_open = bool(body.get("continue_final_message"))
        add_prompt = body.get("add_generation_prompt")
        if is_open and add_prompt:
            raise InvalidRequestError(
                '"continue_final_message" and "add_generation_prompt" of the request exclude each other'
            )
        # "none" forbids calls, and a model that does not know of the tools makes none.
        tools = None if body.get("tool_choice") == "none" else body.get("tools") or None
        template = self._choose(body, bool(tools))
        given = {"tools": tools, "documents": body.get("documents") or None}
        for key in ("reasoning_effort", "verbosity"):
            if body.get(key) is not None:
                given[key] = body[key]
        for key, value in given.items():
            if value is not None and key not in template.variables:
                raise NotSupportedError(f'the model\'s chat template does not know "{key}" of the request')
        variables = {
            **self._special_tokens,
            **given,
            **(body.get("chat_template_kwargs") or {}),
            "messages": [_with_reasoning(message) for message in messages],
            "add_generation_prompt": not is_open if add_prompt is None else add_prompt,
        }
        return template.render_open(variables) if is_open else template.render(variables)


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    text = next((message[key] for key in _reasoning if message.get(key) is not None), None)
    if text is None:
        return message
    return {"thinking": text, **message, "reasoning_content": text}

# SPDX-License-Identifier: Apache-2.0
"""Renders chat templates in the same way as Hugging Face's transformers."""

import collections
import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.pipeline.messages import Message, prepared, texts, with_text
from dynamo_llm.runtime.pipeline.template_traits import traits

#: Appended to the message that the answer continues, to find where the template has put the message.
_mark = "\ue000the-answer-continues-here\ue000"
#: Keys of a message's reasoning; each template reads one of them.
_reasoning = ("reasoning_content", "thinking", "reasoning")
#: Roles whose texts must be in the prompt. Templates may omit messages and reasoning of the assistant.
_instructing = frozenset({"system", "developer", "user"})
#: Roles as above, and roles of tool results.
_informing = _instructing | {"tool", "function"}
#: A text of at least this length that is found in the prompt is not a chance match within another text.
_unmistakable = 16
#: Replaces a text, to test whether the template writes it. Digits survive a change of case.
_probe, _probes = "73019548{:08d}37", re.compile(r"73019548(\d{8})37")
#: The same as one character of a private plane, which survives templates that cut, wrap, or reverse a text.
_short_probe = 0xF0000
#: Maximum length of a template's error message, in characters; the rest is cut off.
_longest = 2000
#: Keys that ``chat_template_kwargs`` must not have, because the request has them itself.
_own_keys = ("messages", "chat_template")


class _Generation(Extension):
    """Parses ``{% generation %}``, which marks tokens for training, and renders only its content."""

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
    # Jinja's own filter would escape HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class _Namespace(Namespace):
    """Jinja's namespace, without names that begin with an underscore, which would access its state."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no named parameter, so that "self" can be an argument
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            _refuse_private(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f'a namespace cannot have "{name}": names must not begin with an underscore')


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    environment.globals["namespace"] = _Namespace
    return environment


class Template:
    """A compiled template.

    :raises InvalidRequestError: the template has a syntax error.
    """

    def __init__(self, source: str) -> None:
        try:
            tree = _environment().parse(source)
            self.traits = traits(tree)  # must be first: the calls below fold constants in the tree
            """What the template reads of the messages."""
            self.variables = frozenset(meta.find_undeclared_variables(tree))
            """Names of the variables that the template uses."""
            self._template = _environment().from_string(tree)
        except Exception as error:  # deep nesting also raises errors of Python's compiler
            raise InvalidRequestError(f"the chat template is not valid: {_message(error)}") from error

    def render(self, variables: Mapping[str, Any]) -> str:
        """Renders the template.

        :raises InvalidRequestError: the template rejects the messages, or fails.
        """
        try:
            return self._template.render(variables)
        except Exception as error:  # a template runs code, which can raise anything
            raise InvalidRequestError(f"the chat template refuses the messages: {_message(error)}") from error

    def render_open(self, variables: Mapping[str, Any]) -> str:
        """Renders the template up to the end of the last message, which the answer continues."""
        messages = list(variables["messages"])
        final = texts(messages[-1])
        if not final:
            raise InvalidRequestError(
                '"continue_final_message" of the request needs a last message with a text to continue'
            )
        # If the space after the mark is missing, the template trims messages; the result is then trimmed,
        # too.
        messages[-1] = with_text(messages[-1], final[-1] + _mark + " ")
        text, mark, rest = self.render({**variables, "messages": messages}).rpartition(_mark)
        if not mark:
            raise InvalidRequestError(
                '"continue_final_message" of the request does not work with this chat template, which leaves '
                "out or changes the last message"
            )
        return text if rest.startswith(" ") else text.rstrip()

    def missing(self, variables: Mapping[str, Any], prompt: str) -> list[int]:
        """Returns the indexes of messages that the template has omitted from a prompt.

        Only instructions, users' texts, and tool results count. A template that writes no content at all is
        considered correct.
        """
        messages: list[Message] = variables["messages"]
        if not self.traits.writes_content:
            return []
        wanted = {
            n: [text.strip() for text in texts(one) if text.strip()]
            for n, one in enumerate(messages)
            if one["role"] in _informing
        }
        at = 0
        occurrences = collections.Counter(text.strip() for one in messages for text in texts(one))
        for text in (text for some in wanted.values() for text in some):
            is_unmistakable = len(text) >= _unmistakable and occurrences[text] == 1
            found = prompt.find(text, at) if is_unmistakable else -1
            if found < 0:
                break
            at = found + len(text)
        else:
            return []

        # Some texts were changed, moved, or are too short to find: replace all by probes to see which are
        # written.
        def probed(probe: Callable[[int], str]) -> str:
            probes = [with_text(one, probe(n)) if wanted.get(n) else one for n, one in enumerate(messages)]
            return self.render({**variables, "messages": probes})

        try:
            written = {int(n) for n in _probes.findall(probed(_probe.format))}
            if not written.issuperset(n for n, some in wanted.items() if some):
                written |= {ord(one) - _short_probe for one in probed(lambda n: chr(_short_probe + n))}
        except InvalidRequestError:  # the template needs the original texts
            return []
        return [n for n, some in wanted.items() if some and n not in written]


def _message(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    what = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
    what = what if len(what) <= _longest else what[:_longest] + "..."
    return f"{what} (line {line})" if line else what


#: Cache of compiled templates, those in requests included, so that each is compiled only once.
_compiled = lru_cache(maxsize=32)(Template)


class ChatTemplates:
    """Renders the templates of a model in the calling process: see
    :class:`~dynamo_llm.runtime.pipeline.renderer.Renderer`.

    :param sources: templates by name; the standard one is ``default``.
    :param special_tokens: variables passed to every template: ``bos_token``, and so on.
    :param warn: called with a description of anything in the request that does not reach the model.
    :param media: types of parts without text that messages may have, such as ``{"type": "image"}``.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        special_tokens: Mapping[str, Any],
        warn: Callable[[str], None] = lambda text: None,
        media: Collection[str] = (),
    ) -> None:
        self._sources = sources
        self._special_tokens = special_tokens
        self._media = media
        self._warn = warn

    def prepare(self) -> None:
        """Compiles the standard template in advance. Does not raise."""
        if "default" in self._sources:
            with contextlib.suppress(InvalidRequestError):
                _compiled(self._sources["default"])

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

    def render(self, body: Mapping[str, Any]) -> str:
        """Returns the prompt for a chat.

        :param body: OpenAI's request body, with ``messages``, ``tools``, ``documents``, ``chat_template``,
            ``chat_template_kwargs``, and so on.
        :raises InvalidRequestError: a message is not valid, or the template rejects the messages.
        :raises NotSupportedError: the template or the library does not support something in the body; or the
            template omits a user's message or an instruction.
        """
        extra = dict(body.get("chat_template_kwargs") or {})
        is_open = bool(self._setting(body, extra, "continue_final_message"))
        add_prompt = self._setting(body, extra, "add_generation_prompt")
        if is_open and add_prompt:
            raise InvalidRequestError(
                '"continue_final_message" and "add_generation_prompt" of the request exclude each other'
            )
        # "none" forbids calls: a model that does not see the tools makes none.
        tools = None if body.get("tool_choice") == "none" else body.get("tools") or None
        template = self._choose(body, bool(tools))
        given = {"tools": tools, "documents": body.get("documents") or None}
        for key, value in given.items():
            if value is not None and key not in template.variables:
                raise NotSupportedError(f'the model\'s chat template does not use "{key}" of the request')
        for key in ("reasoning_effort", "verbosity"):
            if body.get(key) is not None:
                extra.setdefault(key, body[key])
        for key in extra:
            if key not in template.variables:
                self._warn(f'the chat template does not use "{key}" of a request, which has no effect')
        messages = prepared(body["messages"], template.traits, self._media)
        if not template.traits.reads_calls and any("tool_calls" in message for message in messages):
            self._warn(
                'the chat template does not write "tool_calls" of messages: the model does not see them'
            )
        variables = {
            **self._special_tokens,
            **given,
            **extra,
            "messages": [_with_reasoning(message) for message in messages],
            "add_generation_prompt": not is_open if add_prompt is None else add_prompt,
        }
        prompt = template.render_open(variables) if is_open else template.render(variables)
        if tools and not any(_name(tool) in prompt for tool in tools):
            self._warn('the chat template leaves "tools" of a request out: the model does not see them')
        for number in template.missing(variables, prompt):
            if messages[number]["role"] not in _instructing:
                self._warn("the chat template does not write results of tools: the model does not see them")
                continue
            raise NotSupportedError(
                f'"messages[{number}]" of the request (role "{body["messages"][number]["role"]}") would not '
                "reach the model: the chat template leaves it out"
            )
        return prompt

    @staticmethod
    def _setting(body: Mapping[str, Any], extra: dict[str, Any], key: str) -> Any:
        """Returns a key of the body, or of ``chat_template_kwargs``, from which it is removed."""
        for own in _own_keys:
            if own in extra:
                raise InvalidRequestError(
                    f'"chat_template_kwargs.{own}" of the request is not a variable of templates; give '
                    f'"{own}" in the request itself'
                )
        value, inner = body.get(key), extra.pop(key, None)
        if value is not None and inner is not None and bool(value) != bool(inner):
            raise InvalidRequestError(
                f'"{key}" and "chat_template_kwargs.{key}" of the request contradict each other; give one'
            )
        return inner if value is None else value


def _name(tool: Any) -> str:
    """Returns the name of a tool, or an empty string if it has none."""
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    text = next((message[key] for key in _reasoning if message.get(key) is not None), None)
    if text is None:
        return message
    return {"thinking": text, **message, "reasoning_content": text}

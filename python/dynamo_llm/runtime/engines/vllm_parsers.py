# SPDX-License-Identifier: Apache-2.0
"""vLLM's parsers of tool calls and reasoning, for its engine."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from dynamo_llm.errors import EngineFailedError, InvalidConfigError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.pipeline.answer_parser import AskedChat, Found
from dynamo_llm.runtime.secret import shown


class VllmParsers:
    """A tool call parser and a reasoning parser, or one of them; an
    :class:`~dynamo_llm.runtime.pipeline.answer_parser.AnswerParsers`.

    :param tokenizer: vLLM's tokenizer of the model.
    :param model_config: vLLM's description of the model.
    :param tool_call: name of the parser of tool calls; None: no parser.
    :param reasoning: name of the parser of reasoning; None: no parser.
    :raises InvalidConfigError: vLLM has no parser of a name, or it cannot parse the model's answers.
    :raises NotSupportedError: the model's answers are not text.
    """

    def __init__(
        self, tokenizer: Any, model_config: Any, tool_call: str | None, reasoning: str | None
    ) -> None:
        # Not at the top: vLLM may be missing, and takes seconds to import.
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.parser import ParserManager
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager

        _check("tool_call_parser", tool_call, ToolParserManager.list_registered())
        _check("reasoning_parser", reasoning, ReasoningParserManager.list_registered())
        if model_config.hf_config.model_type == "gpt_oss":
            raise NotSupportedError(
                "vLLM's parsers of gpt-oss read the token ids of prompts that only vLLM's server renders; "
                "use the engine mistralrs or openai for this model"
            )
        self.finds_calls = tool_call is not None
        """Whether there is a tool call parser."""
        self.finds_reasoning = reasoning is not None
        """Whether there is a reasoning parser."""
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._request = ChatCompletionRequest

        def parser_of(tool_call: str | None) -> Any:
            return ParserManager.get_parser(tool_call, reasoning, True, tokenizer=tokenizer)

        try:
            self._kind = parser_of(tool_call)
            # Of a chat without tools, calls stay text.
            self._kind_without_tools = parser_of(None)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidConfigError(
                f"vLLM's parsers of the configuration cannot parse the answers of this model: {error}"
            ) from error

    async def begin(self, chat: AskedChat) -> "VllmParser":
        """Returns the parser of a new choice.

        :raises InvalidRequestError: vLLM refuses the tools.
        """
        tools = [dict(tool) for tool in chat.tools]
        # Some models number their calls, also those of earlier turns.
        called = [
            {"role": "assistant", "content": "", "tool_calls": message["tool_calls"]}
            for message in chat.body["messages"]
            if isinstance(message, dict) and message.get("tool_calls")
        ]
        messages = called or [{"role": "user", "content": ""}]
        try:
            request = self._request(
                messages=messages, **({"tools": tools, "tool_choice": "auto"} if tools else {})
            )
            kind = self._kind if tools else self._kind_without_tools
            parser = kind(
                self._tokenizer,
                request.tools,
                chat_template_kwargs=dict(chat.body.get("chat_template_kwargs") or {}),
                model_config=self._model_config,
            )
        except ValueError as error:
            raise InvalidRequestError(f"vLLM refuses the tools of the request: {error}") from error
        return VllmParser(parser, request, chat.token_ids)


class VllmParser:
    """Parses one choice; an :class:`~dynamo_llm.runtime.pipeline.answer_parser.AnswerParser`.

    :param parser: vLLM's parser of the choice.
    :param request: vLLM's form of the request.
    :param prompt: the prompt's token ids.
    """

    def __init__(self, parser: Any, request: Any, prompt: list[int]) -> None:
        self._parser = parser
        self._request = request
        self._prompt = prompt

    async def feed(self, text: str, token_ids: Sequence[int]) -> Found:
        """Parses more text.

        :raises EngineFailedError: the parser fails.
        """
        return self._parse(text, token_ids, False) if text or token_ids else Found()

    async def finish(self, finish_reason: str, text: str, token_ids: Sequence[int]) -> Found:
        """Parses the last text, and returns it with what was left; errors as :meth:`feed`."""
        return self._parse(text, token_ids, True)

    async def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def _parse(self, text: str, token_ids: Sequence[int], is_last: bool) -> Found:
        try:
            delta = self._parser.parse_delta(
                text, list(token_ids), self._request, self._prompt, finished=is_last
            )
        except Exception as error:
            raise EngineFailedError(f"vLLM's parser fails: {error!r}"[:1000]) from error
        if delta is None:
            return Found()
        calls = [call.model_dump(exclude_none=True) for call in delta.tool_calls]
        return Found(delta.content or "", delta.reasoning or "", calls)


def _check(key: str, name: str | None, known: Iterable[str]) -> None:
    if name is None or name in known:
        return
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(f'vllm:{one}' for one in close)}? " if close else ""
    raise InvalidConfigError(
        f'"{key}" of the configuration is "vllm:{shown(name)}", which is not a parser of vLLM; {hint}'
        f"Known parsers: {', '.join(names)}"
    )

# SPDX-License-Identifier: Apache-2.0
"""The parsers of tool calls and reasoning that come with NVIDIA Dynamo, by name."""

import difflib

from dynamo_llm.errors import EngineUnavailableError, InvalidConfigError
from dynamo_llm.runtime import extras
from dynamo_llm.runtime.cluster import dynamo_import, planes
from dynamo_llm.runtime.cluster.connection import Connection, acquire
from dynamo_llm.runtime.cluster.parsers.dynamo_parser import DynamoParser
from dynamo_llm.runtime.cluster.parsers.service import ParserService, namespace, service_of
from dynamo_llm.runtime.cluster.settings import Settings
from dynamo_llm.runtime.pipeline.answer_parser import AskedChat
from dynamo_llm.runtime.secret import shown
from dynamo_llm.runtime.threads import in_thread

#: Parsers that read the token ids of gpt-oss, not text.
_of_token_ids = {"harmony", "gpt_oss"}


class DynamoParsers:
    """A tool call parser and a reasoning parser, or one of them; an
    :class:`~dynamo_llm.runtime.pipeline.answer_parser.AnswerParsers`. Created by :meth:`open`.
    """

    def __init__(self, connection: Connection, service: ParserService, model: str) -> None:
        self._connection = connection
        self._service = service
        self._model = model
        self.finds_calls = False
        """Whether there is a tool call parser."""
        self.finds_reasoning = False
        """Whether there is a reasoning parser."""

    @classmethod
    async def open(cls, tool_call_parser: str | None, reasoning_parser: str | None) -> "DynamoParsers":
        """Opens parsers. The caller must call :meth:`close`.

        :raises EngineUnavailableError: Dynamo's package is not installed; the message says how to install it.
        :raises InvalidConfigError: Dynamo has no parser of this name; the message lists the nearest ones.
        :raises UnavailableError: the parsers do not start.
        """
        names = {"tool_call_parser": tool_call_parser, "reasoning_parser": reasoning_parser}
        try:
            core = await in_thread(dynamo_import.import_core)
        except ImportError as error:
            key = next(key for key, name in names.items() if name is not None)
            raise EngineUnavailableError(
                f'"{key}" of the configuration needs the Python package of NVIDIA Dynamo, which has the '
                f"parsers ({error}); run: {extras.install_command('dynamo')}"
            ) from error
        for key, known in (
            ("tool_call_parser", core.get_tool_parser_names()),
            ("reasoning_parser", core.get_reasoning_parser_names()),
        ):
            _check(key, names[key], sorted(set(known) - _of_token_ids))
        connection = await acquire(Settings.within_process(namespace, planes.claimed()))
        try:
            service = await service_of(connection)
            parsers = cls(connection, service, await service.model(tool_call_parser, reasoning_parser))
        except BaseException:
            await connection.release()
            raise
        parsers.finds_calls = tool_call_parser is not None
        parsers.finds_reasoning = reasoning_parser is not None
        return parsers

    async def close(self) -> None:
        """Releases the parsers."""
        await self._connection.release()

    async def begin(self, chat: AskedChat) -> DynamoParser:
        """Returns the parser of a new choice."""
        return await DynamoParser.begin(
            self._service, self._model, chat.tools, chat.prompt_end, finds_reasoning=self.finds_reasoning
        )


def _check(key: str, name: str | None, known: list[str]) -> None:
    if name is None or name in known:
        return
    if name in _of_token_ids:
        raise InvalidConfigError(
            f'"{key}" of the configuration is "{name}", a parser of NVIDIA Dynamo that reads the token ids '
            f"of gpt-oss models, which the library does not support; use the engine mistralrs or openai for "
            f"them"
        )
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(f'{one!r}' for one in close)}? " if close else ""
    hint = hint.replace("'", '"')
    raise InvalidConfigError(
        f'"{key}" of the configuration is "{shown(name)}", which is not a parser of NVIDIA Dynamo; {hint}'
        f"Known parsers: {', '.join(known)}"
    )

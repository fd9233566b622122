# SPDX-License-Identifier: Apache-2.0
"""The parsers of an engine's models: which the configuration and the engine's descriptions name."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from dynamo_llm.errors import DynamoError
from dynamo_llm.runtime.engine import ModelInfo
from dynamo_llm.runtime.parser_names import ParserNames

if TYPE_CHECKING:
    from dynamo_llm.runtime.cluster.parsers.dynamo_parsers import DynamoParsers
    from dynamo_llm.runtime.pipeline.answer_parser import AnswerParsers

_log = logging.getLogger("dynamo_llm.parsers")


class ModelParsers:
    """Opens parsers, each pair of names once. Used on the event loop.

    :param configured: the names in the configuration.
    """

    def __init__(self, configured: ParserNames) -> None:
        self._configured = configured
        self._opening: dict[ParserNames, asyncio.Task[DynamoParsers]] = {}

    async def open_configured(self) -> None:
        """Opens those that the configuration names, except for vLLM's: these need the loaded model.

        :raises DynamoError: as :meth:`DynamoParsers.open`.
        """
        if not self._configured.are_of_vllm:
            await self._open(self._configured.over(ParserNames()))

    async def of(self, model: str, info: ModelInfo, engine: Any) -> "AnswerParsers | None":
        """Returns the parsers of a model; None if nothing names one. If those that its description names
        cannot be used, a warning is logged, and its answers are not parsed.

        :param model: its name, for the warning.
        :param engine: the engine, loaded, which has vLLM's parsers if the configuration names some.
        """
        own = ParserNames.of(info)
        if self._configured.are_of_vllm:
            parsers: AnswerParsers = await engine.open_parsers(*self._configured.over(ParserNames()).bare)
            return parsers
        try:
            return await self._open(self._configured.over(own))
        except DynamoError as error:
            if own == ParserNames():
                raise
            _log.warning('answers of the model "%s" are not parsed: %s', model, error.message)
            return await self._open(self._configured.over(ParserNames()))

    async def _open(self, names: ParserNames) -> "DynamoParsers | None":
        if names == ParserNames():
            return None
        opening = self._opening.get(names)
        if opening is None or (opening.done() and opening.exception() is not None):
            # Not at the top: NVIDIA Dynamo's package may be missing.
            from dynamo_llm.runtime.cluster.parsers.dynamo_parsers import DynamoParsers

            opening = self._opening[names] = asyncio.create_task(DynamoParsers.open(*names))
        return await asyncio.shield(opening)

    async def close(self) -> None:
        """Releases all of them."""
        opening = list(self._opening.values())
        self._opening.clear()
        for opened in await asyncio.gather(*opening, return_exceptions=True):
            if not isinstance(opened, BaseException):
                await opened.close()

# SPDX-License-Identifier: Apache-2.0
"""Produces the token ids of a request's prompt."""

from collections.abc import Collection
from typing import Any

from dynamo_llm.errors import ContextLengthError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime import embedding
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.runtime.pipeline.request_body import token_ids
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


class Prompts:
    """Produces the prompts of chats and completions.

    :param tokenizer: None if prompts are always token ids.
    :param renderer: renders the model's templates; requires a tokenizer.
    :param vocab_size: exclusive upper limit of token ids; None if unknown.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, renderer: Renderer | None, vocab_size: int | None
    ) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self._renderer = renderer

    @classmethod
    def of(cls, folder: ModelFolder, settings: TemplateSettings, media: Collection[str] = ()) -> "Prompts":
        """Creates the prompts of a model. Blocks while its files are read.

        :param media: types of parts without text that messages may have, such as ``{"type": "image"}``.
        """
        tokenizer = Tokenizer(folder)
        renderer = Renderer(folder.chat_templates, folder.special_tokens, settings, media=media)
        size = folder.config.get("vocab_size")  # may exceed that of the tokenizer
        return cls(tokenizer, renderer, max(tokenizer.vocab_size, size if isinstance(size, int) else 0))

    async def ids(self, body: dict[str, Any], context_length: int | None = None) -> list[int]:
        """Returns the token ids of a request's only prompt. Parameters and errors are those of :meth:`each`.

        :raises NotSupportedError: several prompts.
        """
        given = body.get("prompt")
        if isinstance(given, list) and len(given) > 1 and not isinstance(given[0], int):
            raise NotSupportedError(
                f'"prompt" of the request has {len(given)} prompts; send a request for each'
            )
        return (await self.each(body, context_length))[0]

    async def each(self, body: dict[str, Any], context_length: int | None = None) -> list[list[int]]:
        """Returns the token ids of a request's prompts: of a chat one, of a completion one or several.

        :param body: the body of a chat or a completion; its types were already checked.
        :param context_length: a text with many more tokens is rejected without encoding all of it.
        :raises ContextLengthError: a prompt is such a text.
        :raises InvalidRequestError: a prompt is empty, or the template rejects the messages.
        :raises NotSupportedError: a text without a tokenizer.
        """
        if "messages" in body:
            if self._renderer is None or self.tokenizer is None:
                raise NotSupportedError(
                    'chats need the pipeline, which is "off" in the configuration; send a completion whose '
                    '"prompt" is an array of token ids'
                )
            text = await self._renderer.render_in_thread(body)
            return [await self.tokenizer.encode(text, False, context_length)]
        given = body["prompt"]
        if isinstance(given, list) and given and isinstance(given[0], str | list):
            if len(given) == 1:
                return [await self._completion(given[0], "prompt", context_length)]
            return [
                await self._completion(one, f"prompt[{number}]", context_length)
                for number, one in enumerate(given)
            ]
        return [await self._completion(given, "prompt", context_length)]

    async def inputs(self, given: embedding.Inputs, context_length: int) -> list[list[int]]:
        """Returns the token ids of texts to embed; token ids are only checked.

        :raises ContextLengthError: an input has more tokens.
        :raises InvalidRequestError: an input is empty.
        :raises NotSupportedError: a text without a tokenizer.
        """
        rows: list[list[int]] = []
        texts: list[Any] = list(given)
        for number, one in enumerate(texts):
            name = "input" if len(texts) == 1 else f"input[{number}]"
            ids = await self._completion(one, name, context_length)
            if len(ids) > context_length:
                raise ContextLengthError(
                    f'"{name}" has {len(ids)} tokens, but the model\'s context length is {context_length} '
                    f"tokens"
                )
            rows.append(ids)
        return rows

    async def pairs(
        self, texts: list[tuple[str, str]], context_length: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Returns the token ids of pairs of texts to compare, and which text each token belongs to.

        :raises ContextLengthError: a pair has more tokens.
        :raises NotSupportedError: no tokenizer.
        """
        if self.tokenizer is None:
            raise NotSupportedError('texts need the pipeline, which is "off" in the configuration')
        rows: list[list[int]] = []
        types: list[list[int]] = []
        for number, (first, second) in enumerate(texts):
            ids, type_ids = await self.tokenizer.encode_pair(first, second, context_length)
            if len(ids) > context_length:
                raise ContextLengthError(
                    f"the pair of texts {number} has {len(ids)} tokens, but the model's context length is "
                    f"{context_length} tokens"
                )
            rows.append(ids)
            types.append(type_ids)
        return rows, types

    async def _completion(self, prompt: str | list[int], name: str, context_length: int | None) -> list[int]:
        ids: Any = prompt
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise NotSupportedError(
                    'texts need the pipeline, which is "off" in the configuration; "'
                    f'{name.partition("[")[0]}" must be an array of token ids'
                )
            ids = await self.tokenizer.encode(prompt, True, context_length)
        ids = token_ids(ids, name, self.vocab_size)
        if not ids:
            raise InvalidRequestError(f'"{name}" of the request has no tokens; it needs at least one')
        checked: list[int] = ids
        return checked

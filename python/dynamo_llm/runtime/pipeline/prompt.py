# SPDX-License-Identifier: Apache-2.0
"""Produces the token ids of a request's prompt."""

from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
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
        self._tokenizer = tokenizer
        self._renderer = renderer
        self._vocab_size = vocab_size

    @classmethod
    def of(cls, folder: ModelFolder, settings: TemplateSettings) -> "Prompts":
        """Creates the prompts of a model. Blocks while its files are read."""
        tokenizer = Tokenizer(folder)
        renderer = Renderer(folder.chat_templates, folder.special_tokens, settings)
        return cls(tokenizer, renderer, vocab_size(folder, tokenizer))

    async def ids(self, body: dict[str, Any], context_length: int | None = None) -> list[int]:
        """Returns the token ids of a request's prompt.

        :param body: the body of a chat or a completion; its types were already checked.
        :param context_length: a text with many more tokens is rejected without encoding all of it.
        :raises ContextLengthError: the prompt is such a text.
        :raises InvalidRequestError: the prompt is empty, or the template rejects the messages.
        :raises NotSupportedError: a text without a tokenizer, or several prompts.
        """
        if "messages" in body:
            if self._renderer is None or self._tokenizer is None:
                raise NotSupportedError(
                    'chats need the pipeline, which is "off" in the configuration; send a completion whose '
                    '"prompt" is an array of token ids'
                )
            text = await self._renderer.render_in_thread(body)
            return await self._tokenizer.encode(text, False, context_length)
        prompt = body["prompt"]
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
            if len(prompt) > 1:
                raise NotSupportedError(
                    f'"prompt" of the request has {len(prompt)} prompts; send a request for each'
                )
            prompt = prompt[0]
        ids = prompt
        if isinstance(prompt, str):
            if self._tokenizer is None:
                raise NotSupportedError(
                    'texts need the pipeline, which is "off" in the configuration; "prompt" must be an array '
                    "of token ids"
                )
            ids = await self._tokenizer.encode(prompt, True, context_length)
        ids = token_ids(ids, "prompt", self._vocab_size)
        if not ids:
            raise InvalidRequestError('"prompt" of the request has no tokens; it needs at least one')
        return ids


def vocab_size(folder: ModelFolder | None, tokenizer: Tokenizer | None) -> int | None:
    """Returns the exclusive upper limit of a model's token ids, which may exceed the size of its
    tokenizer.
    """
    if folder is None or tokenizer is None:
        return None
    size = folder.config.get("vocab_size")
    return max(tokenizer.vocab_size, size if isinstance(size, int) else 0)

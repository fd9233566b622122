# SPDX-License-Identifier: Apache-2.0
"""The token ids of a request's prompt."""

import asyncio
from typing import Any

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.pipeline import messages
from dynamo_llm.runtime.pipeline.body import token_ids
from dynamo_llm.runtime.pipeline.folder import Folder
from dynamo_llm.runtime.pipeline.template import ChatTemplates
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


class Prompts:
    """Makes the prompts of chats and completions.

    :param tokenizer: None: prompts come as token ids.
    :param templates: the model's; needs the tokenizer.
    :param vocab_size: token ids are less; None if that is not known.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, templates: ChatTemplates | None, vocab_size: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._templates = templates
        self._vocab_size = vocab_size

    @classmethod
    def of(cls, folder: Folder) -> "Prompts":
        """Those of a model; blocks while its files are read."""
        tokenizer = Tokenizer(folder)
        templates = ChatTemplates(folder.chat_templates, folder.special_tokens)
        return cls(tokenizer, templates, vocab_size(folder, tokenizer))

    async def ids(self, body: dict[str, Any]) -> list[int]:
        """The prompt of a body.

        :param body: of a chat or a completion; types were checked.
        :raises InvalidRequestError: there is no prompt in it, or what the template said.
        :raises NotSupportedError: texts without a tokenizer, or several prompts.
        """
        if "messages" in body:
            if self._templates is None or self._tokenizer is None:
                raise NotSupportedError(
                    'with "pipeline": "off" in the configuration the engine takes no chats; send a '
                    'completion whose "prompt" is an array of token ids'
                )
            text = await _filled_in(self._templates, body)
            return await self._tokenizer.encode(text, add_special_tokens=False)
        prompt = body["prompt"]
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
            if len(prompt) > 1:
                raise NotSupportedError(
                    f'"prompt" of the request has {len(prompt)} prompts; send each in a request of its own'
                )
            prompt = prompt[0]
        ids = prompt
        if isinstance(prompt, str):
            if self._tokenizer is None:
                raise NotSupportedError(
                    'with "pipeline": "off" in the configuration "prompt" must be an array of token ids, '
                    "not a string"
                )
            ids = await self._tokenizer.encode(prompt, add_special_tokens=True)
        ids = token_ids(ids, "prompt", self._vocab_size)
        if not ids:
            raise InvalidRequestError('"prompt" of the request has no tokens; it needs at least one')
        return ids


async def _filled_in(templates: ChatTemplates, body: dict[str, Any]) -> str:
    def fill_in() -> str:
        return templates.render(body, messages.plain(body["messages"]))

    # A template of the caller's own may take its time.
    if body.get("chat_template") is None:
        return fill_in()
    return await asyncio.get_running_loop().run_in_executor(None, fill_in)


def vocab_size(folder: Folder | None, tokenizer: Tokenizer | None) -> int | None:
    """Token ids of a model are less; it may have more of them than its tokenizer."""
    if folder is None or tokenizer is None:
        return None
    size = folder.config.get("vocab_size")
    return max(tokenizer.vocab_size, size if isinstance(size, int) else 0)

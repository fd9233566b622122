# SPDX-License-Identifier: Apache-2.0
"""A model's tokenizer and chat template, without the model."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from dynamo_llm import _core
from dynamo_llm.api.interrupt import interruptible
from dynamo_llm.api.numbers import token_ids
from dynamo_llm.api.other_thread import require_other_thread
from dynamo_llm.api.runtime import config_text, given

Self = TypeVar("Self", bound="Tokenizer")


class Detokenizer:
    """Turns token ids that come bit by bit into a text that comes bit by bit.

    :meth:`Tokenizer.detokenizer` makes it. All its texts, put together, are what :meth:`Tokenizer.decode`
    makes of all ids at once. Any thread may use it; calls wait for each other.
    """

    def __init__(self, core: _core.Detokenizer) -> None:
        self._core = core

    def add(self, ids: int | Sequence[int]) -> str:
        """Add token ids, any number of them, or one. Blocks without the GIL until it is done.

        :returns: what they add to the text; "" if nothing yet. It never splits a character.
        :raises DynamoError: those of ``dynamo_detokenizer_add()``; then none of the ids was added.
        """
        require_other_thread("a tokenizer")
        return self._core.add(token_ids([ids] if isinstance(ids, int) else ids))

    def finish(self) -> str:
        """End the text. Then another one may begin.

        :returns: what was kept back: as a rule "", else the beginning of a character, as U+FFFD.
        :raises DynamoError: those of ``dynamo_detokenizer_finish()``.
        """
        require_other_thread("a tokenizer")
        return self._core.finish()


class Tokenizer:
    """A model's tokenizer and chat template, without the model.

    ``Tokenizer()`` is that of the demo model. Creating one blocks, without the GIL, until it is loaded; in a
    coroutine use :meth:`open`. Any thread may use it. Its methods block, without the GIL, for a tenth of a
    millisecond, and longer for long texts, where ``await asyncio.to_thread(tokenizer.encode, text)`` keeps a
    coroutine's loop free. An engine in Python must not call them on the library's own loop, which does their
    work.

    :param config: a dictionary, or its JSON, with the keys ``model`` and ``python``.
    :param model: folder with ``tokenizer.json``, or that file. This and the following are keys of the
        configuration, and override those of ``config``.
    :param python: ``{"path": [folders]}``, which are put on ``sys.path``.
    :raises DynamoError: those of ``dynamo_tokenizer_create()``: :class:`~dynamo_llm.InvalidConfigError`,
        :class:`~dynamo_llm.ModelNotFoundError`, ...
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        model: str | os.PathLike[str] | None = None,
        python: Mapping[str, Any] | None = None,
    ) -> None:
        require_other_thread("a tokenizer")
        text = config_text(config, given({"model": model, "python": python}))
        self._core = interruptible(partial(_core.Tokenizer, text))

    @classmethod
    async def open(cls: type[Self], config: Mapping[str, Any] | str | None = None, **keys: Any) -> Self:
        """``Tokenizer(config, ...)`` for coroutines: it loads while the caller's loop goes on."""
        return await asyncio.to_thread(partial(cls, config, **keys))

    @property
    def info(self) -> dict[str, Any]:
        """What there is to know of it, as ``dynamo_tokenizer_info()`` describes it.

        ``vocabulary_size``, ``special_tokens``, ``eos_token_ids``, ``has_chat_template``, ...
        """
        info: dict[str, Any] = json.loads(self._core.info())
        return info

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Turn a text into token ids.

        :param text: special tokens that are written in it become what they are.
        :param add_special_tokens: with those that the tokenizer puts around a text, such as BOS; not for a
            prompt of :meth:`apply_template`, which has them.
        :raises DynamoError: those of ``dynamo_tokenizer_encode()``.
        """
        require_other_thread("a tokenizer")
        return self._core.encode(text.encode("utf-8", "surrogatepass"), add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Turn token ids into a text. Bytes that are no UTF-8 come as U+FFFD.

        :param skip_special_tokens: special tokens, such as EOS, leave no text.
        :raises DynamoError: those of ``dynamo_tokenizer_decode()``.
        """
        require_other_thread("a tokenizer")
        return self._core.decode(token_ids(ids), skip_special_tokens)

    def apply_template(self, messages: str | Sequence[Mapping[str, Any]], **body: Any) -> str:
        """Turn a chat into the prompt that the model was trained on, by its chat template.

        :param messages: OpenAI's messages, as for :meth:`Runtime.chat`; a string is a question of the user.
        :param body: more keys of a chat's body. What counts is ``tools``, ``chat_template`` (in place of the
            model's), ``chat_template_kwargs`` (more variables of the template), ``add_generation_prompt``
            (default True), and ``continue_final_message``. None is as absent.
        :raises DynamoError: those of ``dynamo_tokenizer_apply_template()``:
            :class:`~dynamo_llm.InvalidRequestError`, ...
        """
        require_other_thread("a tokenizer")
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self._core.apply_template(json.dumps(given({"messages": list(messages), **body})))

    def detokenizer(self, skip_special_tokens: bool = True) -> Detokenizer:
        """Begin a text that comes token by token; it goes on when the tokenizer is closed.

        :param skip_special_tokens: special tokens, such as EOS, leave no text.
        """
        return Detokenizer(self._core.detokenizer(skip_special_tokens))

    def close(self) -> None:
        """Free it, if no detokenizer needs it any more; blocks, without the GIL, until that is done.

        Using it later raises :class:`~dynamo_llm.InvalidHandleError`. A tokenizer that is dropped is closed.
        """
        self._core.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

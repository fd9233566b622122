# SPDX-License-Identifier: Apache-2.0
"""A model's tokenizer and chat template, without the model."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_llm import _core
from dynamo_llm.api.handle import Handle, create, without_none
from dynamo_llm.api.json_text import json_text
from dynamo_llm.api.numbers import token_ids


class Detokenizer:
    """Decodes a stream of token ids into a stream of text. :meth:`Tokenizer.detokenizer` creates it.

    The texts it returns, concatenated, are what :meth:`Tokenizer.decode` returns for all ids at once.
    Thread-safe; concurrent calls wait for each other.
    """

    def __init__(self, core: _core.Detokenizer) -> None:
        self._core = core

    def add(self, ids: int | Sequence[int]) -> str:
        """Adds one token id, or any number of them. Blocks without holding the GIL.

        :returns: the text that they add; "" if none is complete yet. It never splits a character.
        :raises DynamoError: the errors of ``dynamo_detokenizer_add()``; then no id was added.
        """
        some: Any = [ids] if hasattr(ids, "__index__") else ids
        return self._core.add(token_ids(some))

    def finish(self) -> str:
        """Ends the text; :meth:`add` then begins a new one.

        :returns: the text that was held back: usually ""; U+FFFD for an incomplete character.
        :raises DynamoError: the errors of ``dynamo_detokenizer_finish()``.
        """
        return self._core.finish()


class Tokenizer(Handle):
    """A model's tokenizer and chat template, without the model.

    ``Tokenizer()`` loads that of the demo model. The constructor blocks, without holding the GIL, until the
    tokenizer is loaded; in a coroutine use :meth:`open`. Thread-safe. The methods block, without holding the
    GIL, for about 0.1 ms, and longer for long texts: ``await asyncio.to_thread(tokenizer.encode, text)``
    keeps the event loop free. The library's own event loop encodes and renders, so on it, in a coroutine of
    an engine in Python, these methods raise :class:`~dynamo_llm.InvalidStateError`; decoding needs no loop.

    :param config: a dictionary, or its JSON, with the keys of the following parameters.
    :param model: folder with ``tokenizer.json``, or that file, or a model of the Hugging Face Hub,
        ``hf:org/name``. This and the following parameters are keys of the configuration, and override those
        of ``config``.
    :param offline: whether a model ``hf:org/name`` must be in the cache.
    :param python: ``{"path": [folders]}``: folders to add to ``sys.path``.
    :param trust_request_chat_template: whether ``chat_template`` of :meth:`apply_template` may be a template,
        which is a program that the library runs. If not, it must name one of the model's templates.
    :param templates: where templates run, and their limits: ``run``, ``timeout_ms``, ``memory_mb``.
    :raises DynamoError: the errors of ``dynamo_tokenizer_create()``: :class:`~dynamo_llm.InvalidConfigError`,
        :class:`~dynamo_llm.ModelNotFoundError`, ...
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        model: str | os.PathLike[str] | None = None,
        offline: bool | None = None,
        python: Mapping[str, Any] | None = None,
        trust_request_chat_template: bool | None = None,
        templates: Mapping[str, Any] | None = None,
    ) -> None:
        keys = {
            "model": model,
            "offline": offline,
            "python": python,
            "trust_request_chat_template": trust_request_chat_template,
            "templates": templates,
        }
        self._core = create(_core.Tokenizer, config, keys)

    @property
    def info(self) -> dict[str, Any]:
        """Properties of the tokenizer: ``vocabulary_size``, ``special_tokens``, ``eos_token_ids``,
        ``has_chat_template``, ...; see ``dynamo_tokenizer_info()``.
        """
        info: dict[str, Any] = json.loads(self._core.info())
        return info

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Encodes a text as token ids.

        :param text: special tokens written in it are encoded as special tokens.
        :param add_special_tokens: whether to add the tokens that the tokenizer puts around a text, such as
            BOS. Pass False for a prompt of :meth:`apply_template`, which contains them.
        :raises DynamoError: the errors of ``dynamo_tokenizer_encode()``.
        """
        return self._core.encode(text.encode("utf-8", "surrogatepass"), add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Decodes token ids to text. Bytes that are not valid UTF-8 become U+FFFD.

        :param skip_special_tokens: whether to leave out special tokens, such as EOS.
        :raises DynamoError: the errors of ``dynamo_tokenizer_decode()``.
        """
        return self._core.decode(token_ids(ids), skip_special_tokens)

    def apply_template(self, messages: str | Sequence[Mapping[str, Any]], **body: Any) -> str:
        """Renders a chat as a prompt with the model's chat template.

        :param messages: OpenAI messages, as for :meth:`Runtime.chat`; a string is one message of the user.
        :param body: more keys of a chat's body. Used are ``tools``, ``chat_template`` (name of another
            template of the model; or, with ``trust_request_chat_template``, a template),
            ``chat_template_kwargs`` (more variables of the template), ``add_generation_prompt`` (default
            True), and ``continue_final_message``. None means absent.
        :raises DynamoError: the errors of ``dynamo_tokenizer_apply_template()``:
            :class:`~dynamo_llm.InvalidRequestError`, ...
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self._core.apply_template(json_text(without_none({"messages": list(messages), **body})))

    def detokenizer(self, skip_special_tokens: bool = True) -> Detokenizer:
        """Creates a detokenizer for one stream of tokens. It stays usable after the tokenizer is closed.

        :param skip_special_tokens: whether to leave out special tokens, such as EOS.
        """
        return Detokenizer(self._core.detokenizer(skip_special_tokens))

    def close(self) -> None:
        """Frees the tokenizer. Blocks, without holding the GIL, until it is freed, unless a detokenizer still
        uses it.

        Later use raises :class:`~dynamo_llm.InvalidHandleError`. A tokenizer that is garbage-collected is
        closed in the background.
        """
        self._core.close()

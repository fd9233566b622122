# SPDX-License-Identifier: Apache-2.0
"""What is behind the tokenizers of the C interface: an engine whose requests are their calls."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest
from dynamo_llm.runtime.pipeline.folder import Folder
from dynamo_llm.runtime.pipeline.messages import plain
from dynamo_llm.runtime.pipeline.template import ChatTemplates
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from dynamo_llm.runtime.tail import Tail

#: Tokens from which on they are decoded in a thread: about a millisecond of work.
_many = 4000


def _folder(model: str | None) -> Folder:
    if model is None:
        return Folder(demo_model_dir())
    path = Path(model).expanduser()
    right = '"model" is a folder with tokenizer.json, or that file'
    if not path.exists():
        raise ModelNotFoundError(f'the model "{path}" does not exist; {right}')
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        raise ModelNotFoundError(f'the folder "{path}" has no tokenizer.json; {right}')
    if not path.is_dir() and path.suffix != ".json":
        raise ModelNotFoundError(f'the file "{path}" is no tokenizer; {right}')
    return Folder(path)


class TokenizerEngine:
    """A tokenizer. The bodies of its requests are not OpenAI's, but one of

    - ``{"encode": text, "add_special_tokens": bool}``, answered by token ids;
    - ``{"decode": [ids], "skip_special_tokens": bool}``, answered by a text;
    - ``{"chat": body}``, answered by the prompt that the chat template makes of it;
    - ``{"advance": [ids], "tail": [numbers], "is_last": bool, "skip_special_tokens": bool}``, answered by a
      text and, as token ids, the new numbers: see :class:`dynamo_llm.runtime.tail.Tail`.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._model = config.model

    def start(self) -> None:
        """Load the tokenizer; blocks."""
        self._folder = _folder(self._model)
        self._tokenizer = Tokenizer(self._folder)
        self._templates = ChatTemplates(self._folder.chat_templates, self._folder.special_tokens)
        self._special = {
            token.content: id
            for id, token in self._tokenizer.core.get_added_tokens_decoder().items()
            if token.special
        }
        self._skipped = frozenset(self._special.values())

    def describe(self) -> dict[str, Any]:
        """The answer of ``dynamo_tokenizer_info()``."""
        named = {name: self._named(name) for name in ("bos_token", "eos_token")}
        bos, eos = named["bos_token"], named["eos_token"]
        length = self._folder.context_length
        return {
            "path": str(self._folder.path),
            "vocabulary_size": self._tokenizer.core.get_vocab_size(with_added_tokens=True),
            "largest_token_id": max(self._tokenizer.vocab_size - 1, 0),
            "special_tokens": self._special,
            **({} if bos is None else {"bos_token_id": bos}),
            "eos_token_ids": self._folder.eos_token_ids or ([] if eos is None else [eos]),
            "has_chat_template": bool(self._folder.chat_templates),
            **({} if length is None else {"context_length": length}),
        }

    def _named(self, name: str) -> int | None:
        token = self._folder.special_tokens.get(name)
        return None if token is None else self._tokenizer.token_id(token)

    def generate(self, request: EngineRequest) -> AsyncIterator[Chunk] | Iterator[Chunk]:
        """Answer a call, in one chunk. What may take long runs in a thread: on the loop others would wait."""
        body = request.body
        if "encode" in body:
            return self._encode(body["encode"], body["add_special_tokens"])
        if "chat" in body:
            return self._chat(body["chat"])
        is_long = len(body.get("decode") or body.get("advance") or ()) > _many
        return self._decode_in_thread(body) if is_long else self._decode_on_loop(body)

    def stop(self) -> None:
        """Free the tokenizer."""
        del self._tokenizer, self._templates

    async def _encode(self, text: str, add_special_tokens: bool) -> AsyncIterator[Chunk]:
        yield {"token_ids": await self._tokenizer.encode(text, add_special_tokens)}

    def _chat(self, body: dict[str, Any]) -> Iterator[Chunk]:
        yield {"text": self._templates.render(body, plain(body["messages"]))}

    async def _decode_on_loop(self, body: dict[str, Any]) -> AsyncIterator[Chunk]:
        yield self._decode(body)

    def _decode_in_thread(self, body: dict[str, Any]) -> Iterator[Chunk]:
        yield self._decode(body)

    def _decode(self, body: dict[str, Any]) -> Chunk:
        skips = body["skip_special_tokens"]
        if "decode" in body:
            return {"text": self._tokenizer.decode(body["decode"], skips)}
        ids = [id for id in body["advance"] if not (skips and id in self._skipped)]
        text, tail = Tail.of_numbers(body["tail"]).advance(
            lambda some: self._tokenizer.decode(some, skip_special_tokens=False), ids, body["is_last"]
        )
        return {"text": text, "token_ids": tail.numbers}

# SPDX-License-Identifier: Apache-2.0
"""What is behind the tokenizers of the C interface: an engine whose requests are their calls."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError, NotSupportedError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest
from dynamo_llm.runtime.tail import Tail

#: Characters, or tokens, from which on a call goes to a thread: on the loop others would wait for it.
_much = 10_000


class TokenizerEngine:
    """A tokenizer. The bodies of its requests are not OpenAI's, but one of

    - ``{"encode": text, "add_special_tokens": bool}``, answered by token ids;
    - ``{"decode": [ids], "skip_special_tokens": bool}``, answered by a text;
    - ``{"chat": body}``, answered by the prompt that the chat template makes of it;
    - ``{"advance": [ids], "tail": [numbers], "is_last": bool, "skip_special_tokens": bool}``, answered by a
      text and, as token ids, the new numbers: see :class:`dynamo_llm.runtime.tail.Tail`.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._path = demo_model_dir() if config.model is None else Path(config.model).expanduser()

    def start(self) -> None:
        """Load the tokenizer; blocks."""
        from tokenizers import Tokenizer

        if not self._path.exists():
            raise ModelNotFoundError(f'the model "{self._path}" does not exist')
        self._tokenizer = Tokenizer.from_file(str(self._path / "tokenizer.json"))
        self._special = {
            id: token.content
            for id, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }

    def describe(self) -> dict[str, Any]:
        """The answer of ``dynamo_tokenizer_info()``."""
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        return {
            "path": str(self._path),
            "vocabulary_size": len(vocabulary),
            "largest_token_id": max(vocabulary.values(), default=0),
            "special_tokens": {text: id for id, text in self._special.items()},
            "bos_token_id": 1,
            "eos_token_ids": [0],
            "has_chat_template": True,
            "context_length": 1024,
        }

    def generate(self, request: EngineRequest) -> AsyncIterator[Chunk] | Iterator[Chunk]:
        """Answer a call, in one chunk."""
        body = request.body
        command = next(name for name in self._commands if name in body)
        work = getattr(self, f"_{command}")
        # A template may loop for long, whatever its size.
        if command == "chat" or len(body[command]) > _much:
            return _in_thread(work, body)
        return _on_loop(work, body)

    def stop(self) -> None:
        """Free the tokenizer."""
        del self._tokenizer

    _commands = ("encode", "decode", "chat", "advance")

    def _encode(self, body: dict[str, Any]) -> Chunk:
        encoding = self._tokenizer.encode(body["encode"], add_special_tokens=body["add_special_tokens"])
        return {"token_ids": encoding.ids}

    def _decode(self, body: dict[str, Any]) -> Chunk:
        return {"text": self._tokenizer.decode(body["decode"], body["skip_special_tokens"])}

    def _chat(self, body: dict[str, Any]) -> Chunk:
        raise NotSupportedError("chat templates come with the pipeline")

    def _advance(self, body: dict[str, Any]) -> Chunk:
        skips = body["skip_special_tokens"]
        ids = [id for id in body["advance"] if not (skips and id in self._special)]
        text, tail = Tail.of_numbers(body["tail"]).advance(
            lambda some: self._tokenizer.decode(some, skip_special_tokens=False), ids, body["is_last"]
        )
        return {"text": text, "token_ids": tail.numbers}


def _in_thread(work: Callable[[dict[str, Any]], Chunk], body: dict[str, Any]) -> Iterator[Chunk]:
    yield work(body)


async def _on_loop(work: Callable[[dict[str, Any]], Chunk], body: dict[str, Any]) -> AsyncIterator[Chunk]:
    yield work(body)

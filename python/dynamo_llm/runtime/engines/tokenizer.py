# SPDX-License-Identifier: Apache-2.0
"""The engine behind the tokenizers of the C API: each call of that API is a request."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime import model_files, options
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest
from dynamo_llm.runtime.hub import hub_name, lookup
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


def _folder(model: str | None) -> ModelFolder:
    if model is None:
        return ModelFolder(demo_model_dir())
    path = Path(model).expanduser()
    right = '"model" must be a folder with tokenizer.json, or that file'
    if not path.is_dir() and not model_files.exists(path):
        raise ModelNotFoundError(f'the model "{path}" does not exist; {right}')
    if path.is_dir() and not model_files.exists(path / "tokenizer.json"):
        raise ModelNotFoundError(f'the folder "{path}" has no tokenizer.json; {right}')
    if not path.is_dir() and path.suffix != ".json":
        raise ModelNotFoundError(f'the file "{path}" is not a tokenizer; {right}')
    return ModelFolder(path)


@dataclass(frozen=True)
class Options:
    """The keys of a tokenizer's configuration."""

    model: str | None = None
    """Folder with ``tokenizer.json``, or that file, or a name of the Hugging Face Hub, ``hf:org/name``; None:
    the demo model's."""
    offline: bool = False
    """Whether such a name is looked up in the cache only."""
    python: dict[str, Any] = field(default_factory=dict)
    """Read by the library, like the next two: see :class:`EngineConfig`."""
    trust_request_chat_template: bool = False
    templates: dict[str, Any] = field(default_factory=dict)


class TokenizerEngine:
    """A tokenizer. The bodies of its requests are not OpenAI's, but one of

    - ``{"encode": text, "add_special_tokens": bool}``, answered with token ids;
    - ``{"chat": body}``, answered with the prompt that the chat template renders.

    The library decodes by itself, with the vocabulary whose number the description has.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options, "")
        self._settings = config.templates

    def start(self) -> None:
        """Loads the tokenizer. Blocks."""
        model = self._options.model
        if model is not None and hub_name.is_hub_name(model):
            model = str(lookup.find(model, ("tokenizer",), offline=self._options.offline))
        folder = self._folder = _folder(model)
        self._tokenizer = Tokenizer(folder)
        self._renderer = Renderer(
            folder.chat_templates, folder.special_tokens, self._settings, is_prepared=False
        )
        added = self._tokenizer.core.get_added_tokens_decoder()
        self._number = self._tokenizer.vocabulary.publish()
        self._special = {token.content: id for id, token in added.items() if token.special}

    def describe(self) -> dict[str, Any]:
        """Returns the result of ``dynamo_tokenizer_info()``."""
        bos_token = self._folder.special_tokens.get("bos_token")
        bos = None if bos_token is None else self._tokenizer.token_id(bos_token)
        length = self._folder.context_length
        return {
            "path": str(self._folder.path),
            "vocabulary": self._number,
            "vocabulary_size": self._tokenizer.core.get_vocab_size(with_added_tokens=True),
            "largest_token_id": max(self._tokenizer.vocab_size - 1, 0),
            "special_tokens": self._special,
            **({} if bos is None else {"bos_token_id": bos}),
            "eos_token_ids": self._tokenizer.eos_token_ids,
            "has_chat_template": bool(self._folder.chat_templates),
            **({} if length is None else {"context_length": length}),
        }

    def generate(self, request: EngineRequest) -> AsyncIterator[Chunk] | Iterator[Chunk]:
        """Answers a call in one chunk. Long work runs in a thread, not on the event loop."""
        body = request.body
        if "encode" in body:
            return self._encode(body["encode"], body["add_special_tokens"])
        return self._chat(body["chat"], request.is_cancelled)

    def stop(self) -> None:
        """Frees the tokenizer."""
        self._tokenizer.vocabulary.withdraw(self._number)
        del self._tokenizer, self._renderer

    async def _encode(self, text: str, add_special_tokens: bool) -> AsyncIterator[Chunk]:
        yield {"token_ids": await self._tokenizer.encode(text, add_special_tokens)}

    def _chat(self, body: dict[str, Any], is_cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        yield {"text": self._renderer.render(body, is_cancelled)}

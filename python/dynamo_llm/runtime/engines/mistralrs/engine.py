# SPDX-License-Identifier: Apache-2.0
"""The engine: loads a model, answers requests."""

import importlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamo_llm.errors import (
    ContextLengthError,
    DynamoError,
    EngineUnavailableError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo, Usage
from dynamo_llm.runtime.engines.mistralrs import embedding, failure, model, options, request
from dynamo_llm.runtime.engines.mistralrs.answer import Answer, sum_of, usage_of

if TYPE_CHECKING:
    from dynamo_llm.runtime.engines.mistralrs.template import Templates


def _import(name: str) -> Any:
    """A module that needs other packages."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = error.name or name
        raise EngineUnavailableError(
            f'the engine "mistralrs" needs the Python package {package} ({error}); run: '
            f"python -m pip install {package}"
        ) from error


def _without_stdout() -> Any:
    """Import mistral.rs. It logs to stdout, which is the host's, unless RUST_LOG is set by then."""
    os.environ.setdefault("RUST_LOG", "off")
    return _import("mistralrs")


class MistralRsEngine:
    """mistral.rs. See :class:`Options` for its options."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._options = options.read(config.options)
        self.max_threads = self._options.max_seqs
        self._model = model.Model(Path(), "folder")
        self._templates: Templates | None = None
        self._normalises = False
        # What the tokenizer puts before a text (BOS). mistral.rs leaves it out if the text begins with it.
        self._added: list[int] = []
        self._context: int | None = None
        self._runner: Any = None
        self._mistralrs: Any = None
        # The wheel's functions borrow the runner; two at once raise "Already borrowed". Iterating is free.
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load the model; blocks."""
        self._model = model.find(self._config.model, self._options)
        self._mistralrs = _without_stdout()
        try:
            self._load()
            self._context = self._runner.max_sequence_length()
            whole, bare = (self._runner.tokenize_text("a", special, None) for special in (True, False))
        except DynamoError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not failure.is_panic(error):
                raise
            raise failure.of_load(self._model.path, error) from error
        self._added = whole[: len(whole) - len(bare)]

    def _load(self) -> None:
        chosen = self._options
        common = {
            "which": self._which(),
            "max_seqs": chosen.max_seqs,
            "prefix_cache_n": chosen.prefix_cache_n,
            "token_source": "none",
            "in_situ_quant": chosen.isq,
            "seed": chosen.seed,
            "paged_attn": chosen.paged_attn is True,
            "no_paged_attn": chosen.paged_attn is False,
        }
        if self._model.kind == "embedding":
            self._normalises = model.normalises(self._model.path)
            self._runner = self._mistralrs.Runner(**common)
            return
        template = _import("dynamo_llm.runtime.engines.mistralrs.template")
        self._templates = template.Templates(self._model, chosen)
        with template.file_for_engine(self._templates) as file:
            self._runner = self._mistralrs.Runner(**common, jinja_explicit=file)

    def _which(self) -> Any:
        which, path, chosen = self._mistralrs.Which, self._model.path, self._options
        dtypes = self._mistralrs.ModelDType
        common = {
            "dtype": {"auto": dtypes.Auto, "f32": dtypes.F32, "f16": dtypes.F16, "bf16": dtypes.BF16}[
                chosen.dtype
            ],
            "tokenizer_json": chosen.tokenizer_json,
        }
        adapters = {}
        if chosen.adapters:
            entries = [self._adapter(name, Path(folder)) for name, folder in chosen.adapters.items()]
            adapters = {"adapters": entries, "max_adapters": max(16, len(entries))}
        if self._model.kind == "gguf":
            return which.GGUF(
                quantized_model_id=str(path.parent), quantized_filename=path.name, **common, **adapters
            )
        if self._model.kind == "embedding":
            return which.Embedding(model_id=str(path), **common)
        return (which.Lora if adapters else which.Plain)(model_id=str(path), **common, **adapters)

    def _adapter(self, name: str, folder: Path) -> Any:
        folder = folder.expanduser()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            if not (folder / file).is_file():
                raise ModelNotFoundError(f'the adapter "{name}" has no {file} in "{folder}"')
        model.read_json(folder / "adapter_config.json")
        model.check_safetensors(folder / "adapter_model.safetensors")
        return self._mistralrs.LoraAdapter(name, str(folder))

    def describe(self) -> ModelInfo:
        """What was loaded."""
        capabilities = ["embedding"]
        if self._model.kind != "embedding":
            capabilities = ["completion", "logprobs", "json_schema", "regex", "grammar"]
            if self._templates:
                capabilities = ["chat", *capabilities, "tools"]
            if self._options.adapters:
                capabilities.append("lora")
        info: ModelInfo = {
            "path": str(self._model.path),
            "capabilities": capabilities,
            "adapters": list(self._options.adapters),
        }
        if self._context is not None:
            info["context_length"] = self._context
        return info

    def stop(self) -> None:
        """Free the model."""
        self._runner = None

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        """Answer a chat or a completion, a chunk a token, or an embedding request."""
        has_begun = False
        try:
            chunks = self._embed(request) if "input" in request.body else self._answer(request.body)
            for chunk in chunks:
                yield chunk
                has_begun = True
        except (DynamoError, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, ValueError) or failure.is_panic(error):
                raise failure.of_request(error, self._context, has_begun) from error
            raise

    def _answer(self, body: dict[str, Any]) -> Iterator[Chunk]:
        if self._templates is None:
            raise NotSupportedError(f'the model "{self._model.path}" makes embeddings only; send an "input"')
        prompt = self._templates.render(body) if "messages" in body else self._prompt(body["prompt"])
        ready = request.of_body(body, prompt, self._options.adapters)
        self._check_length(prompt, ready.arguments.get("max_tokens") or 0)
        # Several choices are several requests: a stream of mistral.rs with more than one ends with the
        # first that does, and counts the tokens of one.
        answers = [Answer(index, ready) for index in range(ready.choices)]
        streams = {index: self._send(ready) for index in range(ready.choices)}
        usages: dict[int, Usage] = {}
        while streams:
            for index, stream in list(streams.items()):
                answer = answers[index]
                chunk = None if answer.is_cut else next(stream, None)
                if chunk is None:
                    del streams[index]
                    continue
                for choice in chunk.choices:
                    *first, last = answer.chunks(choice)
                    if (counts := chunk.usage) is not None:
                        usages[index] = usage_of(counts)
                        if len(usages) == len(answers):
                            last["usage"] = sum_of(list(usages.values()))
                    yield from (*first, last)

    def _send(self, ready: request.Request) -> Iterator[Any]:
        choices = self._mistralrs.ToolChoice
        # Of a call that must be made the text is read by us; mistral.rs then leaves it alone.
        is_off = ready.tools.are_off or ready.tools.is_forced
        tool_choice = None if ready.tools.schemas is None else (choices.NoTools if is_off else choices.Auto)
        chat = self._mistralrs.ChatCompletionRequest(**ready.arguments, tool_choice=tool_choice)
        with self._lock:
            return iter(self._runner.send_chat_completion_request(chat))

    def _prompt(self, given: str | list[Any]) -> str:
        """The text of a completion's prompt."""
        if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str | list):
            given = given[0]
        if isinstance(given, list) and given and isinstance(given[0], str | list):
            raise NotSupportedError(
                f'"prompt" of the request has {len(given)} prompts; the engine "mistralrs" takes one'
            )
        text = given if isinstance(given, str) else self._text(given)
        if not text:
            raise InvalidRequestError('"prompt" of the request is empty')
        return text

    def _text(self, ids: list[Any]) -> str:
        """The text of token ids, if mistral.rs makes the same ids of it; it takes texts only."""
        if not embedding.are_ids(ids):
            raise InvalidRequestError('"prompt" of the request must be a text or a list of token ids')
        with self._lock:
            text: str = self._runner.detokenize_text(ids, False)
            again = self._runner.tokenize_text(text, False, None)
        if again != ids or ids[: len(self._added)] != self._added:
            raise NotSupportedError(
                '"prompt" of the request: the engine "mistralrs" takes texts only, and its tokenizer makes '
                "other token ids of this text; send the text"
            )
        return text

    def _check_length(self, text: str, max_tokens: int) -> None:
        """See that a prompt and its answer fit into the context."""
        # A token is a byte at least, so most texts need not be counted.
        if self._context is not None and len(text.encode()) + len(self._added) + max_tokens > self._context:
            self._check_count(self._count(text), max_tokens)

    def _count(self, text: str) -> int:
        """Tokens of a text."""
        with self._lock:
            ids = self._runner.tokenize_text(text, False, None)
        return len(ids) + (0 if ids[: len(self._added)] == self._added else len(self._added))

    def _check_count(self, count: int, max_tokens: int = 0) -> None:
        if self._context is not None and count + max_tokens > self._context:
            answer = f' and the answer may have {max_tokens} ("max_tokens")' if max_tokens else ""
            raise ContextLengthError(
                f"the prompt has {count} tokens{answer}, but the model's context length is "
                f"{self._context} tokens"
            )

    def _embed(self, given: EngineRequest) -> Iterator[Chunk]:
        if self._model.kind != "embedding":
            raise NotSupportedError(
                f'the model "{self._model.path}" makes no embeddings; those that do have a modules.json'
            )
        inputs = embedding.inputs_of(given.body)
        dimensions, encoding = given.body.get("dimensions"), given.body.get("encoding_format")
        counts = [self._count(one) if isinstance(one, str) else len(one) for one in inputs]
        self._check_count(max(counts))
        data: list[dict[str, Any]] = []
        # Some at a time, so that a cancel ends it and others get their turn.
        for start in range(0, len(inputs), self._options.max_seqs):
            some = inputs[start : start + self._options.max_seqs]
            with self._lock:
                if given.is_cancelled():
                    return
                vectors = self._runner.send_embedding_request(self._mistralrs.EmbeddingRequest(some))
            for vector in vectors:
                short = embedding.shortened(vector, dimensions, self._normalises)
                data.append(embedding.entry(len(data), short, encoding))
        yield {"delta": {"data": data}, "usage": {"prompt_tokens": sum(counts)}}

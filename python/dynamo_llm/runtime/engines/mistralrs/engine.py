# SPDX-License-Identifier: Apache-2.0
"""The engine ``mistralrs``: loads a model with mistral.rs, and answers requests."""

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamo_llm.errors import (
    CancelledError,
    ContextLengthError,
    DynamoError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.runtime import embedding, gguf_file, model_files, safetensors_file
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, ModelInfo, Usage
from dynamo_llm.runtime.engines.mistralrs import (
    build,
    config_sizes,
    engine_folder,
    error_mapping,
    gguf_metadata,
    model,
    options,
    request,
)
from dynamo_llm.runtime.engines.mistralrs.architectures import images, known
from dynamo_llm.runtime.engines.mistralrs.slots import Slots
from dynamo_llm.runtime.media.image import Image
from dynamo_llm.runtime.media.media_part import has_parts, require_text
from dynamo_llm.runtime.media.media_reader import MediaReader
from dynamo_llm.runtime.pipeline.request_body import BodyReader
from dynamo_llm.runtime.rust_panic import is_rust_panic
from dynamo_llm.runtime.threads import DaemonThreads, in_pool

if TYPE_CHECKING:
    from dynamo_llm.runtime.engines.mistralrs.answer import Answer
    from dynamo_llm.runtime.engines.mistralrs.prompt import Prompt
    from dynamo_llm.runtime.engines.mistralrs.text_model import TextModel
    from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

#: Number of requests whose prompts are prepared at once, and whose images are read or downloaded.
_most_preparing, _most_reading = 8, 16
#: Bytes of encoded images that are kept for requests with the same images, such as further turns of a chat.
_encoder_cache = 256 << 20
#: An image of one pixel.
_pixel = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSu"
    "QmCC"
)


def _import(name: str) -> Any:
    """Imports a module that needs optional packages."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = error.name or name
        raise EngineUnavailableError(
            f'the engine "mistralrs" needs the Python package {package} ({error}); run: '
            f"python -m pip install {package}"
        ) from error


def _require_home_folder() -> None:
    """Names a home folder if the process has none, as in a container without users.

    mistral.rs looks for the Hugging Face cache below it even for a local model, and panics otherwise. Debian
    has the same name for the home of users without one.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"


@contextmanager
def _explained(
    explain: Callable[[BaseException], DynamoError], kind: type[Exception] = Exception
) -> Iterator[None]:
    """Converts panics of mistral.rs, and its exceptions of a kind, by a function of error_mapping."""
    try:
        yield
    except DynamoError:
        raise
    except BaseException as error:
        if isinstance(error, kind) or is_rust_panic(error):
            raise explain(error) from error
        raise


class Portion(NamedTuple):
    """Prompts of a request that are answered at the same time."""

    asked: "list[tuple[request.Request, Prompt]]"
    ends: frozenset[int]
    """Ids of the tokens that end an answer."""
    is_last: bool
    """Whether the request has no further prompts."""

    @property
    def n(self) -> int:
        """Choices for each prompt."""
        return self.asked[0][0].settings.n

    @property
    def choices(self) -> int:
        """Choices of all of these prompts."""
        return len(self.asked) * self.n


def _described_adapter(info: Any) -> dict[str, Any]:
    """Returns the properties of a LoraAdapterInfo of mistral.rs."""
    return {"name": info.alias, "rank": info.rank, "bytes": info.bytes}


class MistralRsEngine:
    """Runs models with mistral.rs. See :class:`Options` for its options."""

    architectures = (*known, *images)
    """Architectures of model folders that it generates text with, by their names in config.json."""
    model_formats = ("safetensors", "gguf")
    """What the engine loads of a repository of the Hugging Face Hub."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._options = options.read(config.options)
        self.max_threads = self._options.max_seqs
        self._model = model.Model(Path(), "folder")
        self._tokenizer: Tokenizer | None = None  # None for an embedding model
        self._text: TextModel | None = None  # likewise
        self._count: Callable[[str, int | None], int] | None = None  # only for an embedding model
        self._slots = Slots(self._options.max_seqs)
        # Own threads: this model's texts may keep all of them busy without blocking other engines.
        self._preparing = DaemonThreads(_most_preparing, "dynamo-llm-prepare")
        # A server that answers slowly must not block requests without images.
        self._reading = DaemonThreads(_most_reading, "dynamo-llm-media")
        self._media = MediaReader(config.media, "this model", frozenset({"image"}))
        self._normalises = False
        self._context: int | None = None
        self._short_context: int | None = None  # set for LongRoPE until an answer crosses it
        self._reader = BodyReader("mistralrs", {}, None)
        self._adapters = list(self._options.adapters)
        self._runner: Any = None
        self._mistralrs: Any = None
        # The wheel's functions borrow the runner; two calls at once raise "Already borrowed". Iterating needs
        # no lock.
        self._lock = threading.Lock()
        self._computing_images = threading.Lock()

    def start(self) -> None:
        """Loads the model. Blocks."""
        self._model = model.find(self._config.model, self._options)
        # Without this variable, mistral.rs logs to stdout, which belongs to the host.
        os.environ.setdefault("RUST_LOG", "off")
        _require_home_folder()
        self._mistralrs = _import("mistralrs")
        if self._config.device != "auto":
            build.check_device(self._config.device)
        with _explained(partial(error_mapping.of_load, self._model.path)):
            self._load()
            self._context = self._runner.max_sequence_length()
        language_config = self._model.language_config
        if (language_config.get("rope_scaling") or {}).get("type") == "longrope":
            self._short_context = language_config["original_max_position_embeddings"]
        self._reader = BodyReader("mistralrs", self.describe(), self._vocab_size(), hints=request.hints)
        if self._model.kind != "embedding":
            self._config.progress("warmup")
            self._try()

    def _vocab_size(self) -> int | None:
        """Returns the exclusive upper limit of the model's token ids."""
        if self._model.kind == "gguf":
            return len(gguf_file.read(self._model.path).metadata.get("tokenizer.ggml.tokens") or ()) or None
        size = self._model.language_config.get("vocab_size")
        known = self._tokenizer.vocab_size if self._tokenizer is not None else 0
        return max(size if isinstance(size, int) else 0, known) or None

    def _try(self) -> None:
        """Computes two tokens, one of them from the cache: some models load, but fail on every request."""
        tokens = self._model.image_tokens
        trials = [request.messages("\x01a")]
        if tokens is not None:
            trials.append(request.messages(f"\x01a{tokens.marker}", [_pixel]))
        for messages in trials:
            chat = self._mistralrs.ChatCompletionRequest(
                messages=messages,
                model="default",
                max_tokens=2,
                temperature=0.0,
                ignore_eos=True,
            )
            with _explained(partial(error_mapping.of_trial, self._model.path)):
                self._runner.send_chat_completion_request(chat)

    def _load(self) -> None:
        chosen = self._options
        kept = 0 if self._model.kind == "images" else 16  # see model.py
        common = {
            "max_seqs": chosen.max_seqs,
            "prefix_cache_n": kept if chosen.prefix_cache_n is None else chosen.prefix_cache_n,
            "token_source": "none",
            "in_situ_quant": chosen.isq,
            "seed": chosen.seed,
            "paged_attn": chosen.paged_attn is not False,
            "no_paged_attn": chosen.paged_attn is False,
        }
        is_token = None
        if self._model.kind != "embedding":
            self._config.progress("tokenizer")
            self._tokenizer = self._find_tokenizer()
            is_token = self._tokenizer.is_token
        with engine_folder.of(self._model, is_token) as folder:
            try:
                self._load_from(folder, common)
            except Exception as error:
                # Replace the temporary folder's name, which would not help the user.
                if str(folder) in str(error) and not isinstance(error, DynamoError):
                    raise ValueError(str(error).replace(str(folder), str(self._model.path))) from error
                raise

    def _load_from(self, folder: Path, common: dict[str, Any]) -> None:
        if self._model.kind == "embedding":
            self._count = self._counter()
            self._normalises = model.normalises(self._model.path)
            self._load_weights({**common, "which": self._which(folder, None)})
            return
        template, text_model = (
            _import(f"dynamo_llm.runtime.engines.mistralrs.{name}") for name in ("templates", "text_model")
        )
        templates = template.Templates(self._model, self._options, self._config.templates)
        assert self._tokenizer is not None  # an embedding model returned above
        with (
            template.file_for_engine(templates, self._tokenizer) as jinja,
            text_model.tokenizer_for_engine(self._tokenizer) as tokenizer_json,
        ):
            which = self._which(folder, tokenizer_json)
            self._load_weights({**common, "which": which, "jinja_explicit": jinja})
        declared = list(self._tokenizer.eos_token_ids)
        if self._model.kind == "gguf":
            declared += gguf_metadata.end_token_ids(gguf_file.read(self._model.path).metadata)
        self._text = text_model.TextModel(self._tokenizer, templates, declared)

    def _counter(self) -> Callable[[str, int | None], int]:
        """Returns a function that counts the tokens of a text to embed, outside of mistral.rs' thread."""
        pipeline = "dynamo_llm.runtime.pipeline"
        core = _import(f"{pipeline}.tokenizer").read_core(self._model.path / "tokenizer.json")
        return partial(_import(f"{pipeline}.text_length").count, core)

    def _find_tokenizer(self) -> "Tokenizer":
        tokenizer: Tokenizer
        if self._model.kind == "gguf" and self._options.tokenizer_json is None:
            module = _import("dynamo_llm.runtime.engines.mistralrs.gguf_tokenizer")
            tokenizer = module.of(self._model.path)
        else:
            module = _import("dynamo_llm.runtime.pipeline.tokenizer")
            tokenizer = module.Tokenizer(self._model.tokenizer_folder(self._options))
        return tokenizer

    def _load_weights(self, arguments: dict[str, Any]) -> None:
        size = sum(file.stat().st_size for file in self._model.files)
        self._config.progress("weights", bytes_total=size)
        self._run(arguments)
        self._config.progress("weights", bytes_done=size, bytes_total=size)

    def _run(self, arguments: dict[str, Any]) -> None:
        """Loads the model, with PagedAttention if the device supports it.

        Without PagedAttention, mistral.rs does not limit its prefix cache, so the cache is off unless the
        options enable it.
        """
        try:
            self._runner = self._mistralrs.Runner(**arguments)
            return
        except ValueError as error:
            if self._options.paged_attn is not None or not error_mapping.is_paging_unavailable(error):
                raise
        arguments["paged_attn"] = False
        kept = self._options.prefix_cache_n
        if kept:
            _log.warning(
                '"options.prefix_cache_n" is %d, but mistral.rs has no PagedAttention on this device and '
                "keeps the KV cache of every prompt: memory grows with each request",
                kept,
            )
        arguments["prefix_cache_n"] = kept or 0
        self._runner = self._mistralrs.Runner(**arguments)

    def _which(self, folder: Path, tokenizer_json: str | None) -> Any:
        """Returns the model argument for mistral.rs.

        :param folder: the folder made by :func:`engine_folder.of`.
        :param tokenizer_json: file of the tokenizer, if it is not in the folder.
        """
        which, chosen, dtypes = self._mistralrs.Which, self._options, self._mistralrs.ModelDType
        dtype = {"auto": dtypes.Auto, "f32": dtypes.F32, "f16": dtypes.F16, "bf16": dtypes.BF16}[chosen.dtype]
        common = {"dtype": dtype, "tokenizer_json": tokenizer_json or chosen.tokenizer_json}
        adapters = {}
        if chosen.adapters:
            entries = [self._adapter(name, Path(folder)) for name, folder in chosen.adapters.items()]
            adapters = {"adapters": entries, "max_adapters": max(16, len(entries))}
        if self._model.kind == "gguf":
            files = [file.name for file in self._model.files]
            return which.GGUF(quantized_model_id=str(folder), quantized_filename=files, **common, **adapters)
        if self._model.kind == "embedding":
            return which.Embedding(model_id=str(folder), **common)
        if self._model.kind == "images":
            return which.MultimodalPlain(
                model_id=str(folder), encoder_cache_memory_bytes=_encoder_cache, **common
            )
        return (which.Lora if adapters else which.Plain)(model_id=str(folder), **common, **adapters)

    def _adapter(self, name: str, folder: Path) -> Any:
        folder = folder.expanduser()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            if not model_files.exists(folder / file):
                raise ModelNotFoundError(f'the adapter "{name}" has no {file} in "{folder}"')
        config_sizes.check_adapter(folder, model_files.read_json(folder / "adapter_config.json"))
        safetensors_file.tensors(folder / "adapter_model.safetensors")
        return self._mistralrs.LoraAdapter(name, str(folder))

    def describe(self) -> ModelInfo:
        """Returns the description of the loaded model."""
        info: ModelInfo = {
            "path": str(self._model.path),
            "capabilities": ["embedding"],
            "adapters": list(self._adapters),
        }
        if self._model.kind != "embedding":
            capabilities = ["completion", "logprobs", "json_schema", "regex", "grammar", "choice"]
            if self._text is not None and self._text.templates:
                capabilities = ["chat", *capabilities, "tools"]
            if self._model.kind == "images":
                capabilities.append("images")
            if self._options.adapters:
                capabilities.append("lora")
            info["capabilities"] = capabilities
            info["request_keys"] = list(request.keys)
        if self._config.device != "auto":
            info["device"] = self._config.device
        if self._context is not None:
            info["context_length"] = self._context
        if self._tokenizer is not None and self._tokenizer.longest_token is not None:
            info["longest_token"] = self._tokenizer.longest_token
        return info

    @property
    def calls(self) -> dict[str, Callable[..., Any]]:
        """Control calls for LoRA adapters. mistral.rs prepares a model for them only if it is loaded with
        one.
        """
        if not self._options.adapters:
            return {}
        return {
            "load_adapter": self._load_adapter,
            "unload_adapter": self._unload_adapter,
            "list_adapters": self._list_adapters,
        }

    def _load_adapter(self, name: str, path: str) -> dict[str, Any]:
        """Loads the adapter of a folder. Requests give the name as their model."""
        adapter = self._adapter(name, Path(path))
        with self._explained_adapter(), self._lock:
            loaded = self._runner.load_lora_adapter(name, str(adapter.source))
            self._set_adapters([*self._adapters, name])
        return _described_adapter(loaded)

    def _unload_adapter(self, name: str) -> dict[str, Any]:
        """Unloads an adapter. Requests that use it run to their end."""
        with self._explained_adapter(), self._lock:
            unloaded = self._runner.unload_lora_adapter(name)
            self._set_adapters([one for one in self._adapters if one != name])
        return _described_adapter(unloaded)

    def _list_adapters(self) -> list[dict[str, Any]]:
        """Lists the loaded adapters, with their ranks, and their sizes in bytes."""
        with self._explained_adapter(), self._lock:
            return [_described_adapter(one) for one in self._runner.list_lora_adapters()]

    def _set_adapters(self, names: list[str]) -> None:
        self._adapters = names
        self._reader.set_adapters(names)

    def _explained_adapter(self) -> AbstractContextManager[None]:
        return _explained(lambda error: InvalidRequestError(f"mistral.rs refuses the call: {error}"))

    def stop(self) -> None:
        """Frees the model."""
        self._runner = None
        self._preparing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    async def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        """Checks a chat, completion, or embedding request, and answers it with one chunk per token.

        Requests that cannot be answered are rejected at once, without waiting for earlier requests.
        """
        images: list[Image] = []
        with self._explained_request():
            if has_parts(request.body.get("messages")):
                request, images = await in_pool(self._read_media, request, pool=self._reading)
            prepare = self._inputs if "input" in request.body else partial(self._prepare, images=images)
            prepared: Any = await in_pool(prepare, request, pool=self._preparing)
        return self._chunks(request, prepared)

    def _read_media(self, asked: EngineRequest) -> tuple[EngineRequest, list[Image]]:
        """Checks a request, and reads its images. Blocks while files are read and URLs are downloaded."""
        messages = asked.body["messages"]
        if self._model.kind != "images":
            require_text(messages, f'the model "{self._model.path}"')
            return asked, []
        self._reader.read(asked.body)  # first: a request that is not valid reads no files and URLs
        messages, media = self._media.read(messages, asked.is_cancelled)
        images = [one for one in media if isinstance(one, Image)]
        return replace(asked, body={**asked.body, "messages": messages}), images

    def _explained_request(self) -> AbstractContextManager[None]:
        return _explained(lambda error: error_mapping.of_request(error, self._context), ValueError)

    def _chunks(self, request: EngineRequest, prepared: Any) -> Iterator[Chunk]:
        with self._explained_request():
            if "input" in request.body:
                yield from self._embed(request, *prepared)
                return
            request.set_queued(True)
            answers: list[Answer] = []
            # As many prompts at once as get slots, so that mistral.rs queues none of their choices.
            for some in self._portions(*prepared):
                with self._slots.taken(some.choices, request.is_cancelled) as has_slots:
                    if not has_slots:
                        return
                    request.set_queued(False)
                    yield from self._answer(some, answers, request.is_cancelled)

    def _prepare(
        self, asked: EngineRequest, images: list[Image]
    ) -> "tuple[list[tuple[request.Request, Prompt]], frozenset[int]]":
        """Converts a chat or a completion. Also returns the ids of its end tokens."""
        if self._text is None:
            raise NotSupportedError(
                f'the model "{self._model.path}" only makes embeddings; send an "input" instead'
            )
        body = asked.body
        settings = self._reader.read(body)
        urls = [image.url for image in images]
        prompts = self._text.prompts.of(body, asked.is_cancelled, self._context, urls)
        ends = self._text.ends(settings)
        ready = request.of_body(body, settings, "", ends.texts)
        for number, prompt in enumerate(prompts):
            name = "the prompt" if len(prompts) == 1 else f'"prompt[{number}]"'
            self._check_count(len(prompt.ids), ready.arguments.get("max_tokens") or 0, name)
        return [(ready.with_prompt(prompt.text, prompt.images), prompt) for prompt in prompts], ends.ids

    def _portions(
        self, asked: "list[tuple[request.Request, Prompt]]", ends: frozenset[int]
    ) -> Iterator[Portion]:
        at_once = max(1, self._options.max_seqs // asked[0][0].settings.n) if asked else 1
        for start in range(0, len(asked), at_once):
            yield Portion(asked[start : start + at_once], ends, start + at_once >= len(asked))

    def _answer(
        self, portion: Portion, answers: "list[Answer]", is_cancelled: Callable[[], bool]
    ) -> Iterator[Chunk]:
        """Answers some of the prompts.

        :param answers: the choices of earlier prompts; those of these prompts are appended.
        """
        assert self._text is not None
        # Each choice is a separate request: a stream of mistral.rs with several choices ends with the first
        # one that ends, and counts only the tokens of one.
        streams: dict[int, Iterator[Any]] = {}
        for ready, prompt in portion.asked:
            for answer in self._text.answers(ready, prompt, portion.ends, len(answers)):
                streams[len(answers)] = (
                    self._send_images(ready, is_cancelled) if prompt.images else self._send(ready)
                )
                answers.append(answer)
        while streams:
            for index, stream in list(streams.items()):
                answer = answers[index]
                chunk = next(stream, None)
                if chunk is None:
                    raise EngineFailedError("mistral.rs ended an answer without a finish reason")
                for choice in chunk.choices:
                    *first, last = answer.chunks(choice, chunk.usage)
                    if answer.has_ended:
                        # Deleting a stream cancels it at its next token.
                        del streams[index]
                        self._warn_of_crossing(answer.usage)
                        if not streams and portion.is_last:
                            last["usage"] = self._text.usage(answers, portion.n)
                    yield from (*first, last)

    def _send_images(self, ready: request.Request, is_cancelled: Callable[[], bool]) -> Iterator[Any]:
        """Sends a prompt with images, and waits until it was computed.

        mistral.rs 0.9.5 fails if it computes several such prompts of the same length together.
        """
        while not self._computing_images.acquire(timeout=0.05):
            if is_cancelled():
                raise CancelledError("the request was cancelled")
        try:
            with _explained(error_mapping.of_images, ValueError):  # decodes the images in this thread
                stream = self._send(ready)
            first = next(stream, None)
        finally:
            self._computing_images.release()
        return iter(()) if first is None else chain((first,), stream)

    def _send(self, ready: request.Request) -> Iterator[Any]:
        choices = self._mistralrs.ToolChoice
        # If a tool call is forced, the library parses its text, and mistral.rs must not.
        is_off = ready.tools.are_off or ready.tools.is_forced
        tool_choice = (choices.NoTools if is_off else choices.Auto) if ready.tools.all else None
        chat = self._mistralrs.ChatCompletionRequest(**ready.arguments, tool_choice=tool_choice)
        with self._lock:
            return iter(self._runner.send_chat_completion_request(chat))

    def _check_count(self, count: int, max_tokens: int = 0, name: str = "the prompt") -> None:
        if self._context is not None and count + max_tokens > self._context:
            answer = f' and the answer may have {max_tokens} ("max_tokens")' if max_tokens else ""
            raise ContextLengthError(
                f"{name} has {count} tokens{answer}, but the model's context length is {self._context} tokens"
            )

    def _warn_of_crossing(self, usage: Usage) -> None:
        """Logs, once, that an answer has crossed the length at which LongRoPE changes its factors."""
        short, prompt = self._short_context, usage["prompt_tokens"]
        if short is not None and prompt <= short < prompt + usage["completion_tokens"]:
            self._short_context = None
            _log.warning(
                "an answer crossed %d tokens, where LongRoPE changes its factors: mistral.rs keeps the short "
                "factors for the tokens before, so the rest may differ from what transformers generates",
                short,
            )

    def _inputs(self, asked: EngineRequest) -> "tuple[embedding.Inputs, int]":
        """Returns the inputs to embed, and their number of tokens."""
        if self._count is None:
            raise NotSupportedError(
                f'the model "{self._model.path}" does not make embeddings; embedding models have a '
                f"modules.json"
            )
        inputs = embedding.inputs_of(asked.body, "mistralrs")
        total = 0
        for one in inputs:
            if asked.is_cancelled():
                break
            count = self._count(one, self._context) if isinstance(one, str) else len(one)
            self._check_count(count)
            total += count
        return inputs, total

    def _embed(self, given: EngineRequest, inputs: "embedding.Inputs", count: int) -> Iterator[Chunk]:
        dimensions, encoding = given.body.get("dimensions"), given.body.get("encoding_format")
        data: list[dict[str, Any]] = []
        given.set_queued(True)
        # In batches, so that a cancellation takes effect and other requests get their turn.
        for start in range(0, len(inputs), self._options.max_seqs):
            some = inputs[start : start + self._options.max_seqs]
            with self._lock:
                if given.is_cancelled():
                    return
                if start == 0:
                    given.set_queued(False)
                vectors = self._runner.send_embedding_request(self._mistralrs.EmbeddingRequest(some))
            for vector in vectors:
                short = embedding.shortened(vector, dimensions, self._normalises)
                data.append(embedding.entry(len(data), short, encoding))
        yield {"delta": {"data": data}, "usage": {"prompt_tokens": count}}

# SPDX-License-Identifier: Apache-2.0
"""The engine ``transformers``: runs models of Hugging Face's transformers with PyTorch, in the process."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dynamo_llm.errors import (
    ClosedError,
    DynamoError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime import embedding, extras, model_files, options
from dynamo_llm.runtime.engine import (
    ClassificationRequest,
    EmbeddingRequest,
    EngineConfig,
    ModelInfo,
    TokenChunk,
    TokenRequest,
)
from dynamo_llm.runtime.gpu_builds import gpu_build
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer
from dynamo_llm.runtime.stepping.sentence_modules import SentenceModules, is_embedding_model
from dynamo_llm.runtime.threads import in_thread


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type that weights are computed in; ``auto`` is the type that they are stored in."""
    device: str = "auto"
    """PyTorch's name of a device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``. ``auto`` is a GPU if available. The
    configuration's ``device`` does the same for every engine, with ``metal`` for ``mps``."""
    attn_implementation: str | None = None
    """Implementation of attention: ``eager``, ``sdpa``, ``flash_attention_2``, ...; default: the model's."""
    max_batch: int = 32
    """Requests that are computed together; further ones are queued."""
    max_batch_tokens: int = 2048
    """Prompt tokens that are computed between two steps; a longer prompt is split over several."""
    context_length: int | None = None
    """Maximum number of tokens of prompt and answer together; default: that of the model's config.json."""
    trust_remote_code: bool = False
    """Whether to run Python code from the model's folder. The code can do whatever this process may do."""


class _Answer:
    """The chunks of one answer that were not taken yet. Its methods run on the event loop of the request."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._chunks: list[TokenChunk | DynamoError] = []
        self._has_more = asyncio.Event()

    def put(self, chunk: TokenChunk | DynamoError) -> None:
        self._chunks.append(chunk)
        self._has_more.set()

    async def take(self) -> TokenChunk:
        """Waits for more chunks, and returns all that have arrived as one, or raises the error among them."""
        await self._has_more.wait()
        first, *more = self._chunks
        if isinstance(first, DynamoError):
            raise first
        for index, chunk in enumerate(more, 1):
            if isinstance(chunk, DynamoError):
                self._chunks = self._chunks[index:]
                return first
            first["token_ids"] += chunk["token_ids"]
            if "logprobs" in chunk:
                first["logprobs"] += chunk["logprobs"]
            if "finish_reason" in chunk:
                first["finish_reason"] = chunk["finish_reason"]
        self._chunks = []
        self._has_more.clear()
        return first


class TransformersEngine:
    """Runs models of transformers. See :class:`Options` for its options.

    The steps are computed by :class:`dynamo_llm.runtime.stepping.stepper.Stepper`, not by transformers' own
    continuous batching: as of 5.24, that has a single setting of sampling, seed, penalties, biases, and
    minimum length for all requests, and no alternatives with log-probs. The model, its cache, and the logits
    processors are those of transformers' ``generate()``.
    """

    kind: Literal["tokens"] = "tokens"

    model_formats = ("safetensors",)
    """What the engine loads of a repository of the Hugging Face Hub."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._options = options.read(Options, config.options)
        options.require_at_least(self._options, {"max_batch": 1, "max_batch_tokens": 1, "context_length": 1})
        self._path = demo_model_dir() if config.model is None else Path(config.model).expanduser()
        self._info: ModelInfo = {}
        self._stepper: Any = None
        self._embedder: Any = None  # set for an embedding model, in place of the others
        self._classifier: Any = None  # likewise, for a model for sequence classification
        self._modules: SentenceModules | None = None
        self._network: Any = None
        self._stepping: Any = None

    def start(self) -> None:
        """Loads the model. Blocks."""
        files = _weight_files(self._path)
        model_files.check_folder(self._path)
        try:
            torch = importlib.import_module("torch")
            stepping = "dynamo_llm.runtime.stepping"
            self._stepping = {
                name: importlib.import_module(f"{stepping}.{name}")
                for name in (
                    "batch",
                    "classifier",
                    "embedder",
                    "loader",
                    "network",
                    "probe",
                    "sampler",
                    "stepper",
                )
            }
        except ImportError as error:
            raise EngineUnavailableError(
                f'the engine "transformers" needs PyTorch and transformers 5 ({error}); run: '
                f"{extras.install_command('transformers')}"
            ) from error
        chosen = self._options
        device = _find_device(torch, self._config.device, chosen.device)
        size = sum(file.stat().st_size for file in files)
        self._config.progress("weights", bytes_total=size)
        classifies = _is_classifier(self._path)
        modules = (
            SentenceModules.of(self._path) if not classifies and is_embedding_model(self._path) else None
        )
        model = self._stepping["loader"].load(
            self._path,
            files,
            device,
            purpose="classify" if classifies else "generate" if modules is None else "embed",
            dtype=chosen.dtype,
            attn_implementation=chosen.attn_implementation,
            trust_remote_code=chosen.trust_remote_code,
        )
        self._config.progress("weights", bytes_done=size, bytes_total=size)
        if classifies:
            self._classifier = self._stepping["classifier"].Classifier(
                model, chosen.max_batch, chosen.max_batch_tokens
            )
            self._info = _describe_classifier(model, self._path, chosen, self._classifier.labels)
            return
        if modules is not None:
            self._modules = modules
            self._info = _describe_embedder(model, self._path, chosen, modules)
            self._embedder = self._stepping["embedder"].Embedder(
                model, modules, chosen.max_batch, chosen.max_batch_tokens
            )
            return
        self._config.progress("warmup")
        self._network = self._stepping["network"].Network(model)
        self._stepping["probe"].check(self._network, f'"{self._path}" ({model.config.model_type})')
        self._info = _describe(model, self._path, chosen)
        self._stepper = self._stepping["stepper"].Stepper(
            self._network, self._deliver, chosen.max_batch, chosen.max_batch_tokens
        )

    def describe(self) -> ModelInfo:
        """Returns the description of the loaded model."""
        return self._info

    def stop(self) -> None:
        """Frees the model. Blocks until the current step has ended."""
        if self._stepper is not None:
            self._stepper.close()
        for rows in (self._embedder, self._classifier):
            if rows is not None:
                rows.close()
        self._stepper = self._network = None

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answers one choice of a request. Tokens that arrived since the last chunk are combined."""
        if self._stepper is None:
            raise ClosedError("the engine was stopped")
        _check(request, self._network.vocabulary)
        sampler = self._stepping["sampler"].Sampler(request, self._network.vocabulary, self._network.device)
        answer = _Answer()
        row = self._stepping["batch"].Row(request, sampler, answer)
        request.set_queued(True)
        self._stepper.add(row)
        try:
            while True:
                chunk = await answer.take()
                yield chunk
                if "finish_reason" in chunk:
                    return
        finally:
            row.is_cancelled = True

    async def embed(self, request: EmbeddingRequest) -> list[Sequence[float]]:
        """Returns a vector for each input. Batches of several requests take turns."""
        for ids in request.inputs:
            _check_ids(ids, self._embedder.vocabulary)
        assert self._modules is not None
        vectors = await in_thread(self._embedder.compute, request.inputs, request.is_cancelled)
        is_normal = self._modules.normalizes
        return [embedding.shortened(vector, request.dimensions, is_normal) for vector in vectors]

    async def classify(self, request: ClassificationRequest) -> list[list[float]]:
        """Returns a number for each label of each input. Batches of several requests take turns."""
        for ids in request.inputs:
            _check_ids(ids, self._classifier.vocabulary)
        rows: list[list[float]] = await in_thread(
            self._classifier.compute, request.inputs, request.is_cancelled, request.type_ids
        )
        return [self._classifier.activated(row) if request.activates else row for row in rows]

    @staticmethod
    def _deliver(results: list[tuple[Any, TokenChunk | DynamoError]]) -> None:
        """Passes the results of a step to the event loops of the requests. Called by the stepper's thread."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Answer, TokenChunk | DynamoError]]] = {}
        for row, result in results:
            by_loop.setdefault(row.receiver.loop, []).append((row.receiver, result))

        def put(items: list[tuple[_Answer, TokenChunk | DynamoError]]) -> None:
            for answer, result in items:
                answer.put(result)

        for loop, items in by_loop.items():
            try:
                loop.call_soon_threadsafe(put, items)
            except RuntimeError:
                if not loop.is_closed():  # a closed loop no longer awaits the answers
                    raise


def _weight_files(path: Path) -> list[Path]:
    """Returns the files from which transformers reads a model's weights.

    :raises ModelNotFoundError: the folder is not a model, or lacks a file.
    """
    if not model_files.exists(path / "config.json"):
        raise ModelNotFoundError(
            f'the model "{path}" is not a folder with config.json and *.safetensors, which the engine '
            f'"transformers" needs'
        )
    if model_files.exists(whole := path / "model.safetensors"):
        return [whole]
    index = path / "model.safetensors.index.json"
    if model_files.exists(index):
        return model_files.parts_of_index(index)
    if model_files.named(path, "*.safetensors"):
        raise ModelNotFoundError(
            f'the folder "{path}" has *.safetensors, but neither model.safetensors nor {index.name}'
        )
    raise ModelNotFoundError(
        f'the folder "{path}" has no *.safetensors; loading weights from other files (*.bin, *.pt) '
        f"can run code, so convert them to safetensors"
    )


def _find_device(torch: Any, common: str, own: str) -> Any:
    """Returns the device to compute on.

    :param common: ``device`` of the configuration.
    :param own: ``options.device``.
    """
    if common != "auto" and own != "auto":
        raise InvalidConfigError(
            f'"device" of the configuration is "{common}", and "options.device" is "{own}"; leave one out'
        )
    if common == own == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if found is None else found
    key, wanted = ("device", common) if own == "auto" else ("options.device", own)
    kind, colon, index = wanted.partition(":")
    if key == "device" and kind == "metal":
        wanted = f"mps{colon}{index}"
    given = f'"{key}" of the configuration is "{common if own == "auto" else own}", '
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except Exception as error:
        api = {"cuda": "CUDA", "mps": "Metal"}.get(wanted.partition(":")[0])
        if key == "device" and api is not None and not _is_built_for(torch, api):
            raise EngineUnavailableError(
                f"{given}but torch {torch.__version__} is not built for {api}; for {api}: "
                f"{gpu_build('transformers', api, True)}"
            ) from error
        raise InvalidConfigError(
            f'{given}which is not available ({error}); "auto" selects an available device'
        ) from error
    return device


def _is_built_for(torch: Any, api: str) -> bool:
    if api == "Metal":
        return bool(torch.backends.mps.is_built())
    return torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None


def _device_name(model: Any) -> str:
    """Returns the name of a model's device as the configuration has it."""
    device = str(model.device)
    return "metal" if device.startswith("mps") else device


#: Keys of config.json for the context length.
_lengths = ("max_position_embeddings", "max_seq_len", "seq_length")


def _longest(model: Any) -> int | None:
    """Returns the longest text in tokens, by config.json."""
    config = model.config.get_text_config(decoder=True)
    found = next((length for key in _lengths if (length := getattr(config, key, None)) is not None), None)
    # The positions of RoBERTa and its relatives begin after the padding's.
    base = getattr(model, "base_model", model)
    embeddings = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    offset = getattr(embeddings, "padding_idx", None)
    return found if found is None or offset is None else found - offset - 1


def _describe_embedder(model: Any, path: Path, chosen: Options, modules: SentenceModules) -> ModelInfo:
    lengths = [length for length in (_longest(model), modules.max_tokens) if length is not None]
    return {
        "path": str(path),
        "device": _device_name(model),
        "context_length": _context_length(min(lengths, default=None), path, chosen),
        "capabilities": ["embedding"],
    }


def _is_classifier(path: Path) -> bool:
    """Whether a folder has a model for sequence classification."""
    names = model_files.read_json(path / "config.json").get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names)


def _describe_classifier(model: Any, path: Path, chosen: Options, labels: list[str]) -> ModelInfo:
    return {
        "path": str(path),
        "device": _device_name(model),
        "context_length": _context_length(_longest(model), path, chosen),
        "capabilities": ["classify", "score", "rerank"] if len(labels) == 1 else ["classify"],
        "labels": labels,
    }


def _describe(model: Any, path: Path, chosen: Options) -> ModelInfo:
    return {
        "path": str(path),
        "device": _device_name(model),
        "context_length": _context_length(_longest(model), path, chosen),
        "capabilities": ["chat", "completion", "logprobs", "seed", "priority"],
        "eos_token_ids": _ends(model, path),
    }


def _context_length(longest: int | None, path: Path, chosen: Options) -> int:
    context_length = chosen.context_length or longest
    if context_length is None:
        raise InvalidConfigError(
            f'config.json of "{path}" has no "max_position_embeddings"; set the context length with '
            f'"options": {{"context_length": tokens}}'
        )
    if longest is not None and context_length > longest:
        raise InvalidConfigError(
            f'"options.context_length" is {context_length}, but the model takes at most {longest} tokens'
        )
    return context_length


def _ends(model: Any, path: Path) -> list[int]:
    """Returns the tokens that end an answer, by generation_config.json, config.json, and the tokenizer."""
    found: list[int] = []
    for config in (model.generation_config, model.config.get_text_config(decoder=True), model.config):
        ids = getattr(config, "eos_token_id", None)
        found += [id for id in (ids if isinstance(ids, list) else [ids]) if type(id) is int and id >= 0]
    if model_files.exists(path / "tokenizer.json"):  # otherwise requests can only use token ids
        folder = ModelFolder(path)
        named = folder.special_tokens.get("eos_token")
        id = None if named is None else Tokenizer(folder).token_id(named)
        found += [] if id is None else [id]
    return list(dict.fromkeys(found))


def _check(request: TokenRequest, vocabulary: int) -> None:
    if request.guided is not None:
        raise NotSupportedError(
            'the engine "transformers" does not support structured output; use the engine "vllm"'
        )
    if request.adapter is not None:
        raise NotSupportedError(
            'the engine "transformers" does not support LoRA adapters; use the engine "vllm"'
        )
    _check_ids(request.token_ids, vocabulary)


def _check_ids(ids: list[int], vocabulary: int) -> None:
    if not ids:
        raise InvalidRequestError("the prompt has no tokens; it needs at least one")
    # On a GPU, an out-of-range id would make all later requests fail, too.
    for token in (min(ids), max(ids)):
        if not 0 <= token < vocabulary:
            raise InvalidRequestError(
                f"the prompt has the token id {token}; those of the model are 0 to {vocabulary - 1}"
            )

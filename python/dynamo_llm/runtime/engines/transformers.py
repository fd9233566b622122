# SPDX-License-Identifier: Apache-2.0
"""The engine ``transformers``: models of Hugging Face's transformers, on PyTorch, inside the process."""

import asyncio
import importlib
from collections.abc import AsyncIterator
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
from dynamo_llm.runtime import options
from dynamo_llm.runtime.engine import EngineConfig, ModelInfo, TokenChunk, TokenRequest


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type that weights are computed in; ``auto`` is the type that they are stored in."""
    device: str = "auto"
    """PyTorch's name of a device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``. ``auto``: a GPU if there is one."""
    attn_implementation: str | None = None
    """How attention is computed: ``eager``, ``sdpa``, ``flash_attention_2``, ...; default: the model's."""
    max_batch: int = 32
    """Requests that are computed together; more wait."""
    max_batch_tokens: int = 2048
    """Tokens of prompts that are computed between two steps; a longer prompt takes several."""
    context_length: int | None = None
    """Tokens of prompt and answer together, at most; default: what the model's config.json says."""
    trust_remote_code: bool = False
    """Run Python code that lies in the model's folder. It can do whatever this process may do."""


class _Answer:
    """What has come of one answer and was not taken yet. Its methods run on the request's loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._chunks: list[TokenChunk | DynamoError] = []
        self._has_more = asyncio.Event()

    def put(self, chunk: TokenChunk | DynamoError) -> None:
        self._chunks.append(chunk)
        self._has_more.set()

    async def take(self) -> TokenChunk:
        """Everything that has come as one chunk; raises the error that came."""
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
    """Models of transformers. See :class:`Options` for its options.

    The steps are computed by :class:`dynamo_llm.runtime.stepping.stepper.Stepper`, not by the continuous
    batching of transformers itself: as of 5.24 that has one setting for all requests of greedy decoding or
    sampling, seed, penalties, biases and the least number of tokens, and gives no alternatives with
    log-probs. The model, its cache and the logits processors are those of transformers' ``generate()``.
    """

    kind: Literal["tokens"] = "tokens"

    def __init__(self, config: EngineConfig) -> None:
        self._options = options.read(Options, config.options)
        for key in ("max_batch", "max_batch_tokens", "context_length"):
            value = getattr(self._options, key)
            if value is not None and value < 1:
                raise InvalidConfigError(
                    f'"options.{key}" of the configuration must be at least 1, not {value}'
                )
        self._path = demo_model_dir() if config.model is None else Path(config.model).expanduser()
        self._info: ModelInfo = {}
        self._stepper: Any = None
        self._network: Any = None
        self._stepping: Any = None

    def start(self) -> None:
        """Load the model; blocks."""
        _check_folder(self._path)
        try:
            torch = importlib.import_module("torch")
            transformers = importlib.import_module("transformers")
            stepping = "dynamo_llm.runtime.stepping"
            self._stepping = {
                name: importlib.import_module(f"{stepping}.{name}")
                for name in ("batch", "network", "sampler", "stepper")
            }
        except ImportError as error:
            raise EngineUnavailableError(
                f'the engine "transformers" needs PyTorch and transformers 5 ({error}); run: '
                f'python -m pip install "dynamo-llm[transformers]"'
            ) from error
        chosen = self._options
        device = _find_device(torch, chosen.device)
        logging = transformers.utils.logging
        shows_progress = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # stderr is the host's
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                self._path,
                dtype=chosen.dtype,
                attn_implementation=chosen.attn_implementation,
                trust_remote_code=chosen.trust_remote_code,
                use_safetensors=True,
                local_files_only=True,
            ).to(device)
        except Exception as error:
            raise _explain(error, self._path, chosen) from error
        finally:
            if shows_progress:
                logging.enable_progress_bar()
        if getattr(model, "_is_stateful", False):
            raise NotSupportedError(
                f'the engine "transformers" runs models with attention only, but "{self._path}" '
                f'({model.config.model_type}) keeps a state; the engine "vllm" may run it'
            )
        self._info = _describe(model, self._path, chosen)
        self._network = self._stepping["network"].Network(model)
        self._stepper = self._stepping["stepper"].Stepper(
            self._network, self._deliver, chosen.max_batch, chosen.max_batch_tokens
        )

    def describe(self) -> ModelInfo:
        """What was loaded."""
        return self._info

    def stop(self) -> None:
        """Free the model; blocks until the step that is under way has ended."""
        if self._stepper is not None:
            self._stepper.close()
        self._stepper = self._network = None

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answer one choice of a request. Tokens that came since the last chunk come together."""
        if self._stepper is None:
            raise ClosedError("the engine was stopped")
        _check(request, self._network.vocabulary)
        sampler = self._stepping["sampler"].Sampler(request, self._network.vocabulary, self._network.device)
        answer = _Answer()
        row = self._stepping["batch"].Row(request, sampler, answer)
        self._stepper.add(row)
        try:
            while True:
                chunk = await answer.take()
                yield chunk
                if "finish_reason" in chunk:
                    return
        finally:
            row.is_cancelled = True

    @staticmethod
    def _deliver(results: list[tuple[Any, TokenChunk | DynamoError]]) -> None:
        """Hand the results of a step to the loop of the requests; the stepper's thread calls it."""
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
                if not loop.is_closed():  # else nobody waits for these answers any more
                    raise


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelNotFoundError(
            f'the model "{path}" is no folder with config.json and *.safetensors; the engine "transformers" '
            f"takes no other"
        )
    if not any(path.glob("*.safetensors")):
        raise ModelNotFoundError(
            f'the folder "{path}" has no *.safetensors; weights in other files (*.bin, *.pt) can run code '
            f"when they are loaded, so convert them first"
        )


def _find_device(torch: Any, wanted: str) -> Any:
    if wanted == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if found is None else found
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except Exception as error:
        raise InvalidConfigError(
            f'"options.device" of the configuration: there is no "{wanted}" here ({error}); "auto" finds one'
        ) from error
    return device


def _explain(error: Exception, path: Path, chosen: Options) -> DynamoError:
    text = f'transformers cannot load "{path}": {error}'
    if not chosen.trust_remote_code and "trust_remote_code" in str(error):
        return NotSupportedError(
            f'the model "{path}" brings Python code of its own, which is not run unless '
            f'"options": {{"trust_remote_code": true}} allows it'
        )
    return DynamoError(text)


def _describe(model: Any, path: Path, chosen: Options) -> ModelInfo:
    config = model.config.get_text_config(decoder=True)
    longest = getattr(config, "max_position_embeddings", None)
    context_length = chosen.context_length or longest
    if context_length is None:
        raise InvalidConfigError(
            f'config.json of "{path}" has no "max_position_embeddings"; say how long the context is with '
            f'"options": {{"context_length": tokens}}'
        )
    if longest is not None and context_length > longest:
        raise InvalidConfigError(
            f'"options.context_length" is {context_length}, but the model takes {longest} tokens at most'
        )
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = config.eos_token_id
    return {
        "path": str(path),
        "context_length": context_length,
        "capabilities": ["chat", "completion", "logprobs", "seed", "priority"],
        "eos_token_ids": [] if ends is None else [ends] if isinstance(ends, int) else list(ends),
    }


def _check(request: TokenRequest, vocabulary: int) -> None:
    if request.guided is not None:
        raise NotSupportedError('the engine "transformers" has no structured output; "vllm" has')
    if request.adapter is not None:
        raise NotSupportedError('the engine "transformers" has no LoRA adapters; "vllm" has')
    if not request.token_ids:
        raise InvalidRequestError("the prompt has no tokens; it needs at least one")
    # On a GPU a wrong id would end every later request, too.
    for token in (min(request.token_ids), max(request.token_ids)):
        if not 0 <= token < vocabulary:
            raise InvalidRequestError(
                f"the prompt has the token id {token}; the model's go from 0 to {vocabulary - 1}"
            )

# SPDX-License-Identifier: Apache-2.0
"""The engine ``mistralrs``: mistral.rs inside the process, through its Python package."""

import importlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dynamo_llm.errors import (
    ContextLengthError,
    DynamoError,
    EngineUnavailableError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime import options
from dynamo_llm.runtime.engine import Chunk, EngineConfig, EngineRequest, Usage
from dynamo_llm.runtime.stop import StopStrings


@dataclass(frozen=True)
class Options:
    """Keys of ``options`` in the configuration."""

    dtype: Literal["auto", "f32", "f16", "bf16"] = "auto"
    """Type that weights are computed in."""
    max_seqs: int = 32
    """Requests that are decoded together; more wait."""
    prefix_cache_n: int = 16
    """Sequences whose KV cache is kept for requests with the same beginning."""
    isq: str | None = None
    """In-situ quantisation while loading, such as ``Q4K`` or ``Q8_0``."""
    seed: int | None = None
    """Seed of the sampler."""
    paged_attn: bool | None = None
    """Force PagedAttention on or off; default: on with CUDA and Metal."""
    chat_template: str | None = None
    """File with a chat template that replaces the model's."""
    tokenizer_json: str | None = None
    """File of the tokenizer, if the model's folder has none."""


# Keys of a body that mistral.rs takes under the same name.
_same_name = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "ignore_eos",
)
# Keys that are handled one by one below, or say nothing about the answer.
_handled = {
    "model",
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "traceparent",
    "tracestate",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
}


def _without_stdout() -> Any:
    """Import mistral.rs. It logs to stdout, which is the host's, unless RUST_LOG is set by then."""
    os.environ.setdefault("RUST_LOG", "off")
    try:
        return importlib.import_module("mistralrs")
    except ImportError as error:
        raise EngineUnavailableError(
            f'the engine "mistralrs" needs the Python package mistralrs ({error}); run: '
            f"python -m pip install mistralrs"
        ) from error


def _find_model(model: str | None) -> tuple[Path, bool]:
    """The folder or file of a model, and whether it is GGUF."""
    path = demo_model_dir() if model is None else Path(model).expanduser()
    if not path.exists():
        raise ModelNotFoundError(
            f'the model "{path}" does not exist; "model" is a folder with config.json and '
            f"*.safetensors, or a .gguf file"
        )
    if path.is_dir():
        if (path / "config.json").is_file():
            return path, False
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return files[0], True
        raise ModelNotFoundError(
            f'the folder "{path}" is no model: it has no config.json'
            + (f" and {len(files)} .gguf files; name one of them" if files else " and no .gguf file")
        )
    if path.suffix != ".gguf":
        raise ModelNotFoundError(
            f'the file "{path}" is no model: "model" is a folder with config.json, or a .gguf file'
        )
    return path, True


class MistralRsEngine:
    """mistral.rs. See :class:`Options` for its options."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._options = options.read(Options, config.options)
        self.max_threads = self._options.max_seqs
        self._runner: Any = None
        self._mistralrs: Any = None
        # Sending from two threads at once raises "Already borrowed"; iterating is free.
        self._send_lock = threading.Lock()

    def start(self) -> None:
        """Load the model; blocks."""
        path, is_gguf = _find_model(self._config.model)
        mistralrs = self._mistralrs = _without_stdout()
        chosen = self._options
        dtype = {
            "auto": mistralrs.ModelDType.Auto,
            "f32": mistralrs.ModelDType.F32,
            "f16": mistralrs.ModelDType.F16,
            "bf16": mistralrs.ModelDType.BF16,
        }[chosen.dtype]
        if is_gguf:
            which = mistralrs.Which.GGUF(
                quantized_model_id=str(path.parent),
                quantized_filename=path.name,
                dtype=dtype,
                tokenizer_json=chosen.tokenizer_json,
            )
        else:
            which = mistralrs.Which.Plain(
                model_id=str(path), dtype=dtype, tokenizer_json=chosen.tokenizer_json
            )
        try:
            self._runner = mistralrs.Runner(
                which=which,
                max_seqs=chosen.max_seqs,
                prefix_cache_n=chosen.prefix_cache_n,
                token_source="none",
                in_situ_quant=chosen.isq,
                seed=chosen.seed,
                paged_attn=chosen.paged_attn is True,
                no_paged_attn=chosen.paged_attn is False,
                jinja_explicit=chosen.chat_template,
            )
        except Exception as error:
            raise DynamoError(f'mistral.rs cannot load "{path}": {error}') from error

    def stop(self) -> None:
        """Free the model."""
        self._runner = None

    def generate(self, request: EngineRequest) -> Iterator[Chunk]:
        """Answer a chat or a completion, a chunk a token."""
        try:
            arguments = self._arguments(request.body)
        except ValueError as error:
            raise InvalidRequestError(f'"logit_bias" of the request: {error}') from error
        # mistral.rs sees a stop string that is one token only as that very token ("KV" is not " KV"), so
        # the text is cut here. It gets the strings all the same, to stop by itself, which gives usage.
        stops = arguments["stop_seqs"] or []
        arguments["stop_seqs"] = [form for stop in stops for form in (stop, " " + stop)] or None
        # Several choices are several requests: a stream of mistral.rs with more than one ends with the
        # first that does, and counts the tokens of one.
        choices = range(request.body.get("n") or 1)
        filters = [StopStrings(stops) for _ in choices]
        usages: dict[int, Usage] = {}
        try:
            with self._send_lock:
                streams = {
                    index: iter(
                        self._runner.send_chat_completion_request(
                            self._mistralrs.ChatCompletionRequest(**arguments)
                        )
                    )
                    for index in choices
                }
            while streams:
                for index, stream in list(streams.items()):
                    chunk = next(stream, None)
                    if chunk is None or filters[index].has_matched:
                        del streams[index]
                        continue
                    for choice in chunk.choices:
                        result = self._chunk(index, choice, filters[index])
                        if chunk.usage is not None:
                            usages[index] = _usage(chunk.usage)
                            if len(usages) == len(choices):
                                result["usage"] = _sum(list(usages.values()))
                        yield result
        except ValueError as error:
            if "sequence length" in str(error):
                raise ContextLengthError(str(error)) from error
            raise InvalidRequestError(f"mistral.rs refuses the request: {error}") from error

    def _arguments(self, body: dict[str, Any]) -> dict[str, Any]:
        """A body as the arguments of mistral.rs' ChatCompletionRequest."""
        if "input" in body:
            raise NotSupportedError('the engine "mistralrs" makes no embeddings yet')
        given = {key: value for key, value in body.items() if value is not None}
        unknown = sorted(set(given) - _handled - set(_same_name))
        if unknown:
            raise NotSupportedError(f'the engine "mistralrs" does not support "{unknown[0]}" of the request')
        prompt = body.get("prompt")
        if prompt is not None and not isinstance(prompt, str):
            raise NotSupportedError('the engine "mistralrs" takes "prompt" as a string only')
        if prompt is not None and given.get("logprobs") is not None:
            raise NotSupportedError('the engine "mistralrs" gives "logprobs" for chats only')
        if "seed" in given and given.get("temperature", 0) > 0:
            raise NotSupportedError(
                'the engine "mistralrs" has one sampler for all requests; set "options.seed" of the '
                'configuration in place of "seed" of the request'
            )
        stop = given.get("stop")
        return {
            # A string is a prompt that is taken as it is, without the chat template.
            "messages": body["messages"] if prompt is None else prompt,
            "model": "default",
            "stream": True,
            "max_tokens": given.get("max_completion_tokens", given.get("max_tokens")),
            "n_choices": 1,
            "stop_seqs": [stop] if isinstance(stop, str) else stop,
            "logit_bias": {int(key): bias for key, bias in given.get("logit_bias", {}).items()} or None,
            "logprobs": bool(given.get("logprobs", False)),
            "top_logprobs": given.get("top_logprobs"),
            **{key: given[key] for key in _same_name if key in given},
        }

    @staticmethod
    def _chunk(index: int, choice: Any, stops: StopStrings) -> Chunk:
        text = stops.feed(choice.delta.content or "")
        reason = "stop" if stops.has_matched else choice.finish_reason
        result: Chunk = {"index": index, "text": text + stops.flush() if reason else text}
        if reason:
            result["finish_reason"] = reason
        if choice.logprobs is not None and not stops.has_matched:
            result["logprobs"] = {"content": [_logprob(choice.logprobs)]}
        return result


def _usage(given: Any) -> Usage:
    return {"prompt_tokens": given.prompt_tokens, "completion_tokens": given.completion_tokens}


def _sum(choices: list[Usage]) -> Usage:
    """The usage of a request of several choices: its prompt counts once."""
    completion = sum(usage["completion_tokens"] for usage in choices)
    return {"prompt_tokens": choices[0]["prompt_tokens"], "completion_tokens": completion}


def _logprob(given: Any) -> dict[str, Any]:
    """A token's log-prob as OpenAI has it; mistral.rs has the text of alternatives as their bytes."""
    return {
        "token": given.token,
        "logprob": given.logprob,
        "bytes": None if given.bytes is None else list(given.bytes),
        "top_logprobs": [
            {
                "token": other.bytes or "",
                "logprob": other.logprob,
                "bytes": list((other.bytes or "").encode()),
            }
            for other in given.top_logprobs
        ],
    }

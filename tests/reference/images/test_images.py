# SPDX-License-Identifier: Apache-2.0
"""Answers of mistral.rs to chats with images are transformers' own."""

import io
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm import Runtime, Tokenizer

if find_spec("torch") is None or find_spec("transformers") is None:
    pytest.skip('needs: python -m pip install ".[transformers]" pillow', allow_module_level=True)

sys.path.append(str(Path(__file__).parents[2] / "python"))

import tiny_models
import torch
from pictures import image_part, message, noise
from PIL import Image
from tiny_models import IMAGE_SIZE, IMAGE_TOKENS
from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessor

#: Tokens of every answer.
max_tokens = 12
question = "what is it? " * 4
expanded = f"\n\n<start_of_image>{'<image_soft_token>' * IMAGE_TOKENS}<end_of_image>\n\n"


def with_config(**keys: Any) -> Callable[[Path], Path]:
    """Returns a change of the language model's configuration."""

    def change(folder: Path) -> Path:
        config = json.loads((folder / "config.json").read_text())
        config["text_config"].update(keys)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return change


def bicubic(folder: Path) -> Path:
    """Changes how images are resized."""
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "resample": 3}))
    return folder


def saved_again(folder: Path) -> Path:
    """Returns the model in the files of transformers 5."""
    other = folder.with_name("again")
    Gemma3ForConditionalGeneration.from_pretrained(folder).save_pretrained(other)
    Gemma3ImageProcessor.from_pretrained(folder).save_pretrained(other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    return other


changes: dict[str, Callable[[Path], Path]] = {
    "plain": lambda folder: folder,
    "bicubic": bicubic,
    "transformers-5": saved_again,
    "linear-rope": with_config(rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "short-window": with_config(sliding_window=16),
    "one-window": with_config(sliding_window=16, sliding_window_pattern=3),
}
#: Images by name, and the difference of log-probs that is allowed: resized images are rounded differently.
pictures: dict[str, tuple[list[bytes], float]] = {
    "none": ([], 0.005),
    "one": ([noise(1, IMAGE_SIZE, IMAGE_SIZE)], 0.005),
    "two": ([noise(2, IMAGE_SIZE, IMAGE_SIZE), noise(3, IMAGE_SIZE, IMAGE_SIZE)], 0.005),
    "wide": ([noise(4, 50, 20)], 0.03),
    "small": ([noise(5, 3, 7)], 0.03),
}


def reference(folder: Path, images: list[bytes], ids: list[int]) -> list[float]:
    """Returns the log-probs of the tokens that transformers generates."""
    model = Gemma3ForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    token = json.loads((folder / "config.json").read_text())["image_token_index"]
    prompt = torch.tensor([ids])
    inputs: dict[str, Any] = {"token_type_ids": (prompt == token).long()}
    if images:
        opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
        inputs["pixel_values"] = Gemma3ImageProcessor.from_pretrained(folder)(opened, return_tensors="pt")[
            "pixel_values"
        ]
    with torch.no_grad():
        answer = model.generate(
            input_ids=prompt,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
            **inputs,
        )
    tokens = answer.sequences[0][len(ids) :].tolist()
    return [
        torch.log_softmax(logits[0].float(), -1)[token].item()
        for logits, token in zip(answer.logits, tokens, strict=True)
    ]


@pytest.mark.parametrize("change", changes)
@pytest.mark.parametrize("seed", [0, 1])
def test_answers(tmp_path: Path, change: str, seed: int) -> None:
    folder = changes[change](tiny_models.gemma3(tmp_path / "model", seed=seed))
    with Runtime(model=folder, options={"dtype": "f32"}) as runtime, Tokenizer(model=folder) as tokenizer:
        for name, (images, tolerance) in pictures.items():
            asked = message(*map(image_part, images), question)
            body = {"messages": [asked], "max_tokens": max_tokens, "ignore_eos": True, "logprobs": True}
            answer = runtime.request(body, timeout=120).result()
            text = f"<user>{expanded * len(images)}{question}<answer>"
            ids = list(tokenizer.encode(text, add_special_tokens=False))
            assert answer.usage.prompt_tokens == len(ids)
            assert answer.logprobs is not None
            given = [token.logprob for token in answer.logprobs]
            assert given == pytest.approx(reference(folder, images, ids), abs=tolerance), name


def test_images_differ(tmp_path: Path) -> None:
    """The comparison can tell images apart."""
    folder = tiny_models.gemma3(tmp_path / "model")
    with Tokenizer(model=folder) as tokenizer:
        ids = list(tokenizer.encode(f"<user>{expanded}{question}<answer>", add_special_tokens=False))
    one, other = (reference(folder, [noise(seed, IMAGE_SIZE, IMAGE_SIZE)], ids) for seed in (1, 2))
    assert one != pytest.approx(other, abs=0.05)

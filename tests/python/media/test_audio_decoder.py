# SPDX-License-Identifier: Apache-2.0
"""Audio as samples."""

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dynamo_llm.errors import EngineUnavailableError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.media import audio_decoder
from dynamo_llm.runtime.media.audio import Audio
from dynamo_llm.runtime.media.media_reader import MediaReader
from dynamo_llm.runtime.media.media_settings import MediaSettings
from pictures import audio_part, image_part, message, noise

soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")

rate = 16_000
tone = (0.5 * np.sin(np.arange(rate // 4) * 0.05)).astype(np.float32)


def saved(values: Any, own_rate: int = rate, format: str = "WAV", **options: Any) -> bytes:
    """Returns samples as a file."""
    file = io.BytesIO()
    soundfile.write(file, values, own_rate, format=format, **options)
    return file.getvalue()


def decoded(data: bytes, format: str = "wav") -> Any:
    """Returns the samples of one file."""
    (samples,) = audio_decoder.decode([Audio(format, data, "here")], rate)
    return samples


def test_samples() -> None:
    """WAV in several encodings, one channel and two, and MP3."""
    two = np.stack([tone, -tone / 2], axis=1)
    for subtype, error in (("PCM_16", 1e-4), ("PCM_24", 1e-6), ("FLOAT", 0), ("PCM_U8", 1e-2)):
        assert np.abs(decoded(saved(tone, subtype=subtype)) - tone).max() <= error
        assert np.abs(decoded(saved(two, subtype=subtype)) - tone / 4).max() <= error
    assert decoded(saved(tone)).dtype == np.float32
    compressed = decoded(saved(tone, format="MP3"), "mp3")
    assert np.abs(compressed[: len(tone)] - tone).mean() < 0.02


def test_sampling_rate() -> None:
    """Other rates are converted to the model's."""
    for own_rate in (8_000, 22_050, 44_100, 48_000):
        values = (0.5 * np.sin(np.arange(own_rate) * 2 * np.pi * 440 / own_rate)).astype(np.float32)
        samples = decoded(saved(values, own_rate, subtype="FLOAT"))
        assert len(samples) == rate
        wanted = 0.5 * np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)
        assert np.abs(samples - wanted)[500:-500].max() < 0.01


def test_cut_file() -> None:
    """A WAV file that ends early has the samples that it has."""
    data = saved(tone)
    samples = decoded(data[:-400])
    assert samples == pytest.approx(tone[: len(samples)], abs=1e-4)
    assert len(samples) == len(tone) - 200


@pytest.mark.parametrize(
    ("make", "format", "match"),
    [
        (lambda: b"RIFF....WAVE", "wav", 'not a valid WAV file, which "format" declares: '),
        (lambda: b"not a file", "mp3", "not a valid MP3 file"),
        (lambda: saved(tone, format="FLAC"), "mp3", "not a valid MP3 file, .*, but FLAC"),
        (lambda: saved(tone), "mp3", "not a valid MP3 file, .*, but WAV"),
        (lambda: saved(tone[:0]), "wav", "has no samples"),
        (lambda: saved(tone * np.nan, subtype="FLOAT"), "wav", "has a sample that is not a finite number"),
        (lambda: saved(tone + np.inf, subtype="FLOAT"), "wav", "has a sample that is not a finite number"),
        (lambda: saved(tone, 1), "wav", "has the sampling rate 1 Hz; it must be from 8000 to 192000 Hz"),
    ],
    ids=range(8),
)
def test_refused(make: Callable[[], bytes], format: str, match: str) -> None:
    """Errors name the part and what is wrong with it."""
    with pytest.raises(InvalidRequestError, match=f'^"here" of the request (is )?{match}'):
        decoded(make(), format)


def test_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all channels and parts count: a small MP3 file may become large."""
    monkeypatch.setattr(audio_decoder, "most_samples", 3 * len(tone))
    two = saved(np.stack([tone, tone], axis=1))
    parts = [Audio("wav", saved(tone), "first"), Audio("wav", two, "second"), Audio("wav", two, "third")]
    assert len(audio_decoder.decode(parts[:2], rate)) == 2
    with pytest.raises(InvalidRequestError, match='"third" of the request has 8000 samples in all'):
        audio_decoder.decode(parts, rate)


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_missing_packages(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """The error names the package and how to install it."""
    data = saved(tone, 8000)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailableError, match=rf"package {package}, .*; run: python -m pip install"):
        decoded(data)


def test_parts_of_messages() -> None:
    """Images and audio keep their order; formats and kinds that are not taken are refused."""
    both = MediaReader(MediaSettings(), "this engine", ["image", "audio"])
    parts = [
        audio_part(saved(tone)),
        "text",
        image_part(noise(1)),
        audio_part(saved(tone, format="MP3"), "MP3"),
    ]
    messages, media = both.read([message(*parts)], bool)
    assert [part["type"] for part in messages[0]["content"]] == ["audio", "text", "image", "audio"]
    assert [one.format for one in media] == ["wav", "png", "mp3"]
    assert isinstance(media[2], Audio)
    assert media[2].where == "messages[0].content[3].input_audio.data"
    with pytest.raises(InvalidRequestError, match=r"format\" of the request is 'flac'; it must be"):
        both.read([message(audio_part(saved(tone), "flac"))], bool)
    with pytest.raises(NotSupportedError, match=r'has the type "audio"; send .*"input_audio"'):
        both.read([message({"type": "audio"})], bool)
    with pytest.raises(NotSupportedError, match="this engine takes text and audio only"):
        MediaReader(MediaSettings(), "this engine", ["audio"]).read([message(image_part(noise(1)))], bool)

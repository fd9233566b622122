# SPDX-License-Identifier: Apache-2.0
"""Decodes the audio of a request, with the packages soundfile and soxr."""

import io
from collections.abc import Sequence
from math import isfinite
from typing import Any

from dynamo_llm.errors import EngineUnavailableError, InvalidRequestError
from dynamo_llm.runtime import extras
from dynamo_llm.runtime.media.audio import Audio

#: Maximum number of samples of all audio of a request, those of all channels: an MP3 file of a few megabytes
#: may need gigabytes when it is decoded.
most_samples = 50_000_000
#: Sampling rates in Hz that are read: a file may declare any, and 1 Hz would become 16,000 times as many
#: samples.
_rates = range(8_000, 192_001)
#: soundfile's names of the formats.
_formats = {"wav": ("WAV", "WAVEX"), "mp3": ("MP3",)}


def decode(clips: Sequence[Audio], rate: int) -> list[Any]:
    """Returns the samples of each as a NumPy array of float32, its channels mixed to one. Blocks.

    :param rate: sampling rate in Hz of the result.
    :raises EngineUnavailableError: a package is not installed.
    :raises InvalidRequestError: a file is not valid, or all have too many samples.
    """
    result = []
    left = most_samples
    for clip in clips:
        samples, own_rate, count = _read(clip, left)
        left -= count
        result.append(samples if own_rate == rate else _resampled(samples, own_rate, rate))
    return result


def _read(clip: Audio, most: int) -> tuple[Any, int, int]:
    """Returns the samples, their rate, and the number of those of all channels."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without the library libsndfile
        raise _missing("soundfile", error) from error
    name = f'"{clip.where}" of the request'
    is_not = f'{name} is not a valid {clip.format.upper()} file, which "format" declares'
    try:
        with soundfile.SoundFile(io.BytesIO(clip.data)) as file:
            if file.format not in _formats[clip.format]:
                raise InvalidRequestError(f"{is_not}, but {file.format}")
            count = file.frames * file.channels
            if count > most:
                raise InvalidRequestError(
                    f"{name} has {count} samples in all channels; all audio of a request may have "
                    f"{most_samples} together"
                )
            if file.samplerate not in _rates:
                raise InvalidRequestError(
                    f"{name} has the sampling rate {file.samplerate} Hz; it must be from {_rates[0]} to "
                    f"{_rates[-1]} Hz"
                )
            samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
            own_rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise InvalidRequestError(f"{is_not}: {error.error_string}") from error
    if not samples.size:
        raise InvalidRequestError(f"{name} has no samples")
    if not isfinite(samples.sum(dtype="float64")):
        raise InvalidRequestError(f"{name} has a sample that is not a finite number")
    return samples, own_rate, count


def _resampled(samples: Any, own_rate: int, rate: int) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise _missing("soxr", error) from error
    return soxr.resample(samples, own_rate, rate)


def _missing(package: str, error: Exception) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"audio is decoded with the package {package}, which cannot be imported ({error}); run: "
        f"{extras.install_command('audio')}"
    )

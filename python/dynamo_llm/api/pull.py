# SPDX-License-Identifier: Apache-2.0
"""Downloads a model of the Hugging Face Hub."""

from collections.abc import Callable
from pathlib import Path

from dynamo_llm.api.creation import Progress


def pull(
    model: str,
    *,
    engine: str = "mistralrs",
    offline: bool = False,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> Path:
    """Downloads the newest version of a model of the Hugging Face Hub into the Hugging Face cache.

    Files that the cache has are not downloaded again. Blocks as long as that takes; an exception of
    ``progress``, or Ctrl-C, ends the download, and complete files stay.

    :param model: ``org/name``, ``org/name:Q4_K_M`` (a GGUF quantization), or ``org/name@revision``, with or
        without ``hf:``.
    :param engine: the engine that will load the model: it determines which files are downloaded.
    :param offline: whether to look in the cache only.
    :param progress: called in this thread, several times in a second. Its phase is ``resolve``, then
        ``download``; its bytes are those of the model that are there, and those of the whole model.
    :returns: the model's folder, or its GGUF file (the first, if it has several parts), for ``"model"`` of a
        configuration.
    :raises InvalidConfigError: the name is not valid.
    :raises ModelNotFoundError: the repository, revision, or quantization does not exist, or needs a
        permission; the message says what does exist, or what to do.
    :raises NotSupportedError: the engine does not load model files.
    :raises UnavailableError: the hub cannot be reached, or is too slow; try again.
    :raises SystemFailedError: the cache cannot be written.
    """
    from dynamo_llm.runtime.hub import lookup  # which imports this package

    def report(phase: str, done: int, total: int) -> None:
        progress(Progress(phase, "", done, total, done / total if total else None))

    return lookup.find_for(engine, model, {}, refresh=True, offline=offline, progress=report)

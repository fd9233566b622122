# SPDX-License-Identifier: Apache-2.0
"""The name of a model of the Hugging Face Hub in a configuration: ``hf:org/name:Q4_K_M@revision``."""

import os
import re
from dataclasses import dataclass

from dynamo_llm.errors import InvalidConfigError

PREFIX = "hf:"
"""What such a name begins with; everything else in ``"model"`` is a path, or a name of the engine's own."""

_word = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_repository = re.compile(rf"(?:{_word}/)?{_word}")
_quantization = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_+./-]*[A-Za-z0-9_+-])?")
#: As git allows for branches and tags, without characters that a path or a URL gives a meaning.
_revision = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_+./-]*[A-Za-z0-9_+-])?")
_longest_repository = 96
_longest = 255


@dataclass(frozen=True)
class HubName:
    """A model of the Hugging Face Hub."""

    repository: str
    """``org/name``, or ``name`` for the oldest repositories."""
    quantization: str | None = None
    """Part of the name of a GGUF file, such as ``Q4_K_M``; None for the repository's safetensors, or its only
    GGUF model."""
    revision: str | None = None
    """Branch, tag, or commit; None for the branch ``main``."""

    def __str__(self) -> str:
        quantization = f":{self.quantization}" if self.quantization else ""
        return f"{PREFIX}{self.repository}{quantization}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(model: str | None) -> bool:
    """Whether a configuration's ``"model"`` names a model of the Hugging Face Hub."""
    return model is not None and model.startswith(PREFIX)


def parse(text: str) -> HubName:
    """Reads a name, with or without ``hf:``.

    :raises InvalidConfigError: it does not have the form of one.
    """
    rest, at, revision = text.removeprefix(PREFIX).partition("@")
    repository, colon, quantization = rest.partition(":")
    if ":" in revision:
        raise _invalid(text, 'the quantization stands before "@"')
    is_repository = (
        _repository.fullmatch(repository) is not None
        and len(repository) <= _longest_repository
        and "--" not in repository
        and ".." not in repository
        and not repository.endswith(".git")
    )
    if not is_repository:
        raise _invalid(text, f'"{repository}" is not a repository')
    if colon and not _is_relative(_quantization, quantization):
        raise _invalid(text, f'"{quantization}" is not a quantization')
    if at and not _is_relative(_revision, revision):
        raise _invalid(text, f'"{revision}" is not a branch, tag, or commit')
    return HubName(repository, quantization or None, revision or None)


def _is_relative(pattern: re.Pattern[str], text: str) -> bool:
    """Whether a text matches, and has no empty part, and none of dots, between its slashes."""
    is_short = len(text) <= _longest
    return is_short and pattern.fullmatch(text) is not None and all(map(_has_name, text.split("/")))


def _has_name(part: str) -> bool:
    return part.strip(".") != "" and ".." not in part


def _invalid(text: str, why: str) -> InvalidConfigError:
    return InvalidConfigError(
        f'the model "{text}" is not the name of a model of the Hugging Face Hub: {why}; names have the form '
        f'"{PREFIX}org/name", "{PREFIX}org/name:Q4_K_M", or "{PREFIX}org/name@revision"'
    )


def of_argument(model: str) -> str:
    """Returns a model of the command line as a configuration has it: ``org/name`` becomes ``hf:org/name``,
    unless a file or folder has that name. Other texts stay unchanged.
    """
    organization, slash, _ = model.partition("/")
    if not slash or model.startswith((PREFIX, "~")) or os.path.lexists(model):
        return model
    if not _repository.fullmatch(organization):
        return model
    try:
        name = parse(model)
    except InvalidConfigError:
        return model
    return str(name) if not name.repository.endswith(".gguf") else model

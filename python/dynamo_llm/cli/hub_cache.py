# SPDX-License-Identifier: Apache-2.0
"""The models in the Hugging Face cache, and their names."""

import re
from pathlib import Path

from dynamo_llm.cli import output
from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.runtime import gguf_file, model_files

_commit = re.compile(r"[0-9a-f]{40}")


def snapshots() -> list[Path]:
    """Returns the folders of all downloaded commits of models, sorted. What cannot be read is reported on
    stderr.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        found = scan_cache_dir()
    except (CacheNotFound, ValueError):  # nothing was ever downloaded
        return []
    for warning in found.warnings:
        if "models--" in str(warning):
            output.write_error(f"the Hugging Face cache has a broken model: {warning}")
    return sorted(
        revision.snapshot_path
        for repository in found.repos
        if repository.repo_type == "model"
        for revision in repository.revisions
    )


def name_of(path: Path) -> str | None:
    """Returns the name that ``--model`` takes for a folder or GGUF file in the cache: ``org/name``,
    ``org/name:file``, with ``@revision`` unless that is ``main``. None for other files.
    """
    parts = path.absolute().parts
    at = next((index for index, part in enumerate(parts) if part.startswith("models--")), len(parts))
    if parts[at + 1 : at + 2] != ("snapshots",) or not _commit.fullmatch("".join(parts[at + 2 : at + 3])):
        return None
    commit, rest = parts[at + 2], "/".join(parts[at + 3 :])
    name = parts[at].removeprefix("models--").replace("--", "/")
    if rest.endswith(".gguf"):
        match = gguf_file.PART.fullmatch(rest)
        name += f":{match[1] if match else rest.removesuffix('.gguf')}"
    elif rest:
        return None
    revision = _revision_of(Path(*parts[: at + 1]) / "refs", commit)
    return name if revision == "main" else f"{name}@{revision}"


def _revision_of(folder: Path, commit: str) -> str:
    """A branch or tag that is at a commit, preferably ``main``; otherwise the commit."""
    files = [folder / "main", *sorted(path for path in folder.rglob("*") if not path.is_dir())]
    for file in files:
        try:
            if model_files.exists(file) and model_files.read_text(file).strip() == commit:
                return file.relative_to(folder).as_posix()
        except ModelNotFoundError:  # it is not a file
            continue
    return commit

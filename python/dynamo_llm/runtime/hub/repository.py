# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a model in the Hugging Face cache, and downloads those that it lacks.

Runs in the child process of :mod:`downloader`.
"""

import logging
import os
import re
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from dynamo_llm.errors import DynamoError, ModelNotFoundError, SystemFailedError, UnavailableError
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.hub.file_selection import Selection, SelectionError, select
from dynamo_llm.runtime.hub.refusal import AnswerError, Refusal, UnreachableError, is_of
from dynamo_llm.runtime.hub.watchdog import Watchdog

_log = logging.getLogger("dynamo_llm.hub")

_commit = re.compile(r"[0-9a-f]{40}")
_most_files = 100_000
#: Files that are downloaded at once.
_workers = 4
#: Times that a file is tried when the connection is lost in a way that huggingface_hub does not handle.
_attempts = 3


class _Silent:
    """What huggingface_hub takes for a progress bar."""

    def __init__(self, *_: Any, initial: int = 0, total: int | None = None, **__: Any) -> None:
        self.n = initial
        self.total = total
        self.format_dict: dict[str, Any] = {}

    def _ignore(self, *_: Any, **__: Any) -> None:
        pass

    update = close = refresh = reset = clear = _ignore
    set_description = set_description_str = set_postfix_str = set_transfer_postfix_str = _ignore

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Bar(_Silent):
    """Counts the bytes of one file. A subclass for each file has its counter."""

    counter: "_Counter"

    def update(self, count: float | None = 1) -> None:
        """Bytes of the file."""
        self.n += int(count or 0)
        self.counter.add(int(count or 0))

    def update_transfer(self, count: float | None = 1) -> None:
        """Bytes from the network: with Xet, they come before those of the file."""
        self.counter.watchdog.receive(int(count or 0))


class _Counter:
    """The bytes of one file that were counted."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog = watchdog
        self._bytes = 0

    def add(self, count: int) -> None:
        self._bytes += count
        self.watchdog.add(count)

    def set(self, count: int) -> None:
        self.add(count - self._bytes)


class Repository:
    """A repository of the hub, of which one model is wanted.

    :param hub: the module huggingface_hub.
    :param arguments: those of :func:`downloader.serve`.
    """

    def __init__(self, hub: Any, arguments: dict[str, Any]) -> None:
        self._hub = hub
        self._name: str = arguments["name"]
        self._repository: str = arguments["repository"]
        self._quantization: str | None = arguments["quantization"]
        self._revision: str = arguments["revision"] or "main"
        self._formats: list[str] = arguments["formats"]
        self._refresh: bool = arguments["refresh"]
        self._is_offline = bool(arguments["offline"]) or hub.constants.is_offline_mode()
        self._cache = Path(hub.constants.HF_HUB_CACHE)
        self._folder = self._cache / f"models--{self._repository.replace('/', '--')}"
        self.refusal = Refusal(hub, self._name, self._repository, self._revision)
        """Explains errors."""
        self._token: str | bool = False
        self._watchdog: Watchdog

    def find(self, watchdog: Watchdog) -> Path:
        """Returns the model's folder or file."""
        self._watchdog = watchdog
        cached, is_complete, problem = None, False, ""
        if self._is_offline or not self._refresh:
            cached, is_complete, problem = self._find_cached()
        if cached is not None and (is_complete or self._is_offline):
            return cached
        if self._is_offline:
            raise ModelNotFoundError(
                f'the model "{self._name}" is not in the Hugging Face cache, "{self._cache}"{problem}, and '
                f'downloads are off ("offline" of the configuration, --offline, or HF_HUB_OFFLINE); download '
                f"it before with: dynamo-llm pull {self._name.removeprefix('hf:')}"
            )
        try:
            return self._download()
        except UnreachableError as error:
            if cached is None:
                raise
            _log.warning("%s; the files of %s in the cache are used as they are", error.message, self._name)
            return cached

    # --------------------------------------------------------------------------------- the cache

    def _find_cached(self) -> tuple[Path | None, bool, str]:
        """Finds the model in the cache, without the network. Returns its path, whether all of its files are
        known to be there, and what is wrong with what is there.
        """
        commit = self._noted_commit()
        if commit is None:
            has_others = (self._folder / "snapshots").is_dir()
            return None, False, f', at least not its revision "{self._revision}"' if has_others else ""
        snapshot = self._folder / "snapshots" / commit
        sizes = self._sizes(commit)
        if sizes is None:  # another program downloaded it, perhaps only in part
            names = [path.relative_to(snapshot).as_posix() for path in _files_below(snapshot)]
        else:
            names = list(sizes)
        try:
            chosen = self._select(names, lambda name: model_files.read_json(snapshot / name))
        except SelectionError as error:
            return None, False, f", whose copy {error}" if names else ""
        except ModelNotFoundError as error:
            return None, False, f", whose copy is not complete ({error.message})"
        if sizes is not None:
            lacking = [name for name in chosen.files if not _is_whole(snapshot / name, sizes[name])]
            if lacking:
                return None, False, f", whose copy lacks {lacking[0]}"
        return _path(snapshot, chosen), sizes is not None, ""

    def _noted_commit(self) -> str | None:
        """The commit of the revision when it was last downloaded; None if it never was."""
        if _commit.fullmatch(self._revision):
            return self._revision
        try:
            text = (self._folder / "refs" / self._revision).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if _commit.fullmatch(text) else None

    def _note_commit(self, commit: str) -> None:
        """Makes the revision stand for a commit. Only once its files are complete: until then, the files of
        the previous commit stay in use.
        """
        if commit in (self._revision, self._noted_commit()):
            return
        path = self._folder / "refs" / self._revision
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        new.write_text(commit, encoding="utf-8")
        new.replace(path)

    def _sizes(self, commit: str) -> dict[str, int] | None:
        """The sizes of all files of a commit by name, as huggingface_hub has noted them; None if it has
        not.
        """
        try:
            listed = self._hub.get_cached_repo_tree(self._repository, revision=commit)
        except self._hub.errors.CachedRepoTreeNotFoundError:
            return None
        if len(listed) > _most_files:
            raise AnswerError(f"it lists more than {_most_files} files")
        return {file.path: int(file.size) for file in listed if isinstance(file.path, str)}

    def _select(self, names: list[str], read_index: Callable[[str], Any]) -> Selection:
        return select(names, self._formats, self._quantization, read_index)

    # ------------------------------------------------------------------------------- the network

    def _download(self) -> Path:
        """Downloads what the cache lacks of the revision as it is now."""
        try:
            self._token = self.refusal.token = self._hub.get_token() or False
            if self._hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
                self._token = self.refusal.token = False
            api = self._hub.HfApi(library_name="dynamo-llm", token=self._token)
            commit = str(api.model_info(self._repository, revision=self._revision).sha)
            if not _commit.fullmatch(commit):
                raise AnswerError("it reports a commit that is not valid")
            sizes = self._sizes(commit)
            if sizes is None:
                self._hub.snapshot_download(  # of no file: it notes the list of all files in the cache
                    self._repository,
                    revision=commit,
                    allow_patterns=[],
                    token=self._token,
                    tqdm_class=_Silent,
                )
                sizes = self._sizes(commit)
            path = self._fetch_all(commit, sizes or {})
            self._note_commit(commit)
            return path
        except SelectionError as error:
            raise ModelNotFoundError(
                f'the repository "{self._repository}" of the Hugging Face Hub (revision "{self._revision}") '
                f"{error}"
            ) from error
        except DynamoError:
            raise
        except Exception as error:
            raise self.refusal.of(error) from error

    def _fetch_all(self, commit: str, sizes: dict[str, int]) -> Path:
        snapshot = self._folder / "snapshots" / commit

        def read_index(name: str) -> Any:
            if sizes[name] > model_files.limit(Path(name)):
                raise SelectionError(f"has a {name} of {sizes[name]} bytes, which is too large")
            self._fetch(commit, snapshot, name, sizes[name])
            return model_files.read_json(snapshot / name)

        chosen = self._select(list(sizes), read_index)
        lacking = [name for name in chosen.files if not _is_whole(snapshot / name, sizes[name])]
        total = sum(sizes[name] for name in chosen.files)
        needed = sum(sizes[name] for name in lacking)
        if not lacking:
            return _path(snapshot, chosen)
        free = _free_bytes(self._folder)
        if needed > free:
            raise SystemFailedError(
                f'the model "{self._name}" needs {needed} more bytes in "{self._cache}", whose file system '
                f"has {free} free; free some space, or set HF_HOME to a folder elsewhere"
            )
        _log.info("downloading %s: %d files, %d bytes", self._name, len(lacking), needed)
        self._watchdog.download(total, total - needed, self._folder / "blobs")
        pool = ThreadPoolExecutor(_workers)
        jobs = {pool.submit(self._fetch, commit, snapshot, name, sizes[name]) for name in lacking}
        while jobs:
            done, jobs = wait(jobs, return_when=FIRST_COMPLETED)
            for job in done:
                job.result()  # after an error, the process ends without waiting for the others
        self._watchdog.finish()
        return _path(snapshot, chosen)

    def _fetch(self, commit: str, snapshot: Path, name: str, size: int) -> None:
        """Downloads one file, unless the cache has it."""
        if _is_whole(snapshot / name, size):
            return
        counter = _Counter(self._watchdog)
        bar = type("Bar", (_Bar,), {"counter": counter})
        for attempt in range(1, _attempts + 1):
            try:
                self._hub.hf_hub_download(
                    self._repository,
                    name,
                    revision=commit,
                    token=self._token,
                    library_name="dynamo-llm",
                    tqdm_class=bar,
                    force_download=os.path.lexists(snapshot / name),
                )
                break
            except Exception as error:
                if attempt == _attempts or not is_of(error, "TransportError"):
                    raise
                _log.warning("the download of %s was interrupted and starts again: %s", name, error)
                counter.set(0)
        self._watchdog.touch()
        if not _is_whole(snapshot / name, size):
            raise UnavailableError(
                f'the file {name} of the repository "{self._repository}" was downloaded, but does not have '
                f"the {size} bytes that the server listed; try again"
            )
        counter.set(size)  # a file that another process downloaded was not counted


def _path(snapshot: Path, chosen: Selection) -> Path:
    return snapshot if chosen.file is None else snapshot / chosen.file


def _files_below(folder: Path) -> list[Path]:
    """The files of a snapshot, without dangling links."""
    found: list[Path] = []
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [path for name in files if (path := Path(place, name)).is_file()]
        if len(found) > _most_files:
            raise ModelNotFoundError(f'the folder "{folder}" has more than {_most_files} files')
    return found


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


def _free_bytes(folder: Path) -> int:
    """The free space of the file system that a folder is in, or will be created in."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize

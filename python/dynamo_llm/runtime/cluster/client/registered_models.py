# SPDX-License-Identifier: Apache-2.0
"""The models that workers have registered, and why Dynamo does not serve some of them.

Dynamo reports that only in its log, which is silent. Its list of models lacks them.
"""

import asyncio
import ctypes
import errno
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from dynamo_llm.errors import DynamoError, NotSupportedError, UnavailableError
from dynamo_llm.runtime.cluster.client.model_cards import ModelCard, model_cards
from dynamo_llm.runtime.cluster.client.served_model import can_serve
from dynamo_llm.runtime.cluster.settings import Settings

_log = logging.getLogger("dynamo_llm.cluster")

#: Seconds for the discovery's response.
_timeout = 2.0
#: Files of a model whose contents are part of its identity.
_files = ("model_info", "tokenizer", "prompt_formatter", "chat_template_file", "gen_config")


class RegisteredModels:
    """The models in a cluster's discovery. Used on the event loop.

    :param has_frontend: whether models that only Dynamo's frontend serves can be used.
    """

    def __init__(self, settings: Settings, has_frontend: bool) -> None:
        self._settings = settings
        self._has_frontend = has_frontend
        self._cards: list[ModelCard] = []
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self._logged: set[str] = set()

    async def cards(self, max_age: float) -> list[ModelCard]:
        """Returns the cards of the running workers; none if the discovery cannot be read.

        :param max_age: seconds since they were read, at most; concurrent callers share one reading.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._read_at > max_age and self._settings.discovery != "kubernetes":
                try:
                    self._cards = await asyncio.wait_for(model_cards(self._settings), _timeout)
                except (UnavailableError, asyncio.TimeoutError) as error:
                    _log.debug("the models of %s: %r", self._settings.address, error)
                    self._cards = []
                self._read_at = asyncio.get_running_loop().time()
            return self._cards

    async def text_models(self) -> set[str]:
        """Returns the names of the models that take text."""
        return {card.name for card in await self.cards(1.0) if card.input == "Text"}

    async def require_usable(self, name: str | None, served: set[str]) -> bool:
        """Checks a model that is not served.

        :param name: its name; None: any.
        :param served: the models that can be used.
        :returns: whether a worker has registered it, so that it may still appear.
        :raises NotSupportedError: this library cannot use it.
        :raises UnavailableError: Dynamo could not watch its workers.
        """
        missing = defaultdict(list)
        for card in await self.cards(0.5):
            if card.name not in served and name in (None, card.name):
                missing[card.name].append(card)
        problems = [self._problem(one, cards) for one, cards in missing.items()]
        for problem in problems:
            if problem is not None:
                self._log_once(problem.message)
        if problems and all(problems):
            raise problems[0]  # type: ignore[misc]
        return bool(missing)

    async def report(self, served: set[str]) -> None:
        """Logs, each time once, which models and workers are registered and get no requests."""
        models = defaultdict(list)
        groups = defaultdict(list)
        for card in await self.cards(1.0):
            models[card.name].append(card)
            groups[card.name, card.endpoint, card.kinds, card.content.get("worker_type")].append(card)
        for name, cards in models.items():
            problem = self._problem(name, cards) if name not in served else None
            if problem is not None:
                self._log_once(problem.message)
        for (name, endpoint, *_), cards in groups.items():
            first = min(cards, key=lambda card: card.instance)
            for card in cards:
                if text := _difference(first, card):
                    self._log_once(
                        f'the workers {first.instance:x} and {card.instance:x} of the model "{name}" at '
                        f"{endpoint} have registered different cards ({text}); NVIDIA Dynamo sends requests "
                        f"only to workers with the card that it saw first"
                    )

    def _log_once(self, text: str) -> None:
        if text not in self._logged and len(self._logged) < 1000:
            self._logged.add(text)
            _log.warning("%s", text)

    def _problem(self, name: str, cards: list[ModelCard]) -> DynamoError | None:
        # The workers that answer may join after those that prefill.
        is_complete = all(card.content.get("worker_type") in (None, "aggregated") for card in cards)
        if is_complete and (reason := unsupported(cards, self._has_frontend)):
            return NotSupportedError(reason)
        if self._settings.discovery == "file" and (limit := _used_up_limit()):
            return UnavailableError(
                f'NVIDIA Dynamo cannot watch the workers of the model "{name}" in {self._settings.address}: '
                f"{limit}; with each model it needs some more of them"
            )
        return None


def unsupported(cards: list[ModelCard], has_frontend: bool) -> str | None:
    """Returns why no card of a model can be used; None if one can.

    :param has_frontend: as of :class:`RegisteredModels`.
    """
    for card in cards:
        if card.input == "Text" or (card.input == "Tokens" and "Chat" in card.kinds):
            return None
        if has_frontend and can_serve(card):
            return None
    card = cards[-1]
    more = "those of completions or embeddings, " if has_frontend else ""
    return (
        f'the model "{card.name}" of the cluster takes {card.input} and serves {card.kinds or "nothing"}; '
        f"only token-level chat models, {more}and models that take text can be used"
    )


def _difference(first: ModelCard, other: ModelCard) -> str | None:
    """Returns the first difference for which Dynamo does not let two workers serve a model together."""
    for key in ("source_path", "context_length", "kv_cache_block_size", "needs", "aliases"):
        values = [_value(card.content, key) for card in (first, other)]
        if values[0] != values[1]:
            return f'"{key}" is {values[0]!r} and {values[1]!r}'
    for key in _files:
        if _checksums(first.content.get(key)) != _checksums(other.content.get(key)):
            return f'"{key}" names different files'
    return None


def _value(content: dict[str, Any], key: str) -> Any:
    if key == "context_length":
        runtime = content.get("runtime_config") or {}
        return runtime.get(key) or content.get("architectural_max_context_length")
    return content.get(key) or None


def _checksums(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    own = [str(value["checksum"])] if "checksum" in value else []
    return own + [one for inner in value.values() for one in _checksums(inner)]


def _used_up_limit() -> str | None:
    """Returns which limit keeps this process from watching another folder; None if none does."""
    try:
        create = ctypes.CDLL(None, use_errno=True).inotify_init1
    except AttributeError:  # not Linux
        return None
    descriptor = create(os.O_CLOEXEC)
    if descriptor >= 0:
        os.close(descriptor)
        return None
    if ctypes.get_errno() != errno.EMFILE:
        return None
    try:
        os.close(os.dup(0))
    except OSError as error:
        if error.errno == errno.EMFILE:
            return "this process has no descriptors left; raise the limit with ulimit -n"
    try:
        count = Path("/proc/sys/fs/inotify/max_user_instances").read_text().strip()
    except OSError:
        count = "?"
    return (
        f"this user has no inotify instances left (fs.inotify.max_user_instances is {count}); raise the "
        f"limit with sysctl fs.inotify.max_user_instances=8192"
    )

# SPDX-License-Identifier: Apache-2.0
"""Renders chats as prompts with a model's templates, in a sandboxed child process."""

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any

from dynamo_llm.errors import InvalidRequestError
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline.template_pool import Limits, TemplateSet, pool
from dynamo_llm.runtime.threads import DaemonThreads, in_pool

_log = logging.getLogger("dynamo_llm.template")

#: Maximum number of different warnings logged for one model; requests could cause any number.
_most_warnings = 100
#: Number of prompts for coroutines that are rendered at once; others are queued.
_threads = DaemonThreads(32, "dynamo-template")


class Renderer:
    """Renders the chat templates of a model.

    A template is a program written by the model's author. It runs in a child process, which is killed when it
    takes too much time or memory: see :mod:`dynamo_llm.runtime.pipeline.template_pool`. A template in a
    request is rejected, unless the settings trust it.

    :param sources: templates by name; the standard one is ``default``.
    :param special_tokens: variables passed to every template: ``bos_token``, and so on.
    :param is_prepared: whether to start a worker that compiles the standard template in advance; otherwise
        the first chat starts it.
    :param media: types of parts without text that messages may have, such as ``{"type": "image"}``.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        special_tokens: Mapping[str, Any],
        settings: TemplateSettings,
        is_prepared: bool = True,
        media: Collection[str] = (),
    ) -> None:
        self._sources = sources
        self._settings = settings
        self._limits = Limits(settings.timeout_ms / 1000, settings.memory_mb << 20)
        self._warned: set[str] = set()
        self._set = TemplateSet(sources, special_tokens, media)
        self._is_used = False
        self._lock = threading.Lock()
        if is_prepared and sources and settings.run == "process":
            self._use_pool()

    def _use_pool(self) -> None:
        with self._lock:
            if not self._is_used:
                self._is_used = True
                pool.add_user(self._set)
                weakref.finalize(self, pool.remove_user).atexit = False

    def render(self, body: Mapping[str, Any], is_cancelled: Callable[[], bool] = bool) -> str:
        """Returns the prompt of a chat. Blocks: do not call it on the event loop.

        :param body: OpenAI's request body.
        :param is_cancelled: returns whether the request was cancelled; a slow template is then stopped.
        :raises InvalidRequestError: the body has its own template, which is not trusted; the template rejects
            the messages; or it exceeds a limit.
        :raises NotSupportedError: the template or the library does not support something in the body; or the
            model has no template.
        """
        given = body.get("chat_template")
        if given is not None and given not in self._sources and not self._settings.trusts_requests:
            names = ", ".join(f'"{name}"' for name in sorted(self._sources)) or "none"
            raise InvalidRequestError(
                '"chat_template" of the request is a template, which is a program that the library would '
                'run; to allow that, set "trust_request_chat_template": true in the configuration. Otherwise '
                f'"chat_template" must name a template of the model, which has: {names}'
            )
        if self._settings.run == "host" or (given is None and not self._sources):
            return self._render_here(body)
        self._use_pool()
        text, warnings = pool.fill_in(self._set, body, self._limits, is_cancelled)
        for warning in warnings:
            self._warn(warning)
        return text

    def _render_here(self, body: Mapping[str, Any]) -> str:
        # Imported only here: workers have Jinja, but this process may run without it.
        from dynamo_llm.runtime.pipeline.template import ChatTemplates

        sources, special_tokens, media = self._set.content
        return ChatTemplates(sources, special_tokens, self._warn, media).render(body)

    async def render_in_thread(self, body: Mapping[str, Any]) -> str:
        """Like :meth:`render`, for coroutines. Cancelling the coroutine stops a slow template."""
        has_gone = threading.Event()
        try:
            return await in_pool(self.render, body, has_gone.is_set, pool=_threads)
        except asyncio.CancelledError:
            has_gone.set()
            raise

    def _warn(self, text: str) -> None:
        """Logs each warning only once."""
        if text not in self._warned and len(self._warned) < _most_warnings:
            self._warned.add(text)
            _log.warning("%s", text)

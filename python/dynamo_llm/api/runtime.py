# SPDX-License-Identifier: Apache-2.0
"""An engine with a model, ready for requests."""

import asyncio
import contextlib
import gc
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from dynamo_llm import _core
from dynamo_llm._core import Response
from dynamo_llm.api.duration import milliseconds
from dynamo_llm.api.interrupt import interruptible
from dynamo_llm.api.request import DataRequest, Request
from dynamo_llm.api.result import Completion, Embeddings
from dynamo_llm.errors import DeadlineExceededError

Self = TypeVar("Self", bound="Runtime")


class Runtime:
    """An engine with a model, ready for requests.

    ``Runtime()`` is the embedded default: the demo model on mistral.rs. Creating one blocks, without the
    GIL, until the model is loaded; in a coroutine use :meth:`open`. Any thread and any loop may use it.

    What a runtime that is dropped had in flight goes on to its end; :meth:`close`, or ``with``, cancels it.

    :param config: a dictionary, or its JSON; :func:`dynamo_llm.config_schema` has all keys.
    :param engine: name: ``mistralrs`` (default), ``echo``, ``scripted``, an entry point of the group
        ``dynamo_llm.engines``, or ``module:Class``. This and the following are keys of the
        configuration, and override those of ``config``.
    :param model: folder or file of the model; the engine's default if absent.
    :param options: the engine's own settings.
    :param cluster: ``{"discovery": "etcd", "etcd": [URLs], ...}``: the cluster that the engine ``dynamo``
        sends its requests to.
    :param pipeline: ``off``: token engines get requests without template and tokenizer around them.
    :param name: what requests give as ``model``.
    :param models: several models in place of the above: ``{"name": ..., "engine": ..., "model": ...,
        "options": ...}`` each.
    :param limits: ``{"max_concurrent": requests, "max_queued": requests, "max_tokens": tokens in flight,
        "first_token_ms": milliseconds, "total_ms": milliseconds}``.
    :param stream: ``{"capacity": tokens, "when_full": "block" or "fail"}``: the bound of each stream.
    :param python: ``{"path": [folders]}``, which are put on ``sys.path``.
    :raises DynamoError: those of ``dynamo_runtime_create()``: :class:`~dynamo_llm.InvalidJsonError`,
        :class:`~dynamo_llm.InvalidConfigError`, :class:`~dynamo_llm.EngineNotFoundError`,
        :class:`~dynamo_llm.EngineUnavailableError`, :class:`~dynamo_llm.ModelNotFoundError`, ...
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        engine: str | None = None,
        model: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        cluster: Mapping[str, Any] | None = None,
        pipeline: str | None = None,
        name: str | None = None,
        models: Sequence[Mapping[str, Any]] | None = None,
        limits: Mapping[str, Any] | None = None,
        stream: Mapping[str, Any] | None = None,
        python: Mapping[str, Any] | None = None,
    ) -> None:
        keys = {
            "engine": engine,
            "model": model,
            "options": options,
            "cluster": cluster,
            "pipeline": pipeline,
            "name": name,
            "models": None if models is None else [dict(each) for each in models],
            "limits": limits,
            "stream": stream,
            "python": python,
        }
        text = config_text(config, {key: value for key, value in keys.items() if value is not None})
        self._core = interruptible(partial(_core.Runtime, text))

    @classmethod
    async def open(cls: type[Self], config: Mapping[str, Any] | str | None = None, **keys: Any) -> Self:
        """``Runtime(config, ...)`` for coroutines: the model loads while the caller's loop goes on."""
        return await asyncio.to_thread(partial(cls, config, **keys))

    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        **body: Any,
    ) -> Request[Completion]:
        """Send a chat. Does not wait for the answer.

        :param messages: OpenAI's messages, such as ``{"role": "user", "content": "..."}``; a string is a
            question of the user.
        :param timeout: seconds from now until the end; then :class:`~dynamo_llm.DeadlineExceededError`.
        :param first_token_timeout: seconds from now until something of the answer has come.
        :param body: more keys of OpenAI's body: ``model``, ``max_tokens``, ``temperature``, ``top_p``,
            ``seed``, ``stop``, ``n``, ``tools``, ``response_format``, ... None is as absent. With
            ``stream=False`` the whole answer comes as one response.
        :raises DynamoError: those of ``dynamo_request_create()`` and ``dynamo_request_send()``:
            :class:`~dynamo_llm.InvalidRequestError`, :class:`~dynamo_llm.ClosedError`, ...
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"messages": list(messages), **body}
        return self._send(Request(given(body), Completion, timeout, first_token_timeout))

    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        **body: Any,
    ) -> Request[Completion]:
        """Send a prompt that is taken as it is, without a chat template. Else as :meth:`chat`.

        :param prompt: a text, or token ids.
        """
        body = {"prompt": prompt if isinstance(prompt, str) else list(prompt), **body}
        return self._send(Request(given(body), Completion, timeout, first_token_timeout))

    def embed(
        self,
        input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        timeout: float | None = None,
        **body: Any,
    ) -> Request[Embeddings]:
        """Ask for the embedding of a text, or of several. Else as :meth:`chat`.

        :param input: a text, texts, or the token ids of one or of several.
        :param body: more keys of OpenAI's body: ``model``, ``dimensions``, ``encoding_format``.
        """
        body = {"input": input if isinstance(input, str) else list(input), **body}
        return self._send(Request(given(body), Embeddings, timeout))

    def request(
        self,
        body: Mapping[str, Any],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
    ) -> Request[Any]:
        """Send an OpenAI body as it is: of a chat, completion or embedding.

        Its :meth:`~dynamo_llm.Request.result` is a :class:`Completion`, or :class:`Embeddings`.
        """
        result: Any = Embeddings if "input" in body else Completion
        return self._send(Request(body, result, timeout, first_token_timeout))

    def data(
        self,
        data: Any,
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
    ) -> Request[list[Any]]:
        """Send data to an engine that takes it, in place of an OpenAI body: an endpoint of a cluster, or an
        engine of your own. Its responses have ``items``; :meth:`~dynamo_llm.Request.result` is the list of
        all of them.

        :param data: bytes, or what JSON has: a dictionary, a list, a string, a number, True, None.
        :param timeout: as for :meth:`chat`.
        :param first_token_timeout: seconds from now until the first item.
        :raises NotSupportedError: the engine takes no data; some say so in the answer.
        """
        return self._send(DataRequest(data, _items, timeout, first_token_timeout))

    def _send(self, request: Request[Any]) -> Request[Any]:
        self._core.send(request._core)
        return request

    def shutdown(self, timeout: float | None = None) -> None:
        """Take no more requests, wait for those in flight, then stop the engine; again is fine.

        Blocks, without the GIL, at most for the time-out and 10 seconds more; with requests in flight it
        begins with a ``gc.collect()``.

        :param timeout: seconds until requests in flight are cancelled; None: they may take for ever.
        :raises DeadlineExceededError: some were cancelled, or the engine has not stopped yet.
        """
        wait = milliseconds(timeout, "timeout")
        requests = self.statistics()["requests"]
        if requests["in_flight"] or requests["queued"]:
            # Nobody has them any more, and they would be waited for: requests in reference cycles, such as
            # those of a cancelled task and its error.
            gc.collect()
        interruptible(partial(self._core.shutdown, wait))

    def close(self) -> None:
        """Cancel what is in flight and stop the engine. Blocks, without the GIL, at most for 10 seconds."""
        with contextlib.suppress(DeadlineExceededError):  # that it cancelled requests is what was asked for
            self.shutdown(0)

    def statistics(self) -> dict[str, Any]:
        """Counters since the runtime was created, as ``dynamo_runtime_statistics()`` describes them."""
        counters: dict[str, Any] = json.loads(self._core.statistics())
        return counters

    def models(self) -> list[dict[str, Any]]:
        """What it serves: OpenAI's model objects, with what the engines say of them.

        Keys: ``id`` (what requests give as ``model``), ``engine``, and where known ``path``,
        ``context_length`` in tokens, ``capabilities``, ``adapters``.
        """
        listed: dict[str, Any] = json.loads(self._core.models())
        models: list[dict[str, Any]] = listed["data"]
        return models

    def metrics(self) -> str:
        """Metrics since the runtime was created, in Prometheus' text format (version 0.0.4)."""
        return self._core.metrics()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        statistics = self.statistics()
        return f"<Runtime {statistics['engine']}, {statistics['requests']['in_flight']} requests in flight>"


def _items(responses: Sequence[Response]) -> list[Any]:
    return [item for response in responses for item in response.items]


def given(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is not None."""
    return {key: value for key, value in body.items() if value is not None}


def config_text(config: Mapping[str, Any] | str | None, keys: dict[str, Any]) -> str:
    """A configuration as JSON, with keys that override its own."""
    if isinstance(config, str):
        try:
            parsed = json.loads(config)
        except ValueError:
            return config  # the library says what is wrong
        if not keys or not isinstance(parsed, dict):
            return config
        config = parsed
    return json.dumps({**(config or {}), **keys}, default=os.fspath)


def config_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a runtime's configuration."""
    schema: dict[str, Any] = json.loads(_core.config_schema())
    return schema

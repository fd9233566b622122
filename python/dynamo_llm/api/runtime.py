# SPDX-License-Identifier: Apache-2.0
"""Loads an engine with a model, and sends requests to it."""

import asyncio
import contextlib
import gc
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from dynamo_llm import _core
from dynamo_llm._core import Response
from dynamo_llm.api.creation import Opening, Progress, create_runtime, is_watched
from dynamo_llm.api.handle import Handle, create, without_none
from dynamo_llm.api.interruptible import interruptible
from dynamo_llm.api.json_text import json_text
from dynamo_llm.api.model_response import ModelResponse
from dynamo_llm.api.numbers import milliseconds
from dynamo_llm.api.request import DataRequest, Request
from dynamo_llm.api.result import Completion, Embeddings
from dynamo_llm.api.scores import Classification, Ranking, Scores, answer_class
from dynamo_llm.errors import CancelledError, DeadlineExceededError, InvalidArgumentError
from dynamo_llm.runtime.threads import in_thread

Self = TypeVar("Self", bound="Runtime")


class Runtime(Handle):
    """An engine with a model, ready for requests.

    ``Runtime()`` runs the demo model on mistral.rs. The constructor blocks, without holding the GIL, until
    the model is loaded; in a coroutine use :meth:`open`. Any thread and any asyncio event loop may use a
    runtime.

    :meth:`close`, or the end of a ``with`` block, cancels the requests in flight and waits until the engine
    has stopped. When a runtime is garbage-collected instead, its requests run to their end, then the engine
    is stopped in the background.

    On the library's own event loop, in a coroutine of an engine, blocking methods raise
    :class:`~dynamo_llm.InvalidStateError`; its message names the asynchronous form.

    :param config: a dictionary, or its JSON; :func:`dynamo_llm.config_schema` has all keys.
    :param engine: name of the engine: ``mistralrs`` (default), ``echo``, ``scripted``, an entry point of the
        group ``dynamo_llm.engines``, or ``module:Class``; or ``{"library": PATH}``, a shared library with an
        engine in C. This and the following parameters are keys of the
        configuration, and override those of ``config``.
    :param model: folder or file of the model; or a model of the Hugging Face Hub, ``hf:org/name``,
        ``hf:org/name:Q4_K_M`` (a GGUF quantization), or ``hf:org/name@revision``, which is downloaded unless
        the Hugging Face cache has it; default: the engine's.
    :param offline: whether such a model must be in the cache; default: False, unless the environment variable
        ``HF_HUB_OFFLINE`` is set.
    :param device: where the engine computes: ``auto`` (default: the engine's choice), ``cpu``, ``cuda``,
        ``cuda:1``, ``metal``.
    :param options: the engine's own settings.
    :param cluster: ``{"discovery": "etcd", "etcd": [URLs], ...}``: the cluster that the engine ``dynamo``
        sends its requests to.
    :param pipeline: ``off``: requests go to a token-level engine without chat template and tokenizer.
    :param tool_call_parser: name of the parser of NVIDIA Dynamo, such as ``hermes``, that finds tool calls in
        the answers of a token-level engine; ``off``: none, also for a cluster's model that names one.
    :param reasoning_parser: likewise, of the parser that finds reasoning, such as ``deepseek_r1``.
    :param name: the name that requests give as ``model``.
    :param isolation: ``process``: runs the engine in a child process, so that a crash ends only the child.
    :param isolation_options: ``{"heartbeat_timeout_ms": milliseconds, "engine_library": path, ...}``.
    :param models: several models in place of the above, each ``{"name": ..., "engine": ..., "model": ...,
        "options": ...}``.
    :param limits: ``{"max_concurrent": requests, "max_queued": requests, "max_tokens": tokens in flight,
        "first_token_ms": milliseconds, "total_ms": milliseconds}``.
    :param stream: ``{"capacity": tokens, "when_full": "block" or "fail"}``: bounds each stream.
    :param python: ``{"path": [folders]}``: folders to add to ``sys.path``.
    :param trust_request_chat_template: whether a request may bring its own ``chat_template``, which is a
        program that the library runs; default: False.
    :param templates: ``{"run": "process" or "host", "timeout_ms": milliseconds, "memory_mb": MiB}``: where
        chat templates run, and the limits for one request.
    :param media: ``{"allow_files": [folders], "allow_network": bool, "allow_hosts": [hosts], "max_bytes":
        bytes, "max_parts": count, "timeout_ms": milliseconds}``: what images and audio in requests may be.
    :param progress: called with a :class:`~dynamo_llm.Progress` while the model loads, in the thread that
        calls the constructor. If it raises, the creation is cancelled. Ctrl-C in the main thread cancels it,
        too. In a callback of the C library it raises :class:`~dynamo_llm.InvalidStateError`.
    :raises DynamoError: the errors of ``dynamo_runtime_create()``: :class:`~dynamo_llm.InvalidJsonError`,
        :class:`~dynamo_llm.InvalidConfigError`, :class:`~dynamo_llm.EngineNotFoundError`,
        :class:`~dynamo_llm.EngineUnavailableError`, :class:`~dynamo_llm.ModelNotFoundError`, ...
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | None = None,
        *,
        engine: str | Mapping[str, Any] | None = None,
        model: str | os.PathLike[str] | None = None,
        offline: bool | None = None,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
        cluster: Mapping[str, Any] | None = None,
        pipeline: str | None = None,
        tool_call_parser: str | None = None,
        reasoning_parser: str | None = None,
        name: str | None = None,
        isolation: str | None = None,
        isolation_options: Mapping[str, Any] | None = None,
        models: Sequence[Mapping[str, Any]] | None = None,
        limits: Mapping[str, Any] | None = None,
        stream: Mapping[str, Any] | None = None,
        python: Mapping[str, Any] | None = None,
        trust_request_chat_template: bool | None = None,
        templates: Mapping[str, Any] | None = None,
        media: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> None:
        keys = {
            "engine": engine,
            "model": model,
            "offline": offline,
            "device": device,
            "options": options,
            "cluster": cluster,
            "pipeline": pipeline,
            "tool_call_parser": tool_call_parser,
            "reasoning_parser": reasoning_parser,
            "name": name,
            "isolation": isolation,
            "isolation_options": isolation_options,
            "models": None if models is None else [dict(each) for each in models],
            "limits": limits,
            "stream": stream,
            "python": python,
            "trust_request_chat_template": trust_request_chat_template,
            "templates": templates,
            "media": media,
        }
        construct = partial(create_runtime, progress=progress) if is_watched(progress) else None
        self._core = create(_core.Runtime, config, keys, construct)

    @classmethod
    async def open(
        cls: type[Self],
        config: Mapping[str, Any] | str | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
        **keys: Any,
    ) -> Self:
        """Creates a runtime, from the arguments of the constructor, without blocking the event loop.

        Cancelling the task cancels the creation: the engine is told to stop loading, and what it has loaded
        is freed.

        :param progress: called on the task's event loop, while the model loads. If it raises, the creation is
            cancelled, and this raises the same exception.
        """
        opening = Opening(progress)
        constructor: Any = cls
        try:
            with opening.begin():
                created: Self = await in_thread(partial(constructor, config, **keys))
        except asyncio.CancelledError:
            opening.cancel()
            raise
        except CancelledError:
            if opening.error is not None:
                raise opening.error from None
            raise
        return created

    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        **body: Any,
    ) -> Request[Completion]:
        """Sends a chat. Does not wait for the answer.

        :param messages: OpenAI messages, such as ``{"role": "user", "content": "..."}``; a string is one
            message of the user.
        :param timeout: seconds from now until the request must end; then it fails with
            :class:`~dynamo_llm.DeadlineExceededError`.
        :param first_token_timeout: seconds from now until the first token must have come.
        :param body: more keys of OpenAI's body: ``model``, ``max_tokens``, ``temperature``, ``top_p``,
            ``seed``, ``stop``, ``n``, ``tools``, ``response_format``, ... None means absent. With
            ``stream=False`` the whole answer comes as one response with all choices.
        :raises DynamoError: the errors of ``dynamo_request_create()`` and ``dynamo_request_send()``:
            :class:`~dynamo_llm.InvalidRequestError`, :class:`~dynamo_llm.ClosedError`, ...
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"messages": list(messages), **body}
        return self._send(Request(without_none(body), Completion, timeout, first_token_timeout))

    def complete(
        self,
        prompt: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        **body: Any,
    ) -> Request[Completion]:
        """Sends a prompt as it is, without a chat template. The other parameters are those of :meth:`chat`.

        :param prompt: a text, token ids, or a list of these; each prompt of a list has its choices: choice i
            of prompt p has the index ``p * n + i``.
        """
        body = {"prompt": prompt if isinstance(prompt, str) else list(prompt), **body}
        return self._send(Request(without_none(body), Completion, timeout, first_token_timeout))

    def embed(
        self,
        input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        timeout: float | None = None,
        **body: Any,
    ) -> Request[Embeddings]:
        """Requests the embedding of one or several texts. ``timeout`` is as for :meth:`chat`.

        :param input: a text, a list of texts, the token ids of a text, or a list of those.
        :param body: more keys of OpenAI's body: ``model``, ``dimensions``, ``encoding_format``.
        """
        body = {"input": input if isinstance(input, str) else list(input), **body}
        return self._send(Request(without_none(body), Embeddings, timeout))

    def rerank(
        self, query: str, documents: Sequence[str], *, timeout: float | None = None, **body: Any
    ) -> Request[Ranking]:
        """Ranks documents by their relevance to a query. ``timeout`` is as for :meth:`chat`.

        A model for sequence classification (a cross-encoder) reads the query with each document; with a model
        that makes embeddings, the relevance is the cosine of the angle between theirs.

        :param body: more keys: ``model``, ``top_n`` (how many documents to return), ``return_documents``.
        """
        body = {"query": query, "documents": list(documents), **body}
        return self._send(Request(without_none(body), Ranking, timeout))

    def score(
        self,
        text_1: str | Sequence[str],
        text_2: str | Sequence[str],
        *,
        timeout: float | None = None,
        **body: Any,
    ) -> Request[Scores]:
        """Computes how similar pairs of texts are, as :meth:`rerank` does.

        :param text_1: one text, which is compared with each of ``text_2``; or as many as those.
        """
        sides = {"text_1": text_1, "text_2": text_2}
        lists = {key: side if isinstance(side, str) else list(side) for key, side in sides.items()}
        return self._send(Request(without_none({**lists, **body}), Scores, timeout))

    def classify(
        self,
        input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        timeout: float | None = None,
        **body: Any,
    ) -> Request[Classification]:
        """Classifies one or several texts, with a model for sequence classification. ``timeout`` is as for
        :meth:`chat`.

        :param input: as for :meth:`embed`.
        :param body: more keys: ``model``, ``use_activation`` (False: the model's raw numbers, in place of
            probabilities).
        """
        given = input if isinstance(input, str) else list(input)
        body = {"input": given, "task": "classify", **body}
        return self._send(Request(without_none(body), Classification, timeout))

    def respond(
        self,
        input: str | Sequence[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        **body: Any,
    ) -> Request[ModelResponse]:
        """Sends a body of OpenAI's Responses API, which the engine answers as a chat. The other parameters
        are those of :meth:`chat`.

        :param input: a text of the user, or items: messages, ``function_call``, ``function_call_output``.
        :param body: more keys of OpenAI's body: ``model``, ``instructions``, ``tools``, ``text``,
            ``max_output_tokens``, ... In a stream, ``json()["events"]`` of a response has the events of
            OpenAI's stream.
        """
        given = input if isinstance(input, str) else list(input)
        body = {"input": given, "task": "respond", **body}
        return self._send(Request(without_none(body), ModelResponse, timeout, first_token_timeout))

    def request(
        self,
        body: Mapping[str, Any],
        *,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
    ) -> Request[Any]:
        """Sends a body as it is: of a chat, a completion, an embedding request, or one of the other kinds.

        :meth:`~dynamo_llm.Request.result` of the request is a :class:`Completion`, or :class:`Embeddings` for
        a body with ``input``, whose ``task`` may be ``classify`` (:class:`Classification`) or ``respond``
        (:class:`ModelResponse`); for a body with ``query`` it is a :class:`Ranking`, and for two lists of
        texts :class:`Scores`.
        """
        result: Any = answer_class(body)
        if result is None:
            is_responses = "input" in body and body.get("task") == "respond"
            result = ModelResponse if is_responses else Embeddings if "input" in body else Completion
        return self._send(Request(body, result, timeout, first_token_timeout))

    def data(
        self, data: Any, *, timeout: float | None = None, first_token_timeout: float | None = None
    ) -> Request[list[Any]]:
        """Sends a raw request: a payload in place of an OpenAI body, for a raw engine, such as an endpoint
        of a cluster or an engine of your own. The responses have ``items``, and
        :meth:`~dynamo_llm.Request.result` is the list of all items.

        :param data: the payload: bytes, or a JSON value (dictionary, list, string, number, True, None).
        :param timeout: as for :meth:`chat`.
        :param first_token_timeout: seconds from now until the first item must have come.
        :raises NotSupportedError: the engine does not take raw requests. Some engines raise this only when
            the answer is read.
        """
        return self._send(DataRequest(data, _items, timeout, first_token_timeout))

    def _send(self, request: Request[Any]) -> Request[Any]:
        self._core.send(request._core)
        return request

    def call(self, name: str, /, *, timeout: float | None = None, **arguments: Any) -> Any:
        """Calls a control function of an engine, such as ``load_adapter``, and returns its result. ``calls``
        in :meth:`models` lists the names that the engine has. Blocks without holding the GIL; in a coroutine
        use :meth:`call_async`.

        :param timeout: seconds to wait; None for no limit. The call may take effect nevertheless.
        :param arguments: those of the call, JSON values; None means absent. If the runtime has several
            models, ``model`` names the one that is meant.
        :raises NotSupportedError: the engine does not have this call; the message lists those that it has.
        :raises InvalidRequestError: the engine refuses the arguments.
        :raises DeadlineExceededError: the engine has not answered within the timeout.
        """
        text = json_text(without_none(arguments), "arguments", InvalidArgumentError)
        wait = milliseconds(timeout, "timeout")
        return json.loads(interruptible(partial(self._core.call, name, text, wait)))

    async def call_async(self, name: str, /, *, timeout: float | None = None, **arguments: Any) -> Any:
        """Calls a control function of an engine, as :meth:`call`, without blocking the event loop."""
        return await in_thread(partial(self.call, name, timeout=timeout, **arguments))

    def shutdown(self, timeout: float | None = None) -> None:
        """Refuses new requests, waits for those in flight, then stops the engine. Further calls do nothing.

        Blocks, without holding the GIL, for at most the timeout plus 10 seconds. With requests in flight it
        first calls ``gc.collect()``.

        :param timeout: seconds until requests in flight are cancelled; None for no limit.
        :raises DeadlineExceededError: requests were cancelled, or the engine has not stopped yet.
        """
        wait = milliseconds(timeout, "timeout")
        requests = self.statistics()["requests"]
        if requests["in_flight"] or requests["queued"]:
            # Requests in unreachable reference cycles, such as those of a cancelled task and its error, would
            # otherwise be waited for although nobody can read them.
            gc.collect()
        interruptible(partial(self._core.shutdown, wait))

    def close(self) -> None:
        """Cancels the requests in flight and stops the engine. Blocks, without the GIL, for at most 10 s."""
        with contextlib.suppress(DeadlineExceededError):  # cancelled requests are intended here
            self.shutdown(0)

    def statistics(self) -> dict[str, Any]:
        """Returns counters since the runtime was created; see ``dynamo_runtime_statistics()``."""
        counters: dict[str, Any] = json.loads(self._core.statistics())
        return counters

    def models(self) -> list[dict[str, Any]]:
        """Returns the models that the runtime serves, as OpenAI's model objects with more keys: ``id`` (the
        name that requests give as ``model``), ``engine``, and, if known, ``path``, ``context_length`` in
        tokens, ``capabilities``, ``adapters``, ``request_keys``, ``calls``.
        """
        listed: dict[str, Any] = json.loads(self._core.models())
        models: list[dict[str, Any]] = listed["data"]
        return models

    def metrics(self) -> str:
        """Returns metrics since the runtime was created, in Prometheus' text format (version 0.0.4)."""
        return self._core.metrics()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.close)

    def __repr__(self) -> str:
        statistics = self.statistics()
        return f"<Runtime {statistics['engine']}, {statistics['requests']['in_flight']} requests in flight>"


def _items(responses: Sequence[Response]) -> list[Any]:
    return [item for response in responses for item in response.items]


def config_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a runtime's configuration."""
    schema: dict[str, Any] = json.loads(_core.config_schema())
    return schema

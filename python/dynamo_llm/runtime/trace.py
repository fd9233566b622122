# SPDX-License-Identifier: Apache-2.0
"""Spans of OpenTelemetry, for requests that carry a W3C trace context.

What is done with them is the program's choice: it installs opentelemetry-sdk and sets a tracer provider.
Without opentelemetry-api nothing happens.
"""

from collections.abc import Mapping
from typing import Any

from dynamo_llm.runtime.engine import Chunk, ModelInfo, Usage

# Names of OpenTelemetry's conventions for generative AI, and the body's.
_attributes = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.top_k": "top_k",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.seed": "seed",
    "gen_ai.request.max_tokens": "max_tokens",
}


class Span:
    """The span of one request. One of :meth:`finish` and :meth:`fail` ends it, from any thread.

    :param span: OpenTelemetry's.
    """

    def __init__(self, span: Any) -> None:
        self._span = span
        self._reasons: dict[int, str] = {}

    def enter(self) -> None:
        """Make it the current one, so that an engine's own spans are below it, for as long as the caller's
        context lives: a task's, or a copy.
        """
        from opentelemetry import context, trace

        context.attach(trace.set_span_in_context(self._span))

    def see(self, chunk: Chunk) -> None:
        """Look at a chunk that the caller gets. From any thread."""
        if reason := chunk.get("finish_reason"):
            self._reasons[chunk.get("index", 0)] = reason

    def finish(self, usage: Usage | None) -> None:
        """The answer is whole."""
        if self._reasons:
            reasons = [self._reasons[index] for index in sorted(self._reasons)]
            self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if usage is not None:
            self._span.set_attribute("gen_ai.usage.input_tokens", usage.get("prompt_tokens", 0))
            self._span.set_attribute("gen_ai.usage.output_tokens", usage.get("completion_tokens", 0))
            if "cached_tokens" in usage:
                self._span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage["cached_tokens"])
        self._span.end()

    def fail(self, error: BaseException) -> None:
        """There is no more of the answer; asyncio's CancelledError, too."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", type(error).__qualname__)
        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()


def start(body: Mapping[str, Any], request_id: str, engine: str, info: ModelInfo) -> Span | None:
    """The span of the engine's work on a request, from now on. None if the body has no ``traceparent``, or
    opentelemetry-api is not installed.

    :param body: OpenAI's, with ``traceparent`` and perhaps ``tracestate``.
    :param engine: its name.
    :param info: what it said of its model.
    """
    parent = body.get("traceparent")
    if parent is None:
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return None
    headers = {key: body[key] for key in ("traceparent", "tracestate") if isinstance(body.get(key), str)}
    operation = "chat" if "messages" in body else "embeddings" if "input" in body else "text_completion"
    model = body.get("model") or info.get("path")
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": engine,
        "dynamo_llm.request.id": request_id,
    }
    if model is not None:
        attributes["gen_ai.request.model"] = model
    for name, key in _attributes.items():
        if isinstance(body.get(key), int | float):
            attributes[name] = body[key]
    if isinstance(body.get("max_completion_tokens"), int):
        attributes["gen_ai.request.max_tokens"] = body["max_completion_tokens"]
    if stops := body.get("stop"):
        attributes["gen_ai.request.stop_sequences"] = [stops] if isinstance(stops, str) else list(stops)
    if body.get("n", 1) not in (None, 1):
        attributes["gen_ai.request.choice.count"] = body["n"]
    return Span(
        trace.get_tracer("dynamo_llm").start_span(
            operation if model is None else f"{operation} {model}",
            context=TraceContextTextMapPropagator().extract(headers),
            kind=trace.SpanKind.INTERNAL,
            attributes=attributes,
        )
    )

# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry spans, for requests that carry a W3C trace context.

The program decides where they go: it installs opentelemetry-sdk and sets a tracer provider. Without
opentelemetry-api no spans are created.
"""

from collections.abc import Mapping
from typing import Any

from dynamo_llm.runtime.engine import Chunk, ModelInfo, Usage
from dynamo_llm.runtime.error_report import text_of, traceback_of

#: Attributes of OpenTelemetry's conventions for generative AI, by the body's keys that they are taken from.
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
    """The span of one request. Either :meth:`finish` or :meth:`fail` ends it, in any thread.

    :param span: OpenTelemetry's span.
    """

    def __init__(self, span: Any) -> None:
        self._span = span
        self._reasons: dict[int, str] = {}

    def enter(self) -> None:
        """Makes the span current in the caller's context (a task's, or a copy), so that the engine's own
        spans become its children.
        """
        from opentelemetry import context, trace

        context.attach(trace.set_span_in_context(self._span))

    def record(self, chunk: Chunk) -> None:
        """Records the finish reason of a chunk that was pushed. Any thread."""
        if reason := chunk.get("finish_reason"):
            self._reasons[chunk.get("index", 0)] = reason

    def finish(self, usage: Usage | None) -> None:
        """Ends the span: the answer is complete."""
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
        """Ends the span: the request failed, or was cancelled (asyncio.CancelledError)."""
        from opentelemetry.trace import Status, StatusCode

        message = text_of(error)
        self._span.set_attribute("error.type", type(error).__qualname__)
        # By default OpenTelemetry takes both from the exception, with secrets in them.
        texts = {"exception.message": message, "exception.stacktrace": traceback_of(error)}
        self._span.record_exception(error, texts)
        self._span.set_status(Status(StatusCode.ERROR, message))
        self._span.end()


def start_span(body: Mapping[str, Any], request_id: str, engine: str, info: ModelInfo) -> Span | None:
    """Starts the span of the engine's work on a request.

    :param body: the OpenAI body, with ``traceparent`` and perhaps ``tracestate``.
    :param engine: name of the engine.
    :param info: what the engine reported about its model.
    :returns: None if the body has no ``traceparent`` or opentelemetry-api is not installed.
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

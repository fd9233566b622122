# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry spans around an engine's work."""

import asyncio
import builtins
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dynamo_llm
import pytest
from conftest import engine, run_python

sdk = pytest.importorskip("opentelemetry.sdk.trace")

from dynamo_llm.runtime.span import start_span  # noqa: E402
from opentelemetry import trace as api  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
body = {
    "messages": [],
    "model": "m",
    "traceparent": parent,
    "tracestate": "vendor=1",
    "max_tokens": 5,
    "temperature": 0.5,
    "stop": "x",
    "n": 2,
}


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The process has one tracer provider, which can be set only once."""
    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    api.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """Spans of this test only."""
    exporter.clear()
    yield exporter


def test_a_request(spans: InMemorySpanExporter) -> None:
    """A child of the caller's span, with the attributes of the semantic conventions."""
    span = start_span(body, "req-1", "an-engine", {})
    assert span is not None
    span.record({"text": "a"})
    span.record({"finish_reason": "length", "index": 1})
    span.record({"finish_reason": "stop", "index": 0})
    span.finish({"prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 2})
    (done,) = spans.get_finished_spans()
    assert done.name == "chat m"
    assert done.context.trace_id == int(parent.split("-")[1], 16)
    assert done.parent is not None and done.parent.span_id == int(parent.split("-")[2], 16)
    assert done.parent.trace_state.get("vendor") == "1"
    assert done.status.is_ok or done.status.status_code is api.StatusCode.UNSET
    assert dict(done.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "an-engine",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.finish_reasons": ("stop", "length"),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "dynamo_llm.request.id": "req-1",
    }


@pytest.mark.parametrize("kind", ["Async", "Threaded"])
def test_through_a_runtime(spans: InMemorySpanExporter, kind: str) -> None:
    """A request's traceparent reaches the engine, and the span has the request's result."""
    with dynamo_llm.Runtime(engine(f"tokens:{kind}", options={"say": [410, 326], "cached": 1})) as runtime:
        runtime.complete("hello", n=2, traceparent=parent).result()
        with pytest.raises(dynamo_llm.ContextLengthError):
            runtime.complete("hello", max_tokens=5000, traceparent=parent).result()
    import tokens

    assert tokens.Base.requests[-1].trace == {"traceparent": parent}
    good, bad = spans.get_finished_spans()
    assert good.name.startswith("text_completion ")
    assert good.attributes is not None and bad.attributes is not None
    assert good.attributes["gen_ai.provider.name"] == f"tokens:{kind}"
    assert good.attributes["gen_ai.usage.output_tokens"] == 4
    assert good.attributes["gen_ai.response.finish_reasons"] == ("stop", "stop")
    assert bad.attributes["error.type"] == "ContextLengthError"


def test_step_level_engines(spans: InMemorySpanExporter) -> None:
    """A step-level engine's own spans are children of the request's."""
    with dynamo_llm.Runtime(engine("stepping:Stepping")) as runtime:
        runtime.complete("length:one two", traceparent=parent).result()
        with pytest.raises(dynamo_llm.EngineFailedError):
            runtime.complete("fail:x", traceparent=parent).result()
        runtime.complete("span:x", traceparent=parent).result()
    well, badly, inner, outer = spans.get_finished_spans()
    assert well.attributes is not None and badly.attributes is not None
    assert well.attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert well.attributes["gen_ai.usage.output_tokens"] == 2
    assert badly.attributes["error.type"] == "ValueError"
    assert inner.parent.span_id == outer.context.span_id


def test_mistralrs(spans: InMemorySpanExporter) -> None:
    """Engines without support for traces are traced, too."""
    with dynamo_llm.Runtime() as runtime:
        assert runtime.chat("What is a KV cache?", max_tokens=3, traceparent=parent).result().text
    (done,) = spans.get_finished_spans()
    assert done.attributes is not None
    assert done.attributes["gen_ai.usage.output_tokens"] == 3


def test_the_engines_own_spans(spans: InMemorySpanExporter) -> None:
    """They are children of the request's, on the event loop and in its threads."""
    from dynamo_llm.runtime.pusher import Pusher

    tracer = api.get_tracer("engine")

    async def on_the_loop() -> Any:
        with tracer.start_as_current_span("inner"):
            for chunk in ():
                yield chunk

    def in_a_thread() -> Any:
        with tracer.start_as_current_span("inner"):
            yield from ()

    async def answer() -> None:
        span = start_span(body, "r", "e", {})
        assert span is not None
        span.enter()
        with ThreadPoolExecutor(1) as threads:
            for each in (on_the_loop(), in_a_thread()):
                await Pusher(0, threads).push([each])  # nothing is pushed
        span.finish(None)

    asyncio.run(answer())
    *inner, outer = spans.get_finished_spans()
    assert [span.name for span in inner] == ["inner", "inner"]
    assert all(span.parent.span_id == outer.context.span_id for span in inner)


@pytest.mark.parametrize("error", [ValueError("why"), asyncio.CancelledError()])
def test_a_failure(spans: InMemorySpanExporter, error: BaseException) -> None:
    """The span has the error."""
    span = start_span({**body, "model": None}, "r", "e", {"path": "p"})
    assert span is not None
    span.fail(error)
    (done,) = spans.get_finished_spans()
    assert done.status.status_code is api.StatusCode.ERROR
    assert done.attributes is not None and done.attributes["error.type"] == type(error).__name__
    assert done.name == "chat p"


def test_without_a_parent(spans: InMemorySpanExporter) -> None:
    """A request without a trace context has no span."""
    assert start_span({"prompt": "x"}, "r", "e", {}) is None
    assert spans.get_finished_spans() == ()


def test_without_the_library(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens."""
    real = builtins.__import__

    def no_telemetry(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", no_telemetry)
    assert start_span(body, "r", "e", {}) is None
    assert spans.get_finished_spans() == ()


def test_it_is_imported_only_for_traces() -> None:
    """A program without traces does not load the library."""
    result = run_python(
        "import sys, dynamo_llm.runtime.instance\n"
        "print([name for name in ('opentelemetry', 'tokenizers', 'jinja2') if name in sys.modules])"
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")

# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm bench``: measures how fast a runtime answers."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import click

from dynamo_llm import DynamoError, Runtime
from dynamo_llm.cli import command_group, output, runtime_options
from dynamo_llm.cli.timing import Timing

Body = dict[str, Any]


@click.command()
@runtime_options.options
@click.option("--requests", type=click.IntRange(min=1), default=32, show_default=True, metavar="N")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Requests in flight at the same time.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Length limit of each answer, in tokens.",
)
@click.option("--prompt", metavar="TEXT", default="What is a KV cache?", show_default=True)
@output.json_option("Print the result as JSON.")
@click.pass_context
def bench(
    context: click.Context,
    config: dict[str, Any],
    engine: runtime_options.Engine | None,
    model: str | None,
    requests: int,
    concurrency: int,
    max_tokens: int,
    prompt: str,
    as_json: bool,
) -> None:
    """Send chats with one prompt, and report latency and throughput.

    One more request is sent first, to warm up the engine, and not counted. The exit code is 1 if a request
    failed.
    """
    body = {
        "messages": [{"role": "user", "content": runtime_options.utf8(prompt, "--prompt")}],
        "max_tokens": max_tokens,
    }
    start = perf_counter()
    with output.spinner("Loading the model ...") as show:
        runtime = Runtime(config, engine=engine, model=model, progress=show)
    with runtime:
        load_seconds = perf_counter() - start
        with output.progress("requests", requests) as done:
            result = asyncio.run(_run(runtime, body, requests, concurrency, done))
        report = {"engine": runtime.statistics()["engine"], "load_seconds": load_seconds, **result}
    if as_json:
        output.write_json(report)
    else:
        output.write_line(_text(report))
    if report["failed"]:
        context.exit(command_group.FAILED)


async def _run(
    runtime: Runtime, body: Body, requests: int, concurrency: int, done: Callable[[], None]
) -> dict[str, Any]:
    await _ask(runtime, body)
    timings: list[Timing] = []
    errors: list[DynamoError] = []
    left = iter(range(requests))

    async def keep_one_in_flight() -> None:
        for _ in left:
            try:
                timings.append(await _ask(runtime, body))
            except DynamoError as error:
                errors.append(error)
            done()

    start = perf_counter()
    await asyncio.gather(*(keep_one_in_flight() for _ in range(min(concurrency, requests))))
    return {"concurrency": concurrency, **_report(timings, errors, perf_counter() - start)}


async def _ask(runtime: Runtime, body: Body) -> Timing:
    timing = Timing()
    with runtime.request(body) as request:
        async for response in request:
            timing.note(response)
    timing.end = perf_counter()
    return timing


def _report(timings: list[Timing], errors: list[DynamoError], seconds: float) -> dict[str, Any]:
    usages = [timing.usage for timing in timings if timing.usage is not None]
    # A sum over only some of the requests would be mistaken for the total.
    is_counted = len(usages) == len(timings) > 0
    completion_tokens = sum(usage.completion_tokens for usage in usages) if is_counted else None
    responses = sum(len(timing.arrivals) for timing in timings)
    return {
        "requests": len(timings) + len(errors),
        "failed": len(errors),
        "errors": dict(Counter(f"{error.status_name}: {error.message}" for error in errors)),
        "seconds": seconds,
        "requests_per_second": len(timings) / seconds,
        "prompt_tokens": sum(usage.prompt_tokens for usage in usages) if is_counted else None,
        "cached_tokens": sum(usage.cached_tokens for usage in usages) if is_counted else None,
        "completion_tokens": completion_tokens,
        "completion_tokens_per_second": None if completion_tokens is None else completion_tokens / seconds,
        "responses": responses,
        "tokens_per_response": completion_tokens / responses if completion_tokens and responses else None,
        "time_to_first_response_ms": _percentiles(
            [timing.first for timing in timings if timing.first is not None]
        ),
        "time_between_responses_ms": _percentiles([gap for timing in timings for gap in timing.gaps]),
        "time_to_end_ms": _percentiles([timing.end - timing.start for timing in timings]),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Percentiles in milliseconds, by nearest rank: each is a measured value."""
    ranked = sorted(seconds)
    if not ranked:
        return None
    return {f"p{percent}": ranked[math.ceil(len(ranked) * percent / 100) - 1] * 1000 for percent in (50, 99)}


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{key.replace('_', ' '):28} {_shown(value)}" for key, value in report.items() if key != "errors"
    ]
    lines += [f"{count} failed with {error}" for error, count in report["errors"].items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:.2f}" for name, number in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)

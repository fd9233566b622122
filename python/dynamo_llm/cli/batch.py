# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm batch``: answers a file of requests."""

import signal
import threading
from typing import Any

import click

from dynamo_llm import Batch, BatchReport, Runtime
from dynamo_llm.cli import command_group, output, runtime_options

#: Seconds between two checks for signals.
_interval = 0.1


class _Signals:
    """Collects SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _frame: self.numbers.append(received))


@click.command()
@runtime_options.options
@click.option(
    "--max-concurrency",
    type=click.IntRange(min=1, max=4096),
    default=64,
    show_default=True,
    metavar="N",
    help="Requests in flight at the same time.",
)
@output.json_option("Print the summary as JSON.")
@click.argument("source", metavar="IN.jsonl")
@click.argument("target", metavar="OUT.jsonl")
@click.pass_context
def batch(
    context: click.Context,
    config: dict[str, Any],
    engine: str | None,
    model: str | None,
    max_concurrency: int,
    source: str,
    target: str,
    as_json: bool,
) -> None:
    """Answer the requests of IN, and write the results to OUT, both in OpenAI's batch format.

    If OUT exists, it is continued: lines that it answers are skipped, failed ones are sent again. After
    Ctrl-C the requests in flight run to their end; pressing Ctrl-C again cancels them.

    The exit code is 1 if a line failed.
    """
    with Batch(source, target) as lines:
        with output.spinner("Loading the model ...") as show:
            runtime = Runtime(config, engine=engine, model=model, progress=show)
        with runtime:
            signals = _Signals()
            report = _run(lines, runtime, max_concurrency, signals)
    if as_json:
        output.write_json(_json(report))
    else:
        for problem in report.problems:
            output.write_error(problem)
        if report.failed > len(report.problems):
            output.write_error(f"{report.failed - len(report.problems)} more lines failed")
        output.write_line(_text(report))
    if not report.is_complete:
        context.exit(128 + signals.numbers[0])
    if report.failed:
        context.exit(command_group.FAILED)


def _run(lines: Batch, runtime: Runtime, max_concurrency: int, signals: _Signals) -> BatchReport:
    """Runs the batch in a thread, so that signals are handled at once."""
    reports: list[BatchReport] = []
    problems: list[BaseException] = []

    with output.byte_progress(lines.input_bytes) as advance:

        def work() -> None:
            try:
                reports.append(
                    lines.run(
                        runtime,
                        max_concurrency=max_concurrency,
                        on_line=lambda size, report: advance(size, _short(report)),
                    )
                )
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=work, name="batch")
        thread.start()
        has_stopped = False
        while thread.is_alive():
            thread.join(_interval)
            if signals.numbers and not has_stopped:
                has_stopped = True
                lines.stop()
                if count := lines.in_flight:
                    what = "request" if count == 1 else "requests"
                    click.echo(f"{count} {what} in flight. Press Ctrl-C again to cancel.", err=True)
            if len(signals.numbers) > 1:
                lines.cancel()
    if problems:
        raise problems[0]
    return reports[0]


def _short(report: BatchReport) -> str:
    failed = f", {report.failed} failed" if report.failed else ""
    return f"{report.done} done{failed}, {report.tokens_per_second:.0f} tokens/s"


def _text(report: BatchReport) -> str:
    skipped = f", {report.skipped} skipped" if report.skipped else ""
    stopped = "" if report.is_complete else "stopped: "
    tokens = f"{report.prompt_tokens} prompt tokens, {report.completion_tokens} completion tokens"
    rate = f"{report.tokens_per_second:.1f} tokens/s in {report.seconds:.2f} s"
    return f"{stopped}{report.done} done, {report.failed} failed{skipped}; {tokens}, {rate}"


def _json(report: BatchReport) -> dict[str, Any]:
    return {
        "done": report.done,
        "failed": report.failed,
        "skipped": report.skipped,
        "prompt_tokens": report.prompt_tokens,
        "completion_tokens": report.completion_tokens,
        "tokens_per_second": report.tokens_per_second,
        "seconds": report.seconds,
        "is_complete": report.is_complete,
        "problems": report.problems,
    }

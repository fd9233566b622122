# SPDX-License-Identifier: Apache-2.0
"""Formats the results of the benchmarks as tables and plots.

``python benchmarks/report.py docs/performance.md`` draws the plots of a page again, from its tables.
"""

import math
import os
import platform
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import plot

Results = dict[str, Any]


def machine() -> dict[str, Any]:
    """Describes the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        model = found[1]
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cell(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"


def table_of_ratios(results: Results) -> list[str]:
    """Formats the ratios of medians and their intervals, unpinned and on one CPU, in Markdown."""
    lines = [
        "| ratio | what is compared | unpinned | on one CPU | floor | goal |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, ratio in results["ratios"].items():
        if "unit" in ratio:
            continue  # shown in a separate table
        floor, aim = (f"{ratio[key]:g}" if ratio[key] else "" for key in ("floor", "aim"))
        cells = [f"`{name}`", ratio["what"], _cell(ratio), _cell(ratio.get("pinned")), floor, aim]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _amount(number: float, unit: str) -> str:
    """Formats a number with three significant digits and no exponent."""
    digits = max(0, 2 - math.floor(math.log10(number)))
    return f"{float(f'{number:.3g}'):,.{digits}f} {unit}"


def table_of_isolation(results: Results) -> list[str]:
    """Formats medians in process and isolated, and the ratio of the speeds as in the other table, in
    Markdown.
    """
    lines = [
        "| ratio | what | in process | isolated | unpinned | on one CPU |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, ratio in results["ratios"].items():
        if "unit" in ratio:
            amounts = [_amount(ratio[key], ratio["unit"]) for key in ("in_process", "isolated")]
            cells = [f"`{name}`", ratio["what"], *amounts, _cell(ratio), _cell(ratio.get("pinned"))]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


#: Key, label, factor, and unit of each value in the table.
_shown: list[tuple[str, str, float, str]] = [
    ("send_p50_us", "`dynamo_request_send()`, median", 1, "µs"),
    ("send_p99_us", "`dynamo_request_send()`, 99th percentile", 1, "µs"),
    ("round_trip_p50_us", "one-token request and its answer, median", 1, "µs"),
    ("round_trip_p99_us", "one-token request and its answer, 99th percentile", 1, "µs"),
    ("cancel_queue_p99_ms", "cancel while queued, 99th percentile", 1, "ms"),
    ("cancel_prefill_p99_ms", "cancel before the first token, 99th percentile", 1, "ms"),
    ("cancel_decode_p99_ms", "cancel after the first token, 99th percentile", 1, "ms"),
    ("ttft_library_ms", "time to first token (TTFT) of mistral.rs through the library, median", 1, "ms"),
    ("ttft_native_ms", "TTFT of mistral.rs's own Python API, median", 1, "ms"),
    ("start_cold_ms", "C program, startup to first token, cold", 1, "ms"),
    ("start_python_cold_ms", "Python program, startup to first token, cold", 1, "ms"),
    ("start_warm_ms", "C program, startup to first token, warm", 1, "ms"),
    ("start_python_warm_ms", "Python program, startup to first token, warm", 1, "ms"),
    ("stream_bytes", "memory of an idle stream, in addition to Python's own", 1, "bytes"),
    ("stream_python_bytes", "memory of a Python task and generator", 1, "bytes"),
    ("streams_10k_bytes", "total memory of 10,000 idle streams", 2**-20, "MiB"),
    ("runtime_bytes", "memory of a runtime, including the interpreter", 2**-20, "MiB"),
    ("library_file_bytes", "`libdynamo_llm_capi.so`", 2**-20, "MiB"),
    ("module_file_bytes", "the Python module", 2**-20, "MiB"),
]


def table_of_values(results: Results) -> list[str]:
    """Formats the values in Markdown."""
    lines = ["| measurement | | |", "|---|--:|---|"]
    for key, what, factor, unit in _shown:
        if key in results["values"]:
            lines.append(f"| {what} | {results['values'][key] * factor:,.4g} | {unit} |")
    return lines


def table_of_costs(results: Results) -> list[str]:
    """Formats the cost per request for each number of requests in flight, in Markdown."""
    cost = results["values"]["cost"]
    head = " | ".join(f"{count:,}" for count in cost["in_flight"])
    row = " | ".join(f"{us:.3g}" for us in cost["us_per_request"])
    return [
        f"| in flight | {head} |",
        "|---|" + "--:|" * len(cost["in_flight"]),
        f"| µs per request | {row} |",
    ]


def write_page(page: Path, results: Results, tables: Collection[str]) -> None:
    """Replaces these tables between the page's markers."""
    text = page.read_text(encoding="utf-8")
    about = results["machine"]
    seconds = results["seconds"]
    duration = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    where = (
        f"{about['cpu']}, {about['cpus']} CPUs, CPython {about['python']}, Linux {about['kernel']}; "
        f"{results['mode']} run of {duration}."
    )
    parts: dict[str, Callable[[], list[str]]] = {
        "ratios": lambda: [where, "", *table_of_ratios(results)],
        "isolation": lambda: [where, "", *table_of_isolation(results)],
        "values": lambda: table_of_values(results),
        "costs": lambda: table_of_costs(results),
    }
    for name in tables:
        lines = parts[name]()
        begin, end = f"<!-- begin table: {name} -->\n", f"<!-- end table: {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{page} has no markers for the table {name}")
        text = before + begin + "\n".join(lines) + "\n" + end + after
    page.write_text(text, encoding="utf-8")


def _draw_ratios(file: Path, results: Results) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    names = [name for name, ratio in results["ratios"].items() if ratio["floor"]]
    figure, axes = plot.subplots(figsize=(7, 0.38 * len(names) + 1.2))
    for row, name in enumerate(reversed(names)):
        ratio = results["ratios"][name]
        for shift, one, color in ((0.13, ratio, plot.blue), (-0.13, ratio.get("pinned"), plot.orange)):
            if one is None:
                continue
            scale = ratio["floor"]
            low, middle, high = (one[key] / scale for key in ("low", "median", "high"))
            axes.plot([low, high], [row + shift] * 2, color=color, linewidth=2)
            axes.plot(middle, row + shift, "o", color=color, markersize=5)
        axes.plot(ratio["aim"] / ratio["floor"], row, "|", color=plot.green, markersize=13, markeredgewidth=2)
    axes.axvline(1, color=plot.ink, linewidth=1)
    axes.set_yticks(
        range(len(names)), [f"{name} ({results['ratios'][name]['floor']:g})" for name in reversed(names)]
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("ratio, as a multiple of its floor (in parentheses)")
    axes.plot([], [], "o-", color=plot.blue, label="unpinned")
    axes.plot([], [], "o-", color=plot.orange, label="on one CPU")
    axes.plot([], [], "|", color=plot.green, markersize=12, markeredgewidth=2, label="goal")
    axes.legend(loc="upper right")
    axes.grid(axis="x", alpha=0.3)
    plot.save(figure, file)


def _draw_costs(file: Path, results: Results) -> None:
    cost = results["values"]["cost"]
    figure, axes = plot.subplots(figsize=(6, 3.6))
    axes.loglog(cost["in_flight"], cost["us_per_request"], "o-", color=plot.blue)
    axes.set_ylim(bottom=1)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("requests in flight")
    axes.set_ylabel("µs per one-token request")
    axes.grid(which="both", alpha=0.3)
    plot.save(figure, file)


def draw(folder: Path, results: Results, tables: Collection[str] = ("ratios", "costs")) -> None:
    """Draws the plots (SVG) for these tables, if there are results for them."""
    if "ratios" in tables and any(ratio["floor"] for ratio in results["ratios"].values()):
        _draw_ratios(folder / "performance-ratios.svg", results)
    if "costs" in tables and "cost" in results["values"]:
        _draw_costs(folder / "performance-costs.svg", results)


def _ratio(cell: str) -> dict[str, float] | None:
    numbers = map(float, re.findall(r"[\d.e+]+", cell))
    return dict(zip(("median", "low", "high"), numbers, strict=True)) if cell else None


def read_page(page: Path) -> Results:
    """Reads what the plots show from the tables of a page."""
    text = page.read_text(encoding="utf-8")
    ratios = {}
    for row in text.partition("<!-- end table: ratios -->")[0].splitlines():
        if row.startswith("| `"):
            name, _, unpinned, pinned, floor, aim = (cell.strip() for cell in row.strip("|").split("|"))
            ratio = {**(_ratio(unpinned) or {}), "pinned": _ratio(pinned)}
            ratios[name.strip("`")] = ratio | {"floor": float(floor or 0), "aim": float(aim or 0)}
    rows = {
        row.split(" | ")[0]: row.strip("| ").split(" | ")[1:] for row in text.splitlines() if " | " in row
    }
    cost = {
        "in_flight": [int(count.replace(",", "")) for count in rows["| in flight"]],
        "us_per_request": [float(us) for us in rows["| µs per request"]],
    }
    return {"ratios": ratios, "values": {"cost": cost}}


if __name__ == "__main__":
    given = Path(sys.argv[1])
    draw(given.resolve().parent, read_page(given))

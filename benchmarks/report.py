# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks say, as tables and pictures."""

import os
import platform
import re
from pathlib import Path
from typing import Any

Results = dict[str, Any]


def machine() -> dict[str, Any]:
    """Where it was measured."""
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
    """In Markdown: the ratio of medians and its interval, unpinned and on one CPU."""
    lines = [
        "| ratio | what | free | on one CPU | floor | aim |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, ratio in results["ratios"].items():
        floor, aim = (f"{ratio[key]:g}" if ratio[key] else "" for key in ("floor", "aim"))
        cells = [f"`{name}`", ratio["what"], _cell(ratio), _cell(ratio.get("pinned")), floor, aim]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


#: Keys of the values, and how the table shows them.
_shown: list[tuple[str, str, float, str]] = [
    ("send_p50_us", "`dynamo_request_send()`, median", 1, "µs"),
    ("send_p99_us", "`dynamo_request_send()`, 99th percentile", 1, "µs"),
    ("round_trip_p50_us", "request of one token and back, median", 1, "µs"),
    ("round_trip_p99_us", "request of one token and back, 99th percentile", 1, "µs"),
    ("cancel_queue_p99_ms", "cancel while it waits in the queue, 99th percentile", 1, "ms"),
    ("cancel_prefill_p99_ms", "cancel before the first token, 99th percentile", 1, "ms"),
    ("cancel_decode_p99_ms", "cancel after it, 99th percentile", 1, "ms"),
    ("ttft_library_ms", "TTFT of mistral.rs through the library, median", 1, "ms"),
    ("ttft_native_ms", "TTFT of mistral.rs's own Python API, median", 1, "ms"),
    ("start_cold_ms", "C program from its start to its first token, cold", 1, "ms"),
    ("start_python_cold_ms", "Python program that does the same, cold", 1, "ms"),
    ("start_warm_ms", "C program from its start to its first token, warm", 1, "ms"),
    ("start_python_warm_ms", "Python program that does the same, warm", 1, "ms"),
    ("stream_bytes", "memory of a stream that waits, beyond Python's own", 1, "bytes"),
    ("stream_python_bytes", "memory of a task and a generator of Python's", 1, "bytes"),
    ("streams_10k_bytes", "memory of 10,000 streams that wait, all in all", 2**-20, "MiB"),
    ("runtime_bytes", "memory of a runtime, the interpreter included", 2**-20, "MiB"),
    ("library_file_bytes", "`libdynamo_llm_capi.so`", 2**-20, "MiB"),
    ("module_file_bytes", "the Python module", 2**-20, "MiB"),
]


def table_of_values(results: Results) -> list[str]:
    """In Markdown."""
    lines = ["| what | | |", "|---|--:|---|"]
    for key, what, factor, unit in _shown:
        if key in results["values"]:
            lines.append(f"| {what} | {results['values'][key] * factor:,.4g} | {unit} |")
    return lines


def table_of_costs(results: Results) -> list[str]:
    """In Markdown: the cost of a request as more are in flight."""
    cost = results["values"]["cost"]
    head = " | ".join(f"{count:,}" for count in cost["in_flight"])
    row = " | ".join(f"{us:.3g}" for us in cost["us_per_request"])
    return [
        f"| in flight | {head} |",
        "|---|" + "--:|" * len(cost["in_flight"]),
        f"| µs for each request | {row} |",
    ]


def write_page(page: Path, results: Results) -> None:
    """Put the tables where the page has marks for them."""
    text = page.read_text(encoding="utf-8")
    about = results["machine"]
    where = (
        f"{about['cpu']}, {about['cpus']} CPUs, CPython {about['python']}, Linux {about['kernel']}; "
        f"{results['mode']} run of {results['seconds'] / 60:.0f} minutes."
    )
    parts = {
        "ratios": [where, "", *table_of_ratios(results)],
        "values": table_of_values(results),
        "costs": table_of_costs(results),
    }
    for name, lines in parts.items():
        begin, end = f"<!-- begin table: {name} -->\n", f"<!-- end table: {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{page} has no marks for the table {name}")
        text = before + begin + "\n".join(lines) + "\n" + end + after
    page.write_text(text, encoding="utf-8")


def draw(folder: Path, results: Results) -> list[Path]:
    """Pictures (PNG) of the ratios and of the costs; their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    files = []
    names = [name for name, ratio in results["ratios"].items() if ratio["floor"]]
    figure, axes = pyplot.subplots(figsize=(9, 0.45 * len(names) + 1.4), layout="constrained")
    for row, name in enumerate(reversed(names)):
        ratio = results["ratios"][name]
        for shift, one, colour in ((0.13, ratio, "tab:blue"), (-0.13, ratio.get("pinned"), "tab:orange")):
            if one is None:
                continue
            scale = ratio["floor"]
            low, middle, high = (one[key] / scale for key in ("low", "median", "high"))
            axes.plot([low, high], [row + shift] * 2, color=colour, linewidth=2)
            axes.plot(middle, row + shift, "o", color=colour, markersize=5)
        axes.plot(
            ratio["aim"] / ratio["floor"], row, "|", color="tab:green", markersize=16, markeredgewidth=2
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(
        range(len(names)), [f"{name} ({results['ratios'][name]['floor']:g})" for name in reversed(names)]
    )
    axes.set_xscale("log")
    axes.set_xlabel("ratio, as a multiple of its floor (in brackets)")
    axes.plot([], [], "o-", color="tab:blue", label="free")
    axes.plot([], [], "o-", color="tab:orange", label="on one CPU")
    axes.plot([], [], "|", color="tab:green", markersize=12, markeredgewidth=2, label="aim")
    axes.legend(loc="lower right")
    axes.grid(axis="x", alpha=0.3)
    files.append(folder / "performance-ratios.png")
    figure.savefig(files[-1], dpi=110)
    pyplot.close(figure)

    cost = results["values"].get("cost")
    if cost is not None:
        figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
        axes.loglog(cost["in_flight"], cost["us_per_request"], "o-", color="tab:blue")
        axes.set_ylim(bottom=1)
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("µs for each request of one token")
        axes.grid(which="both", alpha=0.3)
        files.append(folder / "performance-costs.png")
        figure.savefig(files[-1], dpi=110)
        pyplot.close(figure)
    return files

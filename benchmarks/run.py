# SPDX-License-Identifier: Apache-2.0
"""Measures the library against the alternatives that its users have.

    python benchmarks/run.py --json results.json            about 7 minutes
    python benchmarks/run.py --quick --json results.json    under 3
    python benchmarks/run.py --only drain_1_flat --only c_to_c
    python benchmarks/run.py --only isolation --page docs/performance.md

Both sides of each pair are measured in turns in one run, unpinned and with both sides on one CPU. A ratio is
that of the medians, with the 95 % interval of a bootstrap over the pairs; over 1, the library is faster.
Needs gcc, and for some pairs libcurl, the packages in benchmarks/requirements.txt, and the extra dynamo. If
one of these is missing, it is named, and the ratio is omitted.

The JSON is {"machine": {...}, "ratios": {NAME: {"median", "low", "high", "runs", "floor", "aim", "what",
"pinned": {"median", "low", "high", "runs"}}}, "values": {...}, "left_out": {NAME: why}, "mode", "seconds"}.
Ratios of isolation also have "unit", "isolated" and "in_process", the medians of the unpinned measurement.
--page writes the tables into a page that has markers for them, and the plots next to the page. With --only,
it writes only the tables whose rows were all measured, and leaves the others unchanged.
"""

import argparse
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from bench import Bench
from isolation import absolute, isolation_pairs
from pairs import Pair, more_pairs, pairs
from programs import Programs
from ratio import ratio_of_medians
from report import draw, machine, table_of_isolation, table_of_ratios, table_of_values, write_page
from values import measure_values, send_busy_gil

all_pairs = [*pairs, *more_pairs, *isolation_pairs]
isolation_names = [pair.name for pair in isolation_pairs]

#: The tables of a page, and the measurements that all their rows need.
tables = {
    "ratios": {"send_busy_gil", *(pair.name for pair in (*pairs, *more_pairs))},
    "isolation": set(isolation_names),
    "values": {"values", "engine_native"},
    "costs": {"values"},
}


def missing(name: str) -> str | None:
    """Returns what a pair needs but this machine lacks."""
    if shutil.which("gcc") is None:
        return "needs gcc"
    if name.startswith(("http", "frontend")) and shutil.which("curl-config") is None:
        return "needs libcurl (Debian: libcurl4-openssl-dev)"
    if name.startswith("http"):
        for package in ("uvicorn", "uvloop", "httptools", "starlette"):
            if importlib.util.find_spec(package) is None:
                return f"needs the Python package {package}: pip install -r benchmarks/requirements.txt"
    if name.startswith(("cluster", "frontend", "router")) and importlib.util.find_spec("dynamo") is None:
        return "needs the extra dynamo: pip install '.[dynamo]'"
    if name.startswith("frontend") and importlib.util.find_spec("dynamo.frontend") is None:
        return "needs Dynamo's frontend: pip install --no-deps 'ai-dynamo>=1.6.1,<1.8'"
    return None


def say(text: str) -> None:
    """Reports progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def measure_pair(bench: Bench, pair: Pair) -> dict[str, Any]:
    """Measures one ratio, unpinned and on one CPU."""
    measured = pair.run(bench, False)
    result: dict[str, Any] = ratio_of_medians(*measured)
    result |= {"floor": pair.floor, "aim": pair.aim, "what": pair.what}
    if pair.unit:
        result |= absolute(pair, measured)
    if pair.pins and shutil.which("taskset"):
        result["pinned"] = ratio_of_medians(*pair.run(bench, True))
    return result


def main() -> int:
    """Measures, and writes the results."""
    parser = argparse.ArgumentParser(
        description="Measures the library against what its users would use instead."
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--smoke", action="store_true", help="a moment each: that it works, not how fast")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--page", type=Path, help="page whose tables are written, with pictures beside it")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a ratio, isolation, or values"
    )
    given = parser.parse_args()
    known = [pair.name for pair in all_pairs] + ["send_busy_gil", "isolation", "values"]
    for name in given.only:
        if name not in known:
            parser.error(f"there is no {name!r}; there are {', '.join(known)}")
    wanted = set(given.only or known)
    if "isolation" in wanted:
        wanted.update(isolation_names)
    whole = [table for table, rows in tables.items() if rows <= wanted]
    if given.page and not whole:
        parser.error("--page writes whole tables, but --only selects only part of each")

    results: dict[str, Any] = {"machine": machine(), "ratios": {}, "values": {}, "left_out": {}}
    begin = time.monotonic()
    mode = "smoke" if given.smoke else "quick" if given.quick else "whole"
    rounds, scale = {"smoke": (1, 0.01), "quick": (5, 0.4), "whole": (11, 1.0)}[mode]
    bench = Bench(Programs(), rounds, scale)
    try:
        for pair in all_pairs:
            if pair.name not in wanted:
                continue
            if why := missing(pair.name):
                results["left_out"][pair.name] = why
                say(f"{pair.name}: {why}")
                continue
            since = time.monotonic()
            results["ratios"][pair.name] = one = measure_pair(bench, pair)
            pinned = one.get("pinned", {}).get("median")
            on_one = "" if pinned is None else f", on one CPU {pinned:.3g}"
            say(f"{pair.name}: {one['median']:.3g}{on_one} ({time.monotonic() - since:.0f} s)")
        if "send_busy_gil" in wanted:
            ratio, printed = send_busy_gil(bench)
            what = "a send with a busy Python thread, 99th percentile; vs. taking the GIL"
            results["ratios"]["send_busy_gil"] = {**ratio, "floor": 200, "aim": 1000, "what": what}
            results["values"]["send_busy"] = printed
            say(f"send_busy_gil: {ratio['median']:.3g}")
        if "values" in wanted:
            results["values"] |= measure_values(bench)
    finally:
        bench.programs.close()
    results["values"] |= bench.notes
    results["mode"] = mode
    results["seconds"] = round(time.monotonic() - begin, 1)
    if wanted - {"isolation", *isolation_names}:
        print("\n".join([*table_of_ratios(results), ""]))
    if wanted.intersection(isolation_names):
        print("\n".join([*table_of_isolation(results), ""]))
    if "values" in wanted:
        print("\n".join(table_of_values(results)))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        draw(given.json.resolve().parent, results)
    if given.page:
        write_page(given.page, results, whole)
        draw(given.page.resolve().parent, results, whole)
    return 0


if __name__ == "__main__":
    sys.exit(main())

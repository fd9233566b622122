# SPDX-License-Identifier: Apache-2.0
"""Tests whether memory, descriptors, and threads stay constant for hours under a mixed load.

    python benchmarks/soak.py --minutes 30 --json soak.json --plot soak.svg

Samples memory (RSS), descriptors, and threads of this process every second while soak_load.py uses the
library in many threads. The first fifth is ignored, because caches fill, pools start their threads, and
each thread creates its heap. With the default pause this takes six minutes, so a run of 10 minutes is too
short to be flat. Freed memory that the C library retains is released before each sample (malloc_trim),
because it is not a leak. glibc is limited to two heaps for all threads, because each heap takes minutes to
reach its maximum size.

The JSON has "slopes": {"rss_bytes_per_min", "fds", "threads"}, each with "value", "low", and "high"
(slope.py: a 95 % interval), per minute; "is_flat"; "unexpected", the unexpected events; "counts", the actions
of the load; "samples". The exit status is 1 if something unexpected happened or a slope is above zero by more
than its error.
"""

import argparse
import ctypes
import gc
import json
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import plot
import psutil
from slope import is_flat, slope
from soak_load import Load, parts

#: Name in the JSON, key in a sample, title of its plot, and unit in the plot.
series = [
    ("rss_bytes_per_min", "rss", "resident memory", 2**20, "MiB"),
    ("fds", "fds", "file descriptors", 1, "descriptors"),
    ("threads", "threads", "threads", 1, "threads"),
]
warm_up = 0.2
#: On a machine so busy that samples take long, a run lasts until it has as many: slopes need half of them.
fewest_samples = 40


def keep_to_two_heaps() -> None:
    """Limits glibc, which creates up to eight heaps for each processor, to two. Has no effect with other
    libraries.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX in glibc's malloc.h


def leak(what: str) -> Any:
    """Leaks something on purpose: a MiB, a descriptor, or a thread."""
    if what == "fds":
        return open("/dev/null")
    if what == "threads":
        thread = threading.Thread(target=threading.Event().wait, daemon=True)
        thread.start()
        return thread
    return bytearray(b"x" * 2**20)


def watch(minutes: float, interval: float, planted: str | None) -> list[dict[str, float]]:
    """Samples the resources of this process at the given interval, in seconds."""
    process = psutil.Process()
    trim = None
    with suppress(OSError, AttributeError):
        trim = ctypes.CDLL(None).malloc_trim  # only in glibc
    begin = time.monotonic()
    # Allocated in advance: an array that grows with the samples would look like a leak.
    looks = np.ones((max(int(minutes * 60 / interval) + 1, fewest_samples), 4))
    count = 0
    leaked = []
    while count < len(looks):
        now = time.monotonic() - begin
        if now >= minutes * 60 and count >= fewest_samples:
            break
        if planted:
            leaked.append(leak(planted))
        gc.collect()
        if trim is not None:
            trim(0)
        looks[count] = now / 60, process.memory_info().rss, process.num_fds(), process.num_threads()
        count += 1
        time.sleep(interval)
    return [
        dict(zip(("minute", "rss", "fds", "threads"), look, strict=True)) for look in looks[:count].tolist()
    ]


def draw(samples: list[dict[str, float]], slopes: dict[str, dict[str, float]], path: Path) -> None:
    """Plots the three series over time, each with its fitted line."""
    minutes = [sample["minute"] for sample in samples]
    begin = minutes[-1] * warm_up
    figure, all_axes = plot.subplots(len(series), 1, sharex=True, figsize=(7, 7))
    for axes, (name, key, title, scale, unit) in zip(all_axes, series, strict=True):
        values = [sample[key] / scale for sample in samples]
        axes.plot(minutes, values, linewidth=0.8, color=plot.blue)
        counted = [(at, value) for at, value in zip(minutes, values, strict=True) if at >= begin]
        middle = sum(at for at, _ in counted) / len(counted)
        mean = sum(value for _, value in counted) / len(counted)
        found = slopes[name]
        ends = [begin, minutes[-1]]
        axes.plot(ends, [mean + (at - middle) * found["value"] / scale for at in ends], color=plot.red)
        axes.fill_between(
            ends,
            [mean + (at - middle) * found["low"] / scale for at in ends],
            [mean + (at - middle) * found["high"] / scale for at in ends],
            color=plot.red,
            alpha=0.2,
        )
        axes.axvspan(0, begin, color=plot.ink, alpha=0.1)
        per_minute = [found[end] / scale for end in ("value", "low", "high")]
        axes.set_title(
            "{}: {:+.3f} {} a minute ({:+.3f} to {:+.3f})".format(title, per_minute[0], unit, *per_minute[1:])
        )
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
    all_axes[-1].set_xlabel("minutes; gray: not counted")
    plot.save(figure, path)


def main() -> int:
    """Runs the soak test. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="where a picture (SVG) goes; needs matplotlib"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the load's choices (default: 1)")
    parser.add_argument(
        "--pause", type=float, default=0.01, help="seconds between two things that a thread does"
    )
    parser.add_argument("--only", choices=parts, action="append", help="a part of the load; again for more")
    parser.add_argument("--interval", type=float, default=1, help="seconds between two looks (default: 1)")
    parser.add_argument(
        "--leak",
        choices=["rss", "fds", "threads"],
        help="leak one (of memory: a MiB) at each look, to see it found",
    )
    options = parser.parse_args()
    keep_to_two_heaps()
    with Load(options.seed, options.pause, options.only) as load:
        samples = watch(options.minutes, options.interval, options.leak)
    counted = [sample for sample in samples if sample["minute"] >= samples[-1]["minute"] * warm_up]
    minutes = [sample["minute"] for sample in counted]
    slopes = {name: slope(minutes, [sample[key] for sample in counted]) for name, key, *_ in series}
    result = {
        "minutes": options.minutes,
        "seed": options.seed,
        "counts": dict(load.counts),
        "unexpected": load.unexpected,
        "slopes": slopes,
        "is_flat": {name: is_flat(found) for name, found in slopes.items()},
        "samples": samples,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        draw(samples, slopes, options.plot)
    for name, _, _, scale, unit in series:
        value, low, high = (slopes[name][end] / scale for end in ("value", "low", "high"))
        print(f"{name}: {value:+.3f} {unit} a minute ({low:+.3f} to {high:+.3f})")
    print(", ".join(f"{count} {what}" for what, count in sorted(load.counts.items())))
    for what in load.unexpected:
        print(f"unexpected: {what}")
    return int(bool(load.unexpected) or not all(result["is_flat"].values()))


if __name__ == "__main__":
    sys.exit(main())

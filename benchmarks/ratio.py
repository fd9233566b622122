# SPDX-License-Identifier: Apache-2.0
"""Ratios of what was measured in pairs."""

from collections.abc import Callable, Sequence

import numpy as np

#: Resamplings of the bootstrap, and their seed, so that one measurement gives one interval.
_resamplings = 2000
_seed = 1


def measure(
    ours: Callable[[], float], base: Callable[[], float], rounds: int
) -> tuple[list[float], list[float]]:
    """Measure both in turns, so that each pair meets the same machine; which one is first alternates. A round
    that comes first and warms both up does not count.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        if number % 2 == 0:
            a, b = ours(), base()
        else:
            b, a = base(), ours()
        if number > 0:
            mine.append(a)
            theirs.append(b)
    return mine, theirs


def ratio_of_medians(ours: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """The ratio of the medians, ours to the base's, and its interval of 95 %: a bootstrap over the pairs
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: percentiles).
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(base, dtype=float)
    picks = np.random.default_rng(_seed).integers(0, len(a), (_resamplings, len(a)))
    ratios = np.median(a[picks], axis=1) / np.median(b[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {
        "median": float(np.median(a) / np.median(b)),
        "low": float(low),
        "high": float(high),
        "runs": len(a),
    }

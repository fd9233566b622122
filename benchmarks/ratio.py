# SPDX-License-Identifier: Apache-2.0
"""Computes ratios of pairs of measurements."""

from collections.abc import Callable, Sequence

import numpy as np

#: Number of resamplings of the bootstrap, and a fixed seed, so that the same measurements give the same
#: interval.
_resamplings = 2000
_seed = 1


def measure(
    ours: Callable[[], float], base: Callable[[], float], rounds: int
) -> tuple[list[float], list[float]]:
    """Measures both sides in turns, so that the machine is in the same state for each pair, and alternates
    which one is first. An initial round warms up both sides and is not counted.
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
    """Returns the ratio of the medians, ours to the base's, and its 95 % interval: a bootstrap over the pairs
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

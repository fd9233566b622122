# SPDX-License-Identifier: Apache-2.0
"""Estimates how fast a value grows, with an interval."""

from collections.abc import Mapping, Sequence

import numpy as np

#: Number of batches, and the 97.5 % quantile of Student's t with two degrees of freedom less.
batches, student = 10, 2.306


def slope(times: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Returns the slope of a line through samples, with an interval that contains it in about 95 of 100
    cases.

    Samples of a process are not independent: a high one is usually followed by another high one, so the
    textbook's error of a slope would be far too small. The means of long batches are nearly independent. So
    the samples are reduced to the means of ten batches, as Schmeiser ("Batch size effects in the analysis of
    simulation output", Operations Research 30, 1982) recommends for means. The line is the least-squares fit
    through these, with the interval of Student's t with eight degrees of freedom.

    Args:
        times: times of the samples, in any unit, ascending, at least 20.
        values: values of the samples.

    Returns:
        "value", "low", and "high", in units of values per unit of times.

    """
    if len(times) != len(values) or len(times) < 2 * batches:
        raise ValueError(
            f"a slope needs {2 * batches} samples or more, not {len(times)} with {len(values)} values"
        )
    x, y = (
        np.array([part.mean() for part in np.array_split(np.asarray(numbers, dtype=float), batches)])
        for numbers in (times, values)
    )
    x = x - x.mean()
    value = float(x @ y / (x @ x))
    residuals = y - y.mean() - value * x
    error = student * float(np.sqrt(residuals @ residuals / (batches - 2) / (x @ x)))
    return {"value": value, "low": value - error, "high": value + error}


def is_flat(found: Mapping[str, float]) -> bool:
    """Whether the interval includes no growth, or the value shrinks."""
    return found["low"] <= 0

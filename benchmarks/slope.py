# SPDX-License-Identifier: Apache-2.0
"""How fast something grows, and how well that is known."""

from collections.abc import Mapping, Sequence

import numpy as np

#: Batches, and the 97.5 % point of Student's t with two degrees of freedom less.
batches, student = 10, 2.306


def slope(times: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """The slope of a line through samples, with an interval that holds it in about 95 of 100 cases.

    Samples of a process are no independent draws: one that is high is followed by one that is high, and the
    textbook's error of a slope would be far too small. The means of long batches hardly depend on each other.
    So the samples become the means of ten batches, as Schmeiser ("Batch size effects in the analysis of
    simulation output", Operations Research 30, 1982) advises for means; through those goes the line of least
    squares, with the interval of Student's t with eight degrees of freedom.

    Args:
        times: when, in any unit, ascending, at least 20.
        values: what was seen then.

    Returns:
        "value", "low" and "high", in units of values for a unit of times.

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
    """Whether no growth is within the interval, or it shrinks."""
    return found["low"] <= 0

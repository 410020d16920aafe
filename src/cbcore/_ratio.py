"""β by what it does: the ratio of the largest to the smallest class weight."""

from typing import Any

import numpy as np

from cbcore import _checks as checks
from cbcore._arrays import Host
from cbcore._weights import Empty, numbers_of, numbers_of_classes


def beta_from_ratio(class_counts: Any, ratio: float, *, empty: Empty = "error") -> float:
    """Return the beta with which the largest class weight is `ratio` times the smallest.

    The ratio rises with beta, from 1 at beta = 0 to the imbalance factor at beta = 1.

    Parameters
    ----------
    class_counts : array, shape (C,)
        n_i, samples per class in the whole training set, as in `class_weights`.
    ratio : float
        Largest over smallest weight, from 1 to the largest over the smallest class count.
    empty : {"error", "zero", "one"}
        What a class without samples counts as, as in `class_weights`. "zero" leaves it out.

    Returns
    -------
    float
        beta in [0, 1], to rounding. Exactly 0 and 1 for the two ends.

    Raises
    ------
    TypeError, ValueError
        As in `class_weights`; also if no beta gives that ratio.

    Examples
    --------
    >>> from cbcore import class_weights
    >>> beta = beta_from_ratio([5000, 500, 50], 10)
    >>> round(beta, 6)
    0.997895
    >>> weights = class_weights([5000, 500, 50], beta)
    >>> float(round(weights.max() / weights.min(), 6))
    10.0
    """
    ends = count_ends(class_counts, empty)
    full = float(ends[1] / ends[0])
    ratio = checks.number(ratio, "ratio", low=1)
    if ratio > full:
        raise ValueError(
            f"ratio must be at most the largest over the smallest class count, {full:g}, which beta = 1 gives, got "
            f"{ratio:g}; no weights of these counts differ by more"
        )
    return beta_of(ends, ratio)


def beta_grid(class_counts: Any, num: int = 5, *, empty: Empty = "error") -> Host:
    """Return values of beta to try: their weight ratios are spread evenly in log from 1 to the imbalance factor.

    Parameters
    ----------
    class_counts : array, shape (C,)
        n_i, samples per class in the whole training set, as in `class_weights`.
    num : int
        >= 2, how many. The first is 0, all weights alike, the last 1, inverse frequency.
    empty : {"error", "zero", "one"}
        As in `beta_from_ratio`.

    Returns
    -------
    array of float64, shape (num,)
        Rising. Of NumPy, whatever came: float32 has no number between 0.99999994 and 1.

    Raises
    ------
    TypeError, ValueError
        As in `class_weights`; also if all classes have the same count, for which every beta is the same.

    Examples
    --------
    >>> beta_grid([5000, 500, 50], 3).round(6)
    array([0.      , 0.997895, 1.      ])
    """
    num = checks.integer(num, "num", at_least=2)
    ends = count_ends(class_counts, empty)
    if ends[0] == ends[1]:
        raise ValueError(
            f"class_counts must differ between classes for a choice of beta, got {ends[0]:g} samples of each; their "
            "weights are all alike for every beta"
        )
    full = float(ends[1] / ends[0])
    return np.array([beta_of(ends, full ** (i / (num - 1))) for i in range(num)])


def count_ends(class_counts: Any, empty: Empty) -> Host:
    """Return the smallest and the largest class count."""
    counts = numbers_of_classes(class_counts, 1.0, None, None, empty)[0]
    if empty == "zero":
        counts = counts[counts > 0]
    return np.array([counts.min(), counts.max()])


def beta_of(ends: Host, ratio: float) -> float:
    """Return the beta that gives a ratio, which is possible: by bisection, to neighbouring floating-point numbers."""
    if ratio <= 1 or ratio >= ends[1] / ends[0]:
        return float(ratio > 1)
    low, high = 0.0, 1.0
    while low < (beta := (low + high) / 2) < high:
        few, many = numbers_of(ends, beta, None)
        low, high = (beta, high) if many / few < ratio else (low, beta)
    return high

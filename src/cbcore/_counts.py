"""Samples per class: counting them, and making long-tailed subsets as the paper does."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cbcore import _checks as checks
from cbcore._arrays import MOST_CLASSES, Host, aligned, to_host

_MOST_GIVEN = 10**9  # classes: eight gigabytes of counts


def class_counts(labels: Any, num_classes: int | None = None, *, ignore_index: int | None = None) -> Any:
    """Count the samples of each class: n_i.

    Parameters
    ----------
    labels : array of integers, shape (num_samples,)
        Class index of every sample of the data set (not of a batch), in [0, C).
    num_classes : int, optional
        C. Without it, the largest label plus one: name it where a class may have no sample.
    ignore_index : int, optional
        A label that is left out of the counts.

    Returns
    -------
    array of int64, shape (C,)
        Of the kind of `labels` (a list gives NumPy).

    Raises
    ------
    TypeError
        If `labels` are not integers.
    ValueError
        If `labels` are not one-dimensional or reach outside [0, C).

    Examples
    --------
    >>> class_counts([0, 2, 0, 0], num_classes=4)
    array([3, 0, 1, 0])
    """
    host, back = to_host(labels, "labels")
    check_labels(host)
    ignored = checks.ignored(ignore_index, "ignore_index")
    if ignored is not None:
        host = host[host != ignored]
    size = _largest(host) + 1 if num_classes is None else _class_number(num_classes)
    checks.label_range(host, size, name="labels")
    return back(np.bincount(host.astype(np.int64, copy=False), minlength=size))


def imbalance_factor(class_counts: Any) -> float:
    """Return the largest class count divided by the smallest (§5.1 of the paper).

    Parameters
    ----------
    class_counts : array, shape (C,)
        n_i, samples per class, >= 0; a dict, Counter or pandas Series by its keys, as in `class_weights`.

    Returns
    -------
    float
        max(n_i) / min(n_i), >= 1; ``inf`` where a class is empty.

    Raises
    ------
    TypeError, ValueError
        As in `class_weights`; also if all classes are empty.

    Examples
    --------
    >>> imbalance_factor([5000, 500, 50])
    100.0
    """
    counts, _ = checked_counts(class_counts, some=True)
    smallest = float(counts.min())
    return float(counts.max()) / smallest if smallest else float("inf")


def long_tailed_counts(max_count: int, num_classes: int, imbalance: float) -> Any:
    """Return class counts that fall exponentially: int(max_count * imbalance ** (-i / (C - 1))).

    Parameters
    ----------
    max_count : int
        Samples of class 0, the largest.
    num_classes : int
        C, >= 1.
    imbalance : float
        The ratio of the first count to the last, before truncation; >= 1.

    Returns
    -------
    ndarray of int64, shape (C,)
        The long-tailed CIFAR profile (§5.1 of the paper, truncated as in the authors' code). Small counts truncate, so
        the factor of the result can be larger than `imbalance`, and a class can end up empty.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Examples
    --------
    >>> long_tailed_counts(5000, 10, 50)
    array([5000, 3237, 2096, 1357,  878,  568,  368,  238,  154,  100])
    """
    max_count = checks.integer(max_count, "max_count", at_least=1)
    num_classes = _class_number(num_classes)
    imbalance = checks.number(imbalance, "imbalance", low=1)
    steps = max(num_classes - 1, 1)
    return np.asarray([int(max_count * imbalance ** (-i / steps)) for i in range(num_classes)], dtype=np.int64)


def long_tailed_indices(labels: Any, imbalance: float, *, seed: int | None = None) -> Any:
    """Choose which samples to keep so that the classes become long-tailed, class 0 the largest.

    Class 0 keeps all its samples, class i keeps ``long_tailed_counts(n_0, C, imbalance)[i]``.

    Parameters
    ----------
    labels : array of integers, shape (num_samples,)
        Class index of every sample.
    imbalance : float
        As in `long_tailed_counts`.
    seed : int, optional
        Keep a random subset of each class, the same for the same seed. Without it, the first samples of each class.

    Returns
    -------
    array of int64, shape (num_kept,)
        Indices into `labels`, ascending, of the kind of `labels`.

    Raises
    ------
    TypeError, ValueError
        As in `class_counts`; also if a class has fewer samples than it should keep.

    Examples
    --------
    >>> long_tailed_indices([0, 0, 0, 0, 1, 1, 1, 1], imbalance=4)
    array([0, 1, 2, 3, 4])
    """
    host, back = to_host(labels, "labels")
    available = class_counts(host)
    imbalance = checks.number(imbalance, "imbalance", low=1)
    if seed is not None:
        seed = checks.integer(seed, "seed", at_least=0)
    if not available[0]:
        raise ValueError("labels must hold samples of class 0, the largest of a long-tailed set; got none")
    keep = long_tailed_counts(int(available[0]), len(available), imbalance)
    short = np.flatnonzero(available < keep)
    if short.size:
        label = short[0]
        raise ValueError(
            f"labels must hold at least {keep[label]} samples of class {label} for this imbalance, got "
            f"{available[label]}; number the classes from the largest down or raise the imbalance"
        )
    generator = None if seed is None else np.random.default_rng(seed)
    chosen = []
    for label, count in enumerate(keep):
        members = np.flatnonzero(host == label)
        chosen.append(members[:count] if generator is None else generator.permutation(members)[:count])
    return back(np.sort(np.concatenate(chosen)).astype(np.int64, copy=False))


def checked_counts(class_counts: Any, *, some: bool) -> tuple[Host, Callable[[Host], Any]]:
    """Return class counts in float64, in which they can be added up whatever they came in, and the way back.

    With `some`, there must be a sample.
    """
    host, back = to_host(aligned(class_counts, "class_counts"), "class_counts")
    if host.ndim != 1 or not host.size:
        raise ValueError(
            f"class_counts must have shape (C,) with C >= 1, got {host.shape}; for labels call class_counts(labels)"
        )
    whole = np.issubdtype(host.dtype, np.integer)
    if not (whole or np.issubdtype(host.dtype, np.floating) or host.dtype.name == "bfloat16"):
        raise TypeError(f"class_counts must be numbers, got {_came(host)}; for labels call class_counts(labels)")
    counts = host.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(counts) | (counts != np.floor(counts)))
    if bad.size:
        raise ValueError(f"class_counts must be finite whole numbers, got {counts[bad[0]]} for class {bad[0]}")
    if counts.min() < 0:
        worst = int(counts.argmin())
        raise ValueError(f"class_counts must not be negative, got {host[worst]} for class {worst}")
    if some and not counts.any():
        raise ValueError("class_counts must hold at least one sample, got zero for every class")
    return counts, back


def _came(host: Host) -> str:
    """Describe what stands where numbers should: text and missing values by an example, others by their dtype."""
    if host.size and host.dtype.kind in "OUST":
        odd = next(filter(_is_missing, host.tolist()), host.tolist()[0])
        return f"{odd!s:.40} ({type(odd).__name__})"
    return str(host.dtype)


def _is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA, none of which equals itself or is a number."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def check_labels(host: Host) -> None:
    """Check that labels are a vector of integers."""
    if host.ndim != 1:
        raise ValueError(
            f"labels must have shape (num_samples,), got {host.shape}; flatten class indices with .reshape(-1), "
            "turn one-hot rows into indices with .argmax(-1)"
        )
    if host.size and not np.issubdtype(host.dtype, np.integer):
        if any(map(_is_missing, host.tolist())):
            fix = "leave out the samples without a label, or give them one number and name it as ignore_index"
        elif host.dtype.kind in "OUST":
            fix = "number the classes, e.g. names, labels = np.unique(labels, return_inverse=True)"
        else:
            fix = "cast them, e.g. labels.astype(int)"
        raise TypeError(f"labels must be integers (class indices), got {_came(host)}; {fix}")


def _largest(host: Host) -> int:
    """Return the largest label, or 0 where all are below it, if it can be a class index."""
    if not host.size:
        raise ValueError("num_classes must be given where there are no labels to find it from")
    largest = int(host.max())
    if largest >= max(MOST_CLASSES, 100 * host.size):
        raise ValueError(
            f"labels must be class indices in [0, C), got {largest} among {host.size} labels; number the classes, e.g. "
            "np.unique(labels, return_inverse=True)[1], or, if these are indices, say how many classes there are with "
            "num_classes"
        )
    return max(largest, 0)


def _class_number(value: Any) -> int:
    """Check a number of classes that is given."""
    plain = checks.integer(value, "num_classes", at_least=1)
    if plain > _MOST_GIVEN:
        raise ValueError(f"num_classes must be at most {_MOST_GIVEN}, got {plain}; it is not the largest id")
    return plain

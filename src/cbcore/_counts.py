"""Samples per class: counting them, and making long-tailed subsets as the paper does."""

from typing import Any

import numpy as np

from cbcore import _checks as checks
from cbcore._arrays import aligned, to_host


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
    checks.labels(host)
    ignored = checks.ignored(ignore_index, "ignore_index")
    if ignored is not None:
        host = host[host != ignored]
    size = checks.num_classes(num_classes, host)
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
    counts = checks.counts(to_host(aligned(class_counts, "class_counts"), "class_counts")[0])
    checks.some_samples(counts)
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
    num_classes = checks.class_number(num_classes)
    imbalance = checks.imbalance(imbalance)
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
    imbalance = checks.imbalance(imbalance)
    if seed is not None:
        seed = checks.integer(seed, "seed", at_least=0)
    checks.head_class(available)
    keep = long_tailed_counts(int(available[0]), len(available), imbalance)
    checks.enough_samples(available, keep)
    generator = None if seed is None else np.random.default_rng(seed)
    chosen = []
    for label, count in enumerate(keep):
        members = np.flatnonzero(host == label)
        chosen.append(members[:count] if generator is None else generator.permutation(members)[:count])
    return back(np.sort(np.concatenate(chosen)).astype(np.int64, copy=False))

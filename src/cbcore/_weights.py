"""Effective number of samples (eq. 2 of the paper) and the class weights made from it (§4)."""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from cbcore import _checks as checks
from cbcore._arrays import Host, aligned, to_host
from cbcore._counts import checked_counts

Normalize: TypeAlias = Literal["classes", "samples"] | None
Empty: TypeAlias = Literal["error", "zero", "one"]


def effective_number(class_counts: Any, beta: Any = None, *, num_prototypes: Any = None) -> Any:
    """Return the effective number of samples of each class, E_n = (1 - beta^n) / (1 - beta).

    Parameters
    ----------
    class_counts : array, shape (C,)
        n_i, samples per class: integers (or whole floats) >= 0. A dict, Counter or pandas Series is ordered by its
        keys, the class indices; a class that it does not name has 0.
    beta : float or array of shape (C,), optional
        In [0, 1]. 0 gives E_n = 1 (for n >= 1) and 1 gives E_n = n, both exactly.
    num_prototypes : float or array of shape (C,), optional
        N = 1 / (1 - beta) instead of `beta`; >= 1, ``inf`` allowed. Exactly one of the two is given.

    Returns
    -------
    array of float64, shape (C,)
        min(n, 1) <= E_n <= min(n, N), of the kind of `class_counts`; 0 where n = 0. Where the framework has no float64
        (JAX without x64), rounded to its float32.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If counts are negative, NaN or not whole, if beta or N is out of range or has another length, or unless
        exactly one of `beta` and `num_prototypes` is given.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 2-4.

    Examples
    --------
    >>> effective_number([1, 10, 1000], beta=0.9)
    array([ 1.       ,  6.5132156, 10.       ])
    >>> effective_number([1, 10, 1000], num_prototypes=float("inf"))
    array([   1.,   10., 1000.])
    """
    counts, back = checked_counts(class_counts, some=False)
    return back(numbers_of(counts, beta, num_prototypes))


def class_weights(
    class_counts: Any,
    beta: Any = None,
    *,
    num_prototypes: Any = None,
    power: float = 1.0,
    max_ratio: float | None = None,
    normalize: Normalize = "classes",
    empty: Empty = "error",
) -> Any:
    """Return the weight of each class, proportional to the inverse of its effective number of samples.

    Parameters
    ----------
    class_counts : array, shape (C,)
        n_i, samples per class in the whole training set: integers (or whole floats) >= 0; a dict, Counter or pandas
        Series by its keys, as in `effective_number`.
    beta : float or array of shape (C,), optional
        In [0, 1]; 0.999 if neither `beta` nor `num_prototypes` is given. 0 weights all classes alike, 1 weights by
        inverse frequency.
    num_prototypes : float or array of shape (C,), optional
        N = 1 / (1 - beta) instead of `beta`; >= 1, ``inf`` allowed.
    power : float
        In [0, 1]: weights are proportional to E_n^-power. 1 is the paper, 1/2 with beta = 1 the inverse square root of
        the frequency, 0 no weights. A power above 1 would make a class of twice the samples count for less in all.
    max_ratio : float, optional
        >= 1, the most that the largest weight may be of the smallest one above 0: before they are normalised, larger
        weights become `max_ratio` times the smallest. The others keep their proportions.
    normalize : {"classes", "samples", None}
        "classes": the weights sum to C (the paper, §4). "samples": the weights of all samples sum to the number of
        samples, sum n_i w_i = sum n_i, scikit-learn's "balanced" scale. None: raw E_n^-power.
    empty : {"error", "zero", "one"}
        What a class without samples gets. "error": a ValueError that names the classes. "zero": weight 0; the others
        are weighted as if it did not exist. "one": the weight of a class with one sample.

    Returns
    -------
    array of float64, shape (C,)
        >= 0, of the kind of `class_counts`.

    Raises
    ------
    TypeError, ValueError
        As in `effective_number`; also if a class is empty and `empty` is "error", or if all are empty, or if `power` or
        `max_ratio` is out of range.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, §4 and eq. 6.

    Examples
    --------
    >>> class_weights([5000, 500, 50], beta=0.999).round(3)
    array([0.126, 0.317, 2.557])
    >>> class_weights([8, 0, 2], beta=1, empty="zero")
    array([0.4, 0. , 1.6])
    """
    checks.choice(normalize, "normalize", ("classes", "samples", None))
    power = checks.number(power, "power", low=0, high=1)
    max_ratio = None if max_ratio is None else checks.number(max_ratio, "max_ratio", low=1)
    counts, numbers, back = numbers_of_classes(class_counts, 0.999, beta, num_prototypes, empty)
    with np.errstate(divide="ignore"):
        weights = 1.0 / numbers**power
    if empty == "zero":
        weights[counts == 0] = 0.0
    if max_ratio is not None:
        np.minimum(weights, max_ratio * weights[counts > 0].min(), out=weights)
    if normalize == "classes":
        weights *= np.count_nonzero(counts) / weights.sum()
    elif normalize == "samples":
        weights *= counts.sum() / (weights * counts).sum()
    return back(weights)


def numbers_of_classes(
    class_counts: Any, default: float, beta: Any, num_prototypes: Any, empty: Empty
) -> tuple[Host, Host, Callable[[Host], Any]]:
    """Return counts and effective numbers with empty classes as `empty` says, and what turns them into the caller's.

    `default` is the beta where neither it nor `num_prototypes` is given.
    """
    counts, back = checked_counts(class_counts, some=True)
    checks.choice(empty, "empty", ("error", "zero", "one"))
    if empty == "error" and not counts.all():
        raise _no_empty_class(counts)
    if empty == "one":
        counts = np.maximum(counts, 1)
    if beta is None and num_prototypes is None:
        beta = default
    return counts, numbers_of(counts, beta, num_prototypes), back


def numbers_of(counts: Host, beta: Any, num_prototypes: Any) -> Host:
    """Return the effective numbers of checked counts."""
    return _effective_number(counts, *_log_beta(beta, num_prototypes, counts.size))


def prior_bias(num_classes: int) -> float:
    """Return the bias that makes every sigmoid start at the class prior 1 / C: -log((1 - p) / p) = -log(C - 1).

    Parameters
    ----------
    num_classes : int
        C, >= 2.

    Returns
    -------
    float
        The initial bias of the last layer for sigmoid and focal losses (§5.2 of the paper).

    Raises
    ------
    TypeError, ValueError
        If `num_classes` is not an integer >= 2.

    Examples
    --------
    >>> round(prior_bias(10), 4)
    -2.1972
    """
    checks.integer(num_classes, "num_classes", at_least=2)
    return -math.log(num_classes - 1)


def _log_beta(beta: Any, num_prototypes: Any, size: int) -> tuple[Host, Host]:
    """Return log(beta) and 1 - beta, each broadcast to (C,).

    Both are kept: 1 - beta alone has lost a tiny beta, log(beta) alone would need an expm1 to come back.
    """
    for name, value in (("beta", beta), ("num_prototypes", num_prototypes)):
        if isinstance(value, str | bytes):
            raise TypeError(f"{name} must be a number or an array of numbers, got {value!r}")
    if (beta is None) == (num_prototypes is None):
        came = "neither" if beta is None else f"beta={beta!r} and num_prototypes={num_prototypes!r}"
        raise ValueError(f"exactly one of beta and num_prototypes must be given, got {came}; N = 1 / (1 - beta)")
    with np.errstate(divide="ignore"):
        if beta is not None:
            value = _per_class(beta, "beta", size, 0, 1, "beta = 1 - 1/N lies just below 1, e.g. 0.999")
            log_beta, one_minus_beta = np.log(value), 1.0 - value
        else:
            fix = "N = 1 / (1 - beta), e.g. 1000"
            one_minus_beta = 1.0 / _per_class(num_prototypes, "num_prototypes", size, 1, math.inf, fix)
            log_beta = np.log1p(-one_minus_beta)
    return np.broadcast_to(log_beta, size), np.broadcast_to(one_minus_beta, size)


def _per_class(values: Any, name: str, size: int, low: float, high: float, fix: str) -> Host:
    """Check beta or N, scalar or per class; return it in float64."""
    host = to_host(aligned(values, name, size, fill=False), name)[0]
    if not (np.issubdtype(host.dtype, np.integer) or np.issubdtype(host.dtype, np.floating)):
        raise TypeError(f"{name} must be a number or an array of numbers, got dtype {host.dtype}")
    if host.ndim > 1 or (host.ndim == 1 and host.size != size):
        raise ValueError(f"{name} must be a scalar or have shape ({size},), one for each class; got shape {host.shape}")
    bad = np.flatnonzero(~((host >= low) & (host <= high)))
    if bad.size:
        where = f" for class {bad[0]}" if host.ndim else ""
        text = f"in [{low:g}, {high:g}]" if high != math.inf else f"at least {low:g}"
        raise ValueError(f"{name} must be {text}, got {host.flat[bad[0]]}{where}; {fix}")
    return host.astype(np.float64)


def _effective_number(n: Host, log_beta: Host, one_minus_beta: Host) -> Host:
    with np.errstate(invalid="ignore", divide="ignore"):
        numbers = n * log_beta
        np.expm1(numbers, out=numbers)
        np.divide(numbers, -one_minus_beta, out=numbers)
    if not one_minus_beta.all():
        numbers = np.where(one_minus_beta == 0, n, numbers)
    # Rounding must not leave the bounds of E_n; fmax also turns n = 0 at beta = 0 (a NaN) into 0.
    np.fmax(numbers, np.minimum(n, 1.0), out=numbers)
    np.fmin(numbers, n, out=numbers)
    return numbers


def _no_empty_class(counts: Host) -> ValueError:
    empty = np.flatnonzero(counts == 0)
    listed = ", ".join(map(str, empty[:10])) + (", ..." if empty.size > 10 else "")
    return ValueError(
        f"class_counts must be at least 1 for every class, got 0 for {empty.size} of {counts.size} classes "
        f'({listed}), whose weight would be infinite; choose empty="zero" (weight 0) or empty="one" (as if it had '
        "one sample), or, if these are labels, count them with class_counts(labels)"
    )

"""The strength of the class prior, chosen on the validation logits of one model: no training again."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cbcore import _checks as checks
from cbcore._arrays import Host, to_host
from cbcore._counts import check_labels
from cbcore._priors import logit_adjustment
from cbcore._ratio import beta_grid
from cbcore._weights import Empty, numbers_of_classes

_TAUS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_BLOCK = 2**18  # logits at a time: with their shifted copy they stay in the cache
_DRAWN = 2**20  # samples drawn at a time


class PriorChoice(NamedTuple):
    """What `choose_prior` found. Subtract ``logit_adjustment(class_counts, beta, tau=tau)`` from logits to use it."""

    beta: float
    """The best beta; 0 where nothing is better than the logits as they are."""
    tau: float
    """The best tau; 0 where nothing is better than the logits as they are."""
    error: float
    """The least balanced error, the mean over classes of the share of their samples that are wrong."""
    error_interval: tuple[float, float]
    """Of the error of that choice, by bootstrap."""
    beta_interval: tuple[float, float]
    """The betas that the bootstrap chose, from quantile to quantile."""
    tau_interval: tuple[float, float]
    """The taus that the bootstrap chose, from quantile to quantile."""
    table: Host
    """All that was tried, in a structured array with the weakest shift first. Its fields are "beta", "tau", "range"
    (the largest shift), "error", and "chosen", the share of bootstrap draws that it was the best of."""

    def plot(self, axes: Any = None) -> Any:
        """Draw the balanced error over tau, a line for each beta, and the choice; return the axes. Needs matplotlib.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw. By default the current ones.
        """
        from matplotlib import pyplot

        axes = pyplot.gca() if axes is None else axes
        plain, rows = self.table[0], np.sort(self.table[1:], order=["beta", "tau"])
        axes.axhline(plain["error"], color="gray", linestyle="--", label="logits as they are")
        for beta in np.unique(rows["beta"]):
            of_beta = rows[rows["beta"] == beta]
            axes.plot(of_beta["tau"], of_beta["error"], marker=".", label=f"beta = {beta:.6g}")
        axes.vlines(self.tau, *self.error_interval, color="black")
        axes.plot(self.tau, self.error, "ko")
        axes.set(xlabel="tau", ylabel="balanced error")
        axes.legend()
        return axes


def choose_prior(
    logits: Any,
    labels: Any,
    class_counts: Any,
    *,
    betas: Any = None,
    taus: Any = None,
    empty: Empty = "error",
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int | None = 0,
) -> PriorChoice:
    """Choose beta and tau of the shift that, subtracted from the logits of a plain model, errs least on all classes.

    For every pair, tau log E_n(beta) is subtracted from the logits, and the errors of the arg max are averaged over
    classes, so that the validation set may have any class shares. In the population the same pair is the best of the
    losses with that shift or, for tau = 1, with the class weights of that beta.

    Parameters
    ----------
    logits : array of floats, shape (num_samples, C)
        Of samples that the model was not trained on; the model was trained with softmax, without weights or shift.
    labels : array of integers, shape (num_samples,)
        Their classes, each class at least once.
    class_counts : array, shape (C,)
        n_i, samples per class in the *training* set.
    betas : array, optional
        In [0, 1], to try. By default ``beta_grid(class_counts)``.
    taus : array, optional
        >= 0 and finite, to try. By default 0.25, 0.5, ..., 1.5. Logits as they are (beta = tau = 0) are always tried.
    empty : {"error", "zero", "one"}
        What a class without training samples gets, as in `logit_adjustment`. "zero": it is never chosen, and its
        validation samples, if there are any, are left out.
    draws : int
        >= 1, of the bootstrap: validation samples are drawn anew within each class, and the best pair is found again.
    confidence : float
        In [0, 1], of the intervals.
    seed : int, optional
        Of the bootstrap. None draws another one each time.

    Returns
    -------
    PriorChoice
        Of equal errors the weaker shift is the better one. `error` is that of the best of many, so a little too low:
        report errors on samples that did not choose.

    Raises
    ------
    TypeError, ValueError
        If logits are no floats of shape (num_samples, C), hold NaN, or a class has no validation sample; as in
        `logit_adjustment` and `class_counts` for the others.

    Examples
    --------
    >>> import numpy as np
    >>> counts, labels = np.array([9000, 900, 90]), np.arange(3).repeat(200)
    >>> x = np.random.default_rng(0).normal(labels)
    >>> plain = -((x[:, None] - np.arange(3)) ** 2) / 2 + np.log(counts)  # log P(y | x), up to a constant
    >>> choice = choose_prior(plain, labels, counts, taus=[0.5, 1.0])
    >>> choice.beta, choice.tau
    (1.0, 1.0)
    """
    z = to_host(logits, "logits")[0]
    counts = numbers_of_classes(class_counts, 1.0, None, None, empty)[0]
    y, kept = _validation(z, to_host(labels, "labels")[0], counts)
    betas = beta_grid(counts, empty=empty) if betas is None else _values(betas, "betas")
    taus = np.array(_TAUS) if taus is None else _values(taus, "taus")
    draws = checks.integer(draws, "draws", at_least=1)
    tail = (1 - checks.number(confidence, "confidence", low=0, high=1)) / 2

    table, shifts = _pairs(counts, betas, taus, empty)
    right = _right(z, kept, y, shifts)
    sizes = np.bincount(y, minlength=counts.size)
    share = 1.0 / (sizes[y] * np.count_nonzero(sizes))  # of a sample in the balanced mean
    table["error"] = _mean_error(share @ right)
    errors = np.concatenate(list(_resampled(right, sizes, draws, np.random.default_rng(seed))))
    best, chosen = int(table["error"].argmin()), errors.argmin(1)  # the first of equals: the weakest shift
    table["chosen"] = np.bincount(chosen, minlength=table.size) / draws

    def interval(values: Host) -> tuple[float, float]:
        low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
        return float(low), float(high)

    return PriorChoice(
        beta=float(table["beta"][best]),
        tau=float(table["tau"][best]),
        error=float(table["error"][best]),
        error_interval=interval(errors[:, best]),
        beta_interval=interval(table["beta"][chosen]),
        tau_interval=interval(table["tau"][chosen]),
        table=table,
    )


def _validation(z: Host, y: Host, counts: Host) -> tuple[Host, Host]:
    """Check the validation set; return the labels of the rows that count, sorted, and the rows in that order."""
    floats = z.dtype.kind == "f" or z.dtype.name == "bfloat16"
    about = checks.About("logits", z.shape, z.dtype, "f" if floats else "")
    checks.floating(about, about)
    check_labels(y)
    if z.shape != (y.size, counts.size):
        raise ValueError(
            f"logits must have shape (num_samples, C), got {z.shape} for {y.size} labels and {counts.size} class "
            "counts; pass one row for each label, and the counts of the training set"
        )
    checks.label_range(y, counts.size, name="labels")
    missing = np.flatnonzero((np.bincount(y.astype(np.intp), minlength=counts.size) == 0) & (counts > 0))
    if missing.size:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if missing.size > 10 else "")
        raise ValueError(
            f"labels must hold a validation sample of every class, got none for {missing.size} of {counts.size} "
            f"classes ({listed}); an error balanced over classes needs some of each: split class by class"
        )
    rows = np.argsort(y, kind="stable")
    rows = rows[counts[y[rows]] > 0]
    return y[rows].astype(np.intp), rows


def _values(values: Any, name: str) -> Host:
    """Check what is to be tried; the numbers themselves are checked where they are used."""
    host = to_host(values, name)[0]
    if host.ndim != 1 or not host.size or host.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must be a list of at least one number to try, got shape {host.shape} of {host.dtype}; for a "
            "single one pass a list of it"
        )
    return np.unique(host)


def _pairs(counts: Host, betas: Host, taus: Host, empty: Empty) -> tuple[Host, Host]:
    """Return the table, still without errors, and what is subtracted from the logits in each row of it."""
    tried = {(0.0, 0.0): logit_adjustment(counts, 0.0, tau=0.0, empty=empty)}
    for beta in betas.tolist():
        for tau in taus.tolist():
            shift = logit_adjustment(counts, beta, tau=tau, empty=empty)
            if np.any(np.isfinite(shift) & (shift != 0)):  # others are the logits as they are
                tried[beta, tau] = shift
    shifts = np.array(list(tried.values()))
    out = np.isneginf(shifts)
    ranges = np.abs(np.where(out, 0.0, shifts)).max(1)
    order = np.argsort(ranges, kind="stable")
    table = np.zeros(order.size, [(name, "f8") for name in ("beta", "tau", "range", "error", "chosen")])
    table["beta"], table["tau"] = np.array(list(tried))[order].T
    table["range"] = ranges[order]
    return table, np.where(out, np.inf, shifts)[order]


def _right(z: Host, rows: Host, y: Host, shifts: Host) -> Host:
    """Return for each row (in its order) and each shift, 1 where the arg max is the label, else 0."""
    dtype = np.float64 if z.dtype == np.float64 else np.float32
    right = np.empty((rows.size, len(shifts)), np.float32)
    shifts = shifts.astype(dtype)
    step = max(1, _BLOCK // z.shape[1])
    for start in range(0, rows.size, step):
        part = slice(start, start + step)
        block = z[rows[part]].astype(dtype, copy=False)
        if np.isnan(block).any():
            raise ValueError("logits must not be NaN, got NaN; leave these samples out, or mend the model")
        moved = np.empty_like(block)
        for i, shift in enumerate(shifts):
            np.subtract(block, shift, out=moved)
            right[part, i] = moved.argmax(1) == y[part]
    return right


def _resampled(right: Host, sizes: Host, draws: int, generator: np.random.Generator) -> Iterator[Host]:
    """Yield balanced errors (draws, shifts) of samples that are drawn anew within each class; rows are in its order."""
    sizes = sizes[sizes > 0]
    size, first = sizes.repeat(sizes), (np.cumsum(sizes) - sizes).repeat(sizes)
    share = 1.0 / (size * sizes.size)
    weighted = right * share[:, None]
    step = max(1, _DRAWN // size.size)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        drawn = first + (generator.random((count, size.size)) * size).astype(np.intp)
        drawn += (np.arange(count) * size.size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield _mean_error(times @ weighted)


def _mean_error(accuracy: Host) -> Host:
    """Return 1 - accuracy, so that those are equal that are equal but for the order of a sum."""
    return np.round(1.0 - accuracy, 12) + 0.0

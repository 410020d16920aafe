"""`from_counts` of the loss objects, and a word where the weights that it makes do nothing."""

import math
import warnings
from typing import Any, Self

import numpy as np

from cbcore import _checks as checks
from cbcore._arrays import Host, aligned, to_host
from cbcore._ratio import beta_of, count_ends
from cbcore._weights import Empty, Normalize, class_weights

_ALIKE = 1.05  # a ratio of weights below it is one that nobody can have wanted


class FromCounts:
    """A loss object that takes class weights first, and so can be made from class counts."""

    @classmethod
    def from_counts(
        cls,
        class_counts: Any,
        beta: Any = None,
        *,
        num_prototypes: Any = None,
        power: float = 1.0,
        max_ratio: float | None = None,
        normalize: Normalize = "classes",
        empty: Empty = "error",
        **options: Any,
    ) -> Self:
        """Make the loss from the class counts of the whole training set.

        Parameters
        ----------
        class_counts, beta, num_prototypes, power, max_ratio, normalize, empty
            As in `cbcore.class_weights`; beta is 0.999 if neither it nor `num_prototypes` is given.
        **options
            Passed to the class.

        Warns
        -----
        UserWarning
            If the largest weight is below 1.05 times the smallest, where beta is above 0 and another one would give
            more.
        """
        checks.no_unknown_options({"class_weights"} & options.keys(), f"{cls.__name__}.from_counts")
        weights = class_weights(
            class_counts, beta, num_prototypes=num_prototypes, power=power, max_ratio=max_ratio, normalize=normalize,
            empty=empty,
        )  # fmt: skip
        host = to_host(weights, "class_weights")[0]
        text = _all_alike(host, class_counts, beta, num_prototypes, power, max_ratio, empty)
        if text:
            warnings.warn(text, UserWarning, stacklevel=2)
        make: Any = cls
        made: Self = make(host, **options)
        return made


def _all_alike(
    weights: Host, class_counts: Any, beta: Any, num_prototypes: Any, power: float, max_ratio: Any, empty: Empty
) -> str:
    """Return what to warn of if weights that should differ are nearly alike; nothing if that was asked for."""
    some = weights[weights > 0]
    ratio = some.max() / some.min()
    if ratio >= _ALIKE or (max_ratio is not None and max_ratio < _ALIKE):
        return ""
    ends = count_ends(class_counts, empty)
    full = float(ends[1] / ends[0])
    name, value, off = ("num_prototypes", num_prototypes, 1) if beta is None else ("beta", beta, 0)
    asked = value is not None and np.all(to_host(aligned(value, name), name)[0] == off)
    if full**power < _ALIKE or asked:
        return ""
    given = "the default beta=0.999" if value is None else f"{name}={value}"
    half = beta_of(ends, math.sqrt(full))
    return (
        f"class weights are nearly all alike with {given}: the largest is {ratio:.4f} times the smallest, where these "
        f"class counts allow {full**power:.4g}; beta={round(half, 3 - math.floor(math.log10(1 - half)))} gives half of "
        "that range, on a scale of logarithms, and beta_from_ratio any other ratio; if all are to weigh alike, give "
        "beta=0"
    )

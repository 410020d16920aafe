"""The additive half of the class prior: what is added to logits, not what losses are multiplied by."""

from typing import Any

import numpy as np

from cbcore import _checks as checks
from cbcore._weights import Empty, numbers_of_classes


def logit_adjustment(
    class_counts: Any,
    beta: Any = None,
    *,
    num_prototypes: Any = None,
    tau: float = 1.0,
    empty: Empty = "error",
) -> Any:
    """Return what is added to the logit of each class in training with softmax: tau log E_n, the largest being 0.

    A network that is trained with softmax cross-entropy of z + tau log E_n has in z the logits of a balanced world: at
    evaluation nothing is added. Or, for a network that was trained without, it is subtracted from its logits.

    Parameters
    ----------
    class_counts : array, shape (C,)
        n_i, samples per class in the whole training set, as in `class_weights`.
    beta : float or array of shape (C,), optional
        In [0, 1]; 1 if neither `beta` nor `num_prototypes` is given: E_n = n, the log prior itself. 0 gives zeros.
    num_prototypes : float or array of shape (C,), optional
        N = 1 / (1 - beta) instead of `beta`; >= 1, ``inf`` allowed.
    tau : float
        >= 0 and finite, the strength. 1 makes the optimum that of the class weights of the same beta; 0 gives zeros.
    empty : {"error", "zero", "one"}
        What a class without samples gets. "error": a ValueError that names the classes. "zero": -inf; the others are
        shifted as if it did not exist. "one": the shift of a class with one sample.

    Returns
    -------
    array of float64, shape (C,)
        <= 0, of the kind of `class_counts`. A constant added to all logits changes no softmax; with the largest class
        at 0 none overflows, and the logits of the common classes, which most samples have, keep their digits.

    Raises
    ------
    TypeError, ValueError
        As in `class_weights`; also if `tau` is negative or not finite.

    References
    ----------
    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. Ren et al., "Balanced Meta-Softmax for
    Long-Tailed Visual Recognition", NeurIPS 2020: tau = 1, beta = 1.

    Examples
    --------
    >>> logit_adjustment([5000, 500, 50]).round(3)
    array([ 0.   , -2.303, -4.605])
    >>> logit_adjustment([5000, 500, 50], beta=0.999).round(3)
    array([ 0.   , -0.926, -3.013])
    """
    tau = checks.number(tau, "tau", low=0)
    counts, numbers, back = numbers_of_classes(class_counts, 1.0, beta, num_prototypes, empty)
    with np.errstate(divide="ignore"):
        logs = np.log(numbers)
    shift = np.zeros_like(logs)
    some = counts > 0
    shift[some] = tau * (logs[some] - logs[some].max())
    shift[~some] = -np.inf
    return back(shift)

"""The three losses for NumPy and any other Array-API array: the reference the adapters are compared with."""

from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from cbcore import _checks as checks
from cbcore import _formulas as formulas
from cbcore import _ops as ops
from cbcore import _paths as paths
from cbcore._arrays import aligned, beside, namespace_of, place, to_host, unmasked
from cbcore._kinds import Kind, OneVsAll, Softmax


def softmax_cross_entropy(
    logits: Any,
    targets: Any,
    class_weights: Any = None,
    *,
    axis: int = -1,
    where: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Any:
    """Class-balanced softmax cross-entropy: w * -sum_c t_c log softmax(z)_c.

    Parameters
    ----------
    logits : array of floats, shape (..., C, ...)
        z, raw scores, classes on `axis`. float16 and bfloat16 are computed in float32.
    targets : array
        y: integers in [0, C), the shape of `logits` without the class axis; or t: floats in [0, 1], the shape of
        `logits` (one-hot, soft or multi-hot; their range is not read).
    class_weights : array of floats, shape (C,), optional
        From `class_weights`. A sample is weighted by w = class_weights[y], or by sum_c t_c class_weights_c / sum_c t_c,
        from the targets before smoothing.
    axis : int
        The class axis.
    where : array of bool, optional
        The shape of `logits` without the class axis: False for samples to ignore, whatever their logits hold.
    reduction : {"mean", "sum", "none", "weighted_mean"}
        "mean" divides by the number of samples that are not ignored, "weighted_mean" by their summed weights (as
        ``torch.nn.functional.cross_entropy(weight=...)`` does). With no valid sample both give 0.
    label_smoothing : float
        e in [0, 1]: t becomes (1 - e) t + e / C.
    unlabelled_weight : float, optional
        >= 0, the weight of a sample whose float targets are all 0. By default the mean of the class weights, which is 1
        where they sum to C; ``class_weights.min()`` takes such samples for one more, very frequent class.

    Returns
    -------
    array
        float32, or float64 for float64 logits: a scalar, or one loss a sample for "none" (0 where ignored).

    Raises
    ------
    TypeError
        If logits are not floating point, targets neither integers nor floats, or `where` not boolean.
    ValueError
        If shapes do not fit, target indices are out of range, or an option is unknown or out of range.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 8.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> float(softmax_cross_entropy(logits, np.array([0, 1]), np.array([0.5, 2.5, 2.5])).round(6))
    2.754769
    """
    return _loss(
        Softmax(), logits, targets, class_weights,
        axis, where, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


def sigmoid_cross_entropy(
    logits: Any,
    targets: Any,
    class_weights: Any = None,
    *,
    axis: int = -1,
    where: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Any:
    """Class-balanced sigmoid cross-entropy, summed over classes (eq. 11 of the paper): w * -sum_c log sigmoid(z_c^t).

    Parameters, returns and errors as in `softmax_cross_entropy`; with float targets each class contributes
    -t log sigmoid(z) - (1 - t) log sigmoid(-z), so multi-label targets work.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> float(sigmoid_cross_entropy(logits, np.array([[1.0, 0, 0], [0, 1, 1]])).round(6))
    1.094167
    """
    return _loss(
        OneVsAll(), logits, targets, class_weights,
        axis, where, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


def sigmoid_focal_loss(
    logits: Any,
    targets: Any,
    class_weights: Any = None,
    *,
    gamma: float = 0.5,
    axis: int = -1,
    where: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Any:
    """Class-balanced focal loss, summed over classes: w * -sum_c (1 - p_c^t)^gamma log p_c^t, p^t = sigmoid(z^t).

    `gamma` >= 0 is the focusing parameter, 0 gives `sigmoid_cross_entropy`; everything else as there. A `gamma` that is
    negative or not a number is an error too.

    References
    ----------
    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 13.
    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> float(sigmoid_focal_loss(logits, np.array([0, 1]), gamma=2.0).round(6))
    1.579987
    """
    return _loss(
        OneVsAll(checks.gamma(gamma)), logits, targets, class_weights,
        axis, where, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


def _loss(
    kind: Kind,
    logits: Any,
    targets: Any,
    class_weights: Any,
    axis: int,
    where: Any,
    reduction: str,
    label_smoothing: float,
    unlabelled_weight: float | None,
) -> Any:
    label_smoothing = checks.loss_options(reduction, label_smoothing)
    unlabelled_weight = checks.unlabelled_weight(unlabelled_weight)
    for name, value in (("logits", logits), ("targets", targets)):
        if value is None:
            raise TypeError(f"{name} must be an array, got None; pass one entry for each sample")
    logits = unmasked(logits, "logits") if is_array_api_obj(logits) else to_host(logits, "logits")[0]
    xp = namespace_of(logits)
    class_weights = aligned(class_weights, "class_weights", fill=False)
    targets, class_weights, where = (
        unmasked(x, name) if x is None or _is_of(xp, x) else beside(to_host(x, name)[0], logits)
        for name, x in (("targets", targets), ("class_weights", class_weights), ("where", where))
    )
    of_targets = _about(targets, "targets")
    axis = checks.loss_arrays(
        _about(logits, "logits"), of_targets, _about(class_weights, "class_weights"),
        axis=axis, where=_about(where, "where"),
    )  # fmt: skip
    if of_targets.kind == "i":
        host = to_host(targets, "targets")[0]
        checks.label_range(
            host if where is None else host[to_host(where, "where")[0]], logits.shape[axis], name="targets"
        )
        # The default integer of the device: narrow ones cannot hold C.
        integer = np.intp if isinstance(logits, np.ndarray) else xp.arange(1, device=place(logits)).dtype
        targets = xp.astype(targets, integer, copy=False)
    sample_loss = kind.sample_loss
    if isinstance(logits, np.ndarray):
        if paths.takes(logits, targets, kind, label_smoothing):
            return paths.loss(kind, logits, targets, class_weights, axis=axis, valid=where, reduction=reduction)
        sample_loss = paths.in_row_blocks(sample_loss)
    return formulas.class_balanced_loss(
        ops, sample_loss, logits, targets, class_weights,
        axis=axis, valid=where, sample_weight=None, reduction=reduction, label_smoothing=label_smoothing,
        unlabelled_weight=unlabelled_weight, in_range=True,
    )  # fmt: skip


def _is_of(xp: Any, x: Any) -> bool:
    return is_array_api_obj(x) and namespace_of(x) is xp


def _about(x: Any, name: str) -> Any:
    """Return what the checks read of an argument that is there."""
    if x is None:
        return None
    if isinstance(x, np.ndarray):
        return checks.About(name, x.shape, x.dtype, {"u": "i"}.get(x.dtype.kind, x.dtype.kind), x)
    isdtype = namespace_of(x).isdtype
    kinds = (("f", "real floating"), ("i", "integral"), ("b", "bool"))
    return checks.About(name, x.shape, x.dtype, next((k for k, kind in kinds if isdtype(x.dtype, kind)), ""))

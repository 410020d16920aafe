"""The three losses as functions of tensors: eager, in graphs with unknown batch sizes, and under XLA."""

from typing import Any, TypeAlias

import tensorflow as tf

from cbcore import _checks as checks
from cbcore import _formulas as formulas
from cbcore._arrays import unmasked
from cbcore._kinds import Kind, OneVsAll, Softmax
from cbcore_tf import _arguments as arguments
from cbcore_tf import _ops as ops
from cbcore_tf import _shapes as shapes
from cbcore_tf._closed import closed

Tensor: TypeAlias = Any


def softmax_cross_entropy(
    y_true: Any,
    y_pred: Any,
    class_weights: Any = None,
    *,
    axis: int = -1,
    ignore_class: int | None = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Tensor:
    """Class-balanced softmax cross-entropy (eq. 8 of the paper): w * -sum_c t_c log softmax(z)_c.

    Parameters
    ----------
    y_true : tensor
        Class indices in [0, C): the shape of `y_pred` without the class axis, (N,), or with 1 there or at the end,
        (N, 1); integers, or the floats that Keras makes of them. Or, in exactly the shape of `y_pred`, one-hot,
        multi-hot or soft labels in [0, 1] of any dtype. A sample whose index is neither in [0, C) nor `ignore_class`,
        or no whole number, gets NaN.
    y_pred : tensor of floats, shape (..., C, ...)
        z, logits, classes on `axis`. float16 and bfloat16 are computed in float32.
    class_weights : tensor of floats, shape (C,), optional
        A sample is weighted by class_weights[y_true], or by the mean over its labels, from the labels as given.
    axis : int
        The class axis; its size must be known when a graph is built, other sizes need not be.
    ignore_class : int, optional
        Samples with this index give 0 and no gradient, and are not counted. Not for labels in the shape of `y_pred`.
    sample_weight : tensor, shape of `y_pred` without the class axis, optional
        Multiplies the weight of each sample.
    reduction : {"mean", "sum", "none", "weighted_mean"}
        "mean" divides by the number of samples that are not ignored, "weighted_mean" by their summed weights. With no
        valid sample both give 0.
    label_smoothing : float
        In [0, 1].
    unlabelled_weight : float, optional
        >= 0, the weight of a sample whose labels, in the shape of `y_pred`, are all 0. By default the mean of the class
        weights, which is 1 where they sum to C.

    Returns
    -------
    tensor
        float32, or float64 for float64 `y_pred`. The gradient has the dtype of `y_pred`.

    Raises
    ------
    TypeError, ValueError
        If kinds or static shapes do not fit or do not tell indices from dense labels, or an option is unknown or out of
        range.

    Examples
    --------
    >>> logits = [[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]]
    >>> round(float(softmax_cross_entropy([0, 1], logits, [0.5, 2.5, 2.5])), 4)
    2.7548
    """
    return loss(
        Softmax(), y_true, y_pred, class_weights,
        axis, ignore_class, sample_weight, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


def sigmoid_cross_entropy(
    y_true: Any,
    y_pred: Any,
    class_weights: Any = None,
    *,
    axis: int = -1,
    ignore_class: int | None = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Tensor:
    """Class-balanced sigmoid cross-entropy, summed over classes (eq. 11): w * -sum_c log sigmoid(z_c^t).

    Parameters, returns and errors as in `softmax_cross_entropy`; with labels in the shape of `y_pred` each class
    contributes -t log sigmoid(z) - (1 - t) log sigmoid(-z).

    Examples
    --------
    >>> logits = [[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]]
    >>> round(float(sigmoid_cross_entropy([[1, 0, 0], [0, 1, 1]], logits)), 4)
    1.0942
    """
    return loss(
        OneVsAll(), y_true, y_pred, class_weights,
        axis, ignore_class, sample_weight, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


def sigmoid_focal_loss(
    y_true: Any,
    y_pred: Any,
    class_weights: Any = None,
    *,
    gamma: float = 0.5,
    axis: int = -1,
    ignore_class: int | None = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Tensor:
    """Class-balanced focal loss, summed over classes (eq. 13): w * -sum_c (1 - p_c^t)^gamma log p_c^t.

    `gamma` >= 0 is the focusing parameter, 0 gives `sigmoid_cross_entropy`; everything else as there.

    Examples
    --------
    >>> logits = [[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]]
    >>> round(float(sigmoid_focal_loss([0, 1], logits, gamma=2.0)), 4)
    1.58
    """
    return loss(
        OneVsAll(checks.gamma(arguments.plain(gamma))), y_true, y_pred, class_weights,
        axis, ignore_class, sample_weight, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]  # it would add a second to the first graph
def loss(
    kind: Kind,
    y_true: Any,
    y_pred: Any,
    class_weights: Any,
    axis: int,
    ignore_class: int | None,
    sample_weight: Any,
    reduction: str,
    label_smoothing: float,
    unlabelled_weight: float | None,
    *,
    warn: bool = True,
) -> Tensor:
    """Return a loss in the order of the arguments above."""
    if warn:
        arguments.warn_of_probabilities(y_pred)
    if class_weights is not None:
        class_weights = arguments.class_weights(class_weights)
    label_smoothing = checks.loss_options(reduction, arguments.plain(label_smoothing))
    unlabelled_weight = checks.unlabelled_weight(arguments.plain(unlabelled_weight))
    ignore_class = checks.ignored(arguments.plain(ignore_class), "ignore_class")
    y_pred = tf.convert_to_tensor(unmasked(y_pred, "y_pred"))
    axis = shapes.class_axis(y_true, y_pred, axis)
    y_true = shapes.targets(y_true, y_pred, axis)
    valid = None
    if y_true.dtype.is_integer:
        y_true = tf.cast(y_true, tf.int64)
        if ignore_class is not None:
            valid = y_true != ignore_class
    if class_weights is not None:
        class_weights = shapes.class_weights(class_weights, y_pred, axis)
    if sample_weight is not None:
        sample_weight = tf.convert_to_tensor(unmasked(sample_weight, "sample_weight"))
        sample_weight = shapes.per_sample(sample_weight, y_pred, axis, name="sample_weight")
    return formulas.class_balanced_loss(
        ops, closed(kind).sample_loss, y_pred, y_true, class_weights,
        axis=axis, valid=valid, sample_weight=sample_weight, reduction=reduction, label_smoothing=label_smoothing,
        unlabelled_weight=unlabelled_weight,
    )  # fmt: skip

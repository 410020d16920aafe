"""What shapes say, before values are known: which labels are class indices, and that nothing broadcasts.

Graphs may leave sizes open (None). What can be checked is checked while the graph is built, the rest when it runs.
"""

from typing import Any, TypeAlias

import tensorflow as tf

from cbcore import _checks as checks

Tensor: TypeAlias = Any

NAMES = ("y_pred", "y_true")


def class_axis(y_pred: Tensor, axis: int) -> int:
    """Check the logits; return their class axis counted from the front."""
    checks.floating_logits(y_pred.dtype.is_floating, y_pred.dtype.name, logits="y_pred")
    checks.known_rank(y_pred.shape.rank, name="y_pred")
    return checks.class_axis(y_pred.shape, axis, logits="y_pred", axis_name="axis")


def labels(y_true: Any, y_pred: Tensor, axis: int) -> Tensor:
    """Return labels as a tensor, class indices without the class axis of size 1 that Keras gives them.

    The shape tells dense labels from class indices, never the dtype: Keras turns all labels into floats. Labels in
    the shape of `y_pred` are dense, even if that has a single class.
    """
    y_true = tf.convert_to_tensor(y_true)
    rank = y_true.shape.rank
    checks.known_rank(rank, name="y_true")
    if rank != y_pred.shape.rank:
        return y_true
    dense = y_true.shape.is_compatible_with(y_pred.shape)
    samples = _without(y_pred.shape, axis)
    ones = [
        i
        for i in (axis, rank - 1)
        if y_true.shape[i] in (1, None) and _without(y_true.shape, i).is_compatible_with(samples)
    ]
    if dense and ones and y_pred.shape[axis] != 1:
        checks.index_or_dense(y_true.shape, y_pred.shape, names=NAMES)
    return tf.squeeze(y_true, ones[0]) if ones and not dense else y_true


def targets(y_true: Tensor, y_pred: Tensor, axis: int) -> Tensor:
    """Check labels against the logits; return integers (class indices), or floats in the shape of the logits."""
    kind, samples = y_true.dtype, _without(y_pred.shape, axis)
    if y_true.shape.is_compatible_with(y_pred.shape) and (kind.is_integer or kind.is_bool):
        y_true = tf.cast(y_true, tf.float32)
    elif not y_true.shape.is_compatible_with(y_pred.shape if kind.is_floating else samples) or not (
        kind.is_integer or kind.is_floating
    ):
        checks.targets(
            y_true.shape,
            kind.name,
            is_integer=kind.is_integer,
            is_floating=kind.is_floating,
            logits_shape=y_pred.shape,
            axis=axis,
            names=NAMES,
        )
    return _sized_like(y_pred, y_true, None if y_true.dtype.is_floating else axis, name="y_true")


def per_sample(x: Tensor, y_pred: Tensor, axis: int, *, name: str) -> Tensor:
    """Check a mask or weight that has one entry a sample."""
    if not x.shape.is_compatible_with(_without(y_pred.shape, axis)):
        checks.per_sample(x.shape, y_pred.shape, axis, name=name)
    return _sized_like(y_pred, x, axis, name=name)


def keras_sample_weight(x: Any, y_pred: Tensor, axis: int) -> None:
    """Check what Keras would broadcast in silence: weights (N,) of samples (N, N)."""
    shape, samples = tf.convert_to_tensor(x).shape, _without(y_pred.shape, axis)
    same_rank = shape.rank in (None, 0, samples.rank)
    one_more = shape.rank == samples.rank + 1 and shape[-1] in (1, None)
    if not (same_rank or one_more):
        checks.per_sample(shape, y_pred.shape, axis, name="sample_weight")


def class_weights(x: Tensor, y_pred: Tensor, axis: int) -> Tensor:
    """Check that there is one weight for each class."""
    if not x.shape.is_compatible_with([y_pred.shape[axis]]):
        checks.weights_shape(x.shape, y_pred.shape[axis])
    return tf.ensure_shape(x, [y_pred.shape[axis]])


def _sized_like(y_pred: Tensor, x: Tensor, axis: int | None, *, name: str) -> Tensor:
    """Return `x`, which must at run time have the size of `y_pred`, without `axis` if given."""
    if x.shape.is_fully_defined() and y_pred.shape.is_fully_defined():
        return x
    size = tf.shape(y_pred)
    if axis is not None:
        size = tf.concat([size[:axis], size[axis + 1 :]], 0)
    # Graphs keep the assertion but optimise the reshape away; XLA the other way round.
    text = f"{name} must have the size of y_pred" + ("" if axis is None else " without the class axis")
    with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(x), size, text)]):
        return tf.reshape(x, size)


def _without(shape: Any, axis: int) -> Any:
    return shape[:axis].concatenate(shape[axis + 1 :])

"""What shapes say, before values are known: which labels are class indices, and that nothing broadcasts.

Graphs may leave sizes open (None). What can be checked is checked while the graph is built, the rest when it runs.
"""

from typing import Any, TypeAlias

import tensorflow as tf

from cbcore import _checks as checks
from cbcore._arrays import unmasked
from cbcore_tf import _arguments as arguments

Tensor: TypeAlias = Any

NAMES = ("y_pred", "y_true")


def class_axis(y_pred: Tensor, axis: int, y_true: Any = None) -> int:
    """Check the logits; return their class axis counted from the front."""
    if not y_pred.dtype.is_floating:
        swapped = y_true is not None and tf.convert_to_tensor(y_true).dtype.is_floating
        checks.floating_logits(False, y_pred.dtype.name, logits="y_pred", targets="y_true" if swapped else None)
    checks.known_rank(y_pred.shape.rank, name="y_pred")
    return checks.class_axis(y_pred.shape, arguments.plain(axis), logits="y_pred", axis_name="axis")


def labels(y_true: Any, y_pred: Tensor, axis: int) -> Tensor:
    """Return labels as a tensor, class indices without the class axis of size 1 that Keras gives them.

    The shape tells dense labels from class indices, never the dtype: Keras turns all labels into floats. Labels in
    the shape of `y_pred` are dense, even if that has a single class.
    """
    y_true = tf.convert_to_tensor(unmasked(y_true, "y_true"))
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
    """Check labels against the logits; return integers (class indices), or floats in the shape of the logits.

    Floats in the shape of class indices are what Keras makes of integers.
    """
    samples = _without(y_pred.shape, axis)
    if y_true.dtype.is_floating and y_true.shape.rank < y_pred.shape.rank and y_true.shape.is_compatible_with(samples):
        if y_pred.shape[axis] == 1:
            checks.one_class(y_true.shape, y_pred.shape, names=NAMES)
        nowhere = tf.int64.min  # an index that is no whole number gets NaN, not the class below it
        y_true = tf.where(y_true == tf.floor(y_true), tf.cast(y_true, tf.int64), nowhere)
    kind = y_true.dtype
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


def keras_sample_weight(x: Any, y_pred: Tensor, axis: int) -> Tensor:
    """Return a sample weight with one entry a sample, as Keras would broadcast it: (N, 1) and () to (N, T).

    Keras itself broadcasts only the product, and so divides by too little where it divides by the weights. What it
    broadcasts to another meaning, weights (N,) of samples (N, N), is an error.
    """
    x = tf.convert_to_tensor(unmasked(x, "sample_weight"))
    rank, samples = x.shape.rank, _without(y_pred.shape, axis)
    checks.known_rank(rank, name="sample_weight")
    if rank == samples.rank + 1 and x.shape[-1] in (1, None):
        x = tf.squeeze(x, -1)
    elif rank not in (0, samples.rank):
        checks.per_sample(x.shape, y_pred.shape, axis, name="sample_weight")
    sizes = list(zip(x.shape, samples, strict=True)) if rank else []
    if any(None not in (a, b) and a not in (1, b) for a, b in sizes):
        checks.per_sample(x.shape, y_pred.shape, axis, name="sample_weight")
    if sizes and all(a == b and (a is not None or i == 0) for i, (a, b) in enumerate(sizes)):
        return x  # two open batch sizes are one
    size = tf.shape(y_pred)
    return tf.broadcast_to(x, tf.concat([size[:axis], size[axis + 1 :]], 0))


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

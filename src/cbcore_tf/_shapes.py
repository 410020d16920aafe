"""What shapes say, before values are known: which labels are class indices, and that nothing broadcasts.

Graphs may leave sizes open (None). What can be checked is checked while the graph is built, the rest when it runs.
"""

from typing import Any, TypeAlias

import tensorflow as tf

from cbcore import _checks as checks
from cbcore._arrays import unmasked
from cbcore_tf import _arguments as arguments

Tensor: TypeAlias = Any


def class_axis(y_true: Any, y_pred: Tensor, axis: int) -> int:
    """Check the logits; return their class axis counted from the front."""
    logits, axis = _about(y_pred, "y_pred"), arguments.plain(axis)
    if logits.kind != "f":
        checks.floating(logits, _about(tf.convert_to_tensor(y_true), "y_true"))
    _check_rank(logits)
    front = checks.class_axis(logits, axis, "axis")
    if logits.shape[front] is None:
        raise ValueError(
            f"y_pred must have a known number of classes on axis {axis}, got shape {logits.shape}; set it with "
            "y_pred.set_shape(...)"
        )
    return front


def targets(y_true: Any, y_pred: Tensor, axis: int, *, of_keras: bool = False) -> Tensor:
    """Check labels against the logits; return integers (class indices), or floats in the shape of the logits.

    The shape tells dense labels from class indices, never the dtype: Keras turns all labels into floats. Class indices
    may have an axis of size 1 in place of the class axis or at the end, as Keras gives them. Labels in the shape of
    `y_pred` are dense, even if that has a single class; then floats without it, and all that Keras passes on, are none.
    """
    y_true = tf.convert_to_tensor(unmasked(y_true, "y_true"))
    labels, logits = _about(y_true, "y_true"), _about(y_pred, "y_pred")
    _check_rank(labels)
    samples, rank, one_class = _without(logits.shape, axis), len(logits.shape), logits.shape[axis] == 1
    dense = checks.fits(labels.shape, logits.shape)
    if len(labels.shape) == rank:
        ones = [
            i
            for i in (axis, rank - 1)
            if labels.shape[i] in (1, None) and checks.fits(_without(labels.shape, i), samples)
        ]
        if ones and dense and not one_class:
            raise ValueError(
                f"y_true must show whether it holds class indices or has the shape of y_pred, {logits.shape}; got "
                f"{labels.shape}, which may become either; set it with y_true.set_shape(...), e.g. in Dataset.map"
            )
        if ones and not dense:
            y_true = tf.squeeze(y_true, ones[0])
            labels = _about(y_true, "y_true")
    if len(labels.shape) < rank and checks.fits(labels.shape, samples) and (of_keras or labels.kind == "f"):
        if one_class:
            raise ValueError(
                f"y_true must have the shape of y_pred, {logits.shape}, where that has a single class (0 and 1, as "
                f"multi-hot labels); got {labels.shape}, class indices; give y_true a class axis"
            )
        if labels.kind == "f":
            nowhere = tf.int64.min  # an index that is no whole number gets NaN, not the class below it
            y_true = tf.where(y_true == tf.floor(y_true), tf.cast(y_true, tf.int64), nowhere)
    elif dense and (labels.kind == "i" or y_true.dtype.is_bool):
        y_true = tf.cast(y_true, tf.float32)
    checks.fitting(_about(y_true, "y_true"), logits, samples)
    return _sized_like(y_pred, y_true, None if y_true.dtype.is_floating else axis, name="y_true")


def per_sample(x: Tensor, y_pred: Tensor, axis: int, *, name: str) -> Tensor:
    """Check a mask or weight that has one entry a sample."""
    checks.per_sample(_about(x, name), _without(tuple(y_pred.shape), axis))
    return _sized_like(y_pred, x, axis, name=name)


def keras_sample_weight(x: Any, y_pred: Tensor, axis: int) -> Tensor:
    """Return a sample weight with one entry a sample, as Keras would broadcast it: (N, 1) and () to (N, T).

    Keras itself broadcasts only the product, and so divides by too little where it divides by the weights. What it
    broadcasts to another meaning, weights (N,) of samples (N, N), is an error.
    """
    x = tf.convert_to_tensor(unmasked(x, "sample_weight"))
    _check_rank(_about(x, "sample_weight"))
    samples = _without(tuple(y_pred.shape), axis)
    if x.shape.rank == len(samples) + 1 and x.shape[-1] in (1, None):
        x = tf.squeeze(x, -1)
    sizes = list(zip(x.shape, samples, strict=False))
    if x.shape.rank not in (0, len(samples)) or not all(a in (1, b, None) or b is None for a, b in sizes):
        checks.per_sample(_about(x, "sample_weight"), samples)
    if sizes and all(a == b and (a is not None or i == 0) for i, (a, b) in enumerate(sizes)):
        return x  # two open batch sizes are one
    size = tf.shape(y_pred)
    return tf.broadcast_to(x, tf.concat([size[:axis], size[axis + 1 :]], 0))


def class_weights(x: Tensor, y_pred: Tensor, axis: int) -> Tensor:
    """Check that there is one weight for each class."""
    checks.weights(_about(x, "class_weights"), y_pred.shape[axis])
    return tf.ensure_shape(x, [y_pred.shape[axis]])


def _about(x: Tensor, name: str) -> checks.About:
    kind = "f" if x.dtype.is_floating else "i" if x.dtype.is_integer else ""
    return checks.About(name, None if x.shape.rank is None else tuple(x.shape), x.dtype.name, kind)


def _check_rank(x: checks.About) -> None:
    if x.shape is None:
        raise ValueError(
            f"{x.name} must have a known number of axes, got a shape that is wholly unknown; set it with "
            f"{x.name}.set_shape(...), e.g. in Dataset.map"
        )


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


def _without(shape: tuple[int | None, ...], axis: int) -> tuple[int | None, ...]:
    return shape[:axis] + shape[axis + 1 :]

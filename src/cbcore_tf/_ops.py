"""The primitives of `cbcore._ops.Ops` in TensorFlow.

tf.sigmoid and tf.math.log_sigmoid keep 5e-7 relative (float32; 1e-15 float64) down to -87, eager, in graphs and under
XLA, their gradients included. Below that TensorFlow flushes float32 to zero.
"""

from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

try:  # not public, and not needed for the numbers
    from tensorflow.python.ops import control_flow_util as _contexts
except ImportError:  # pragma: no cover
    _contexts = None

Tensor: TypeAlias = Any

exp = tf.exp
sigmoid = tf.sigmoid
log_sigmoid = tf.math.log_sigmoid


def sqrt(x: Tensor, /) -> Tensor:
    return tf.sqrt(tf.maximum(x, x.dtype.as_numpy_dtype(np.finfo(x.dtype.as_numpy_dtype).tiny)))


def upcast(x: Tensor, /) -> Tensor:
    return tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x


def cast(x: Tensor, like: Tensor, /) -> Tensor:
    return tf.cast(x, like.dtype)


def is_floating(x: Tensor, /) -> bool:
    return bool(x.dtype.is_floating)


def log_softmax(x: Tensor, axis: int, /) -> Tensor:
    return tf.nn.log_softmax(x, axis)


def where(condition: Tensor, x: Tensor, y: Tensor, /) -> Tensor:
    # A graph takes a Python number before a float64 tensor for a float32.
    return tf.where(condition, x if tf.is_tensor(x) else tf.constant(x, y.dtype), y)


def sum(x: Tensor, axis: int | None = None, /) -> Tensor:  # noqa: A001
    return tf.reduce_sum(x, axis)


def size(x: Tensor, /) -> Tensor:
    return tf.cast(tf.maximum(tf.size(x), 1), x.dtype)


def expand_dims(x: Tensor, axis: int, /) -> Tensor:
    return tf.expand_dims(x, axis)


def one_hot(index: Tensor, size: int, axis: int, /) -> Tensor:
    return tf.one_hot(index, size, True, False, -1 if axis == index.shape.rank else axis, tf.bool)


def take(values: Tensor, index: Tensor, /) -> Tensor:
    return tf.gather(values, index)


def pick(x: Tensor, index: Tensor, axis: int, /) -> Tensor:
    return tf.reduce_sum(tf.where(one_hot(index, x.shape[axis], axis), x, 0.0), axis)


def under_xla() -> bool:
    """Tell whether XLA is going to compile what is traced now."""
    if _contexts is None or tf.executing_eagerly():
        return False
    return bool(_contexts.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))

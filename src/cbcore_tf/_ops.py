"""The primitives of `cbcore._ops.Ops` in TensorFlow.

tf.sigmoid and tf.nn.softplus keep 5e-7 relative (float32; 1e-15 float64) down to -87, eager, in graphs and under
XLA, their gradients included. Below that TensorFlow flushes float32 to zero.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

try:  # not public, and not needed for the numbers
    from tensorflow.python.ops import control_flow_util as _contexts
except ImportError:  # pragma: no cover
    _contexts = None

Tensor: TypeAlias = Any

exp = tf.exp
log = tf.math.log
sigmoid = tf.sigmoid
softplus = tf.nn.softplus


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


def max(x: Tensor, axis: int, /) -> Tensor:  # noqa: A001
    return tf.stop_gradient(tf.reduce_max(x, axis))


def size(x: Tensor, /) -> Tensor:
    return tf.cast(tf.maximum(tf.size(x), 1), x.dtype)


def expand_dims(x: Tensor, axis: int, /) -> Tensor:
    return tf.expand_dims(x, axis)


def one_hot(index: Tensor, size: int, axis: int, /) -> Tensor:
    return tf.one_hot(index, size, True, False, -1 if axis == index.shape.rank else axis, tf.bool)


def flip(x: Tensor, index: Tensor, axis: int, /) -> Tensor:
    return put(x, index, axis, tf.negative)


def take(values: Tensor, index: Tensor, /) -> Tensor:
    return tf.gather(values, index)


def pick(x: Tensor, index: Tensor, axis: int, /) -> Tensor:
    if axis == x.shape.rank - 1:
        return tf.gather(x, index, batch_dims=axis)
    return tf.reduce_sum(tf.where(one_hot(index, x.shape[axis], axis), x, 0.0), axis)


def put(x: Tensor, index: Tensor, axis: int, function: Callable[[Tensor], Tensor], /) -> Tensor:
    """Return x with function(x) at `index`, which is in range, without a pass over all of x where that can be."""
    if axis != x.shape.rank - 1:
        return tf.where(one_hot(tf.cast(index, tf.int32), x.shape[axis], axis), function(x), x)  # int64 is slower
    rows = tf.reshape(x, (-1, x.shape[axis]))
    index = tf.cast(tf.reshape(index, (-1,)), tf.int32)  # tf.vectorized_map makes int32 of a range whatever is asked
    at = tf.stack((tf.range(tf.size(index)), index), 1)
    return tf.reshape(tf.tensor_scatter_nd_update(rows, at, function(tf.gather_nd(rows, at))), tf.shape(x))


def under_xla() -> bool:
    """Tell whether XLA is going to compile what is traced now."""
    if _contexts is None or tf.executing_eagerly():
        return False
    return bool(_contexts.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))

"""The sample losses with their gradients in closed form, up to twice as fast as autodiff of `cbcore._formulas`.

Gradients are made again from the logits, never from tensors of the forward pass: only so can they be differentiated
once more in eager mode. Without XLA every operation is a pass over the logits: few and TensorFlow's own are fastest.
XLA makes one pass of many, but stores what is costly and used twice, so there forward and gradient share nothing.
"""

import functools
import operator
from typing import Any, TypeAlias

import tensorflow as tf

from cbcore import _formulas as formulas
from cbcore._ops import Ops
from cbcore_tf._ops import one_hot, sqrt, under_xla

Tensor: TypeAlias = Any


def softmax_cross_entropy(ops: Ops, logits: Tensor, targets: Tensor, axis: int, label_smoothing: float) -> Tensor:
    """Return -sum_c t_c log softmax(z)_c for each sample; its gradient is softmax(z) sum_c t_c - t."""
    if ops.is_floating(targets) or label_smoothing:
        return _soft_cross_entropy(logits, _dense(ops, targets, logits, axis, label_smoothing), axis)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sample_losses(z: Tensor) -> tuple[Tensor, Any]:
        def gradient(upstream: Tensor) -> Tensor:
            _, powers, total = _exp(z, axis)
            return (powers / total - _one_hot(targets, z, axis, 1.0, 0.0)) * tf.expand_dims(upstream, axis)

        top, _, total = _exp(z, axis)
        # Not log(total) + top - z_y: rounding log(total) + top loses small losses of large logits.
        return tf.squeeze(tf.math.log(total), axis) - (_at(z, targets, axis) - tf.squeeze(top, axis)), gradient

    return sample_losses(logits)


def sigmoid_focal_loss(gamma: float) -> formulas.SampleLoss:
    """Return the sample loss sum_c t_c f(-z_c) + (1 - t_c) f(z_c), f(v) = sigmoid(v)^gamma softplus(v)."""

    def sample_loss(ops: Ops, logits: Tensor, targets: Tensor, axis: int, label_smoothing: float) -> Tensor:
        if ops.is_floating(targets) or label_smoothing:
            return _soft_focal_loss(logits, _dense(ops, targets, logits, axis, label_smoothing), axis, gamma)
        use_xla = under_xla()  # asked here: the gradient may be traced when the compiled function is left already

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def sample_losses(z: Tensor) -> tuple[Tensor, Any]:
            def gradient(upstream: Tensor) -> Tensor:
                slope = _slope(_flip(z, targets, axis, use_xla), gamma, use_xla) * tf.expand_dims(upstream, axis)
                return _flip(slope, targets, axis, use_xla)

            return tf.reduce_sum(_term(_flip(z, targets, axis, use_xla), gamma, use_xla), axis), gradient

        return sample_losses(logits)

    return sample_loss


def _soft_cross_entropy(logits: Tensor, targets: Tensor, axis: int) -> Tensor:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sample_losses(z: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            top, powers, total = _exp(z, axis)
            upstream = tf.expand_dims(upstream, axis)
            of_z = (powers / total * tf.reduce_sum(t, axis, keepdims=True) - t) * upstream
            return of_z, _finite(tf.math.log(total) - (z - top)) * upstream

        top, _, total = _exp(z, axis)
        return tf.reduce_sum(_times(t, tf.math.log(total) - (z - top)), axis), gradient

    return sample_losses(logits, targets)


def _soft_focal_loss(logits: Tensor, targets: Tensor, axis: int, gamma: float) -> Tensor:
    use_xla = under_xla()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sample_losses(z: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            upstream = tf.expand_dims(upstream, axis)
            missed, raised = _slope(-z, gamma, use_xla), _slope(z, gamma, use_xla)
            of_t = _term(-z, gamma, use_xla) - _term(z, gamma, use_xla)
            return ((1.0 - t) * raised - t * missed) * upstream, _finite(of_t) * upstream

        terms = _times(t, _term(-z, gamma, use_xla)) + _times(1.0 - t, _term(z, gamma, use_xla))
        return tf.reduce_sum(terms, axis), gradient

    return sample_losses(logits, targets)


def _dense(ops: Ops, targets: Tensor, logits: Tensor, axis: int, label_smoothing: float) -> Tensor:
    """Return targets in the shape of the logits, smoothed."""
    if not ops.is_floating(targets):
        targets = _one_hot(targets, logits, axis, 1.0, 0.0)
    return (1 - label_smoothing) * targets + label_smoothing / logits.shape[axis] if label_smoothing else targets


def _times(t: Tensor, x: Tensor) -> Tensor:
    """Return t x, and 0 where t = 0 whatever x: a class that an infinite logit rules out adds nothing."""
    return tf.math.multiply_no_nan(x, t)


def _finite(x: Tensor) -> Tensor:
    """Return a slope, and 0 where it is infinite: one step on, it would meet the zero slope of what made the target."""
    return tf.where(tf.math.is_inf(x), tf.zeros_like(x), x)


def _exp(z: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return max(z), exp(z - max(z)) and its sum along `axis`, which stays."""
    top = tf.stop_gradient(tf.reduce_max(z, axis, keepdims=True))
    powers = tf.exp(z - top)
    return top, powers, tf.reduce_sum(powers, axis, keepdims=True)


def _at(z: Tensor, index: Tensor, axis: int) -> Tensor:
    if axis == z.shape.rank - 1:
        return tf.gather(z, index, batch_dims=axis)
    hot = _one_hot(index, z, axis, 1.0, 0.0) > 0
    return tf.reduce_sum(tf.where(hot, z, tf.zeros_like(z)), axis)  # by choice, not by product: z may be infinite


def _one_hot(index: Tensor, like: Tensor, axis: int, on: float, off: float) -> Tensor:
    last = axis == like.shape.rank - 1
    return tf.one_hot(index, like.shape[axis], on, off, -1 if last else axis, like.dtype)


def _flip(x: Tensor, index: Tensor, axis: int, use_xla: bool) -> Tensor:
    """Change the sign of one entry of each sample."""
    if use_xla or axis != x.shape.rank - 1:
        return tf.where(one_hot(tf.cast(index, tf.int32), x.shape[axis], axis), -x, x)  # int64 is slower
    rows = tf.reshape(x, (-1, x.shape[axis]))
    index = tf.cast(tf.reshape(index, (-1,)), tf.int32)  # tf.vectorized_map makes int32 of a range whatever is asked
    at = tf.stack((tf.range(tf.size(index)), index), 1)
    return tf.reshape(tf.tensor_scatter_nd_update(rows, at, -tf.gather_nd(rows, at)), tf.shape(x))


def _term(v: Tensor, gamma: float, use_xla: bool) -> Tensor:
    """Return f(v)."""
    softplus = _softplus(v, use_xla)
    return softplus * _power(_sigmoid(v, gamma, use_xla), v, gamma, use_xla) if gamma else softplus


def _slope(v: Tensor, gamma: float, use_xla: bool) -> Tensor:
    """Return f'(v) = sigmoid(v)^gamma (gamma (1 - sigmoid(v)) softplus(v) + sigmoid(v))."""
    sigmoid = _sigmoid(v, gamma, use_xla)
    if not gamma:
        return sigmoid
    rest = tf.sigmoid(-v)  # 1 - sigmoid would lose digits
    return _power(sigmoid, v, gamma, use_xla) * (gamma * _times(rest, _softplus(v, use_xla)) + sigmoid)


def _power(sigmoid: Tensor, v: Tensor, gamma: float, use_xla: bool) -> Tensor:
    """Return sigmoid(v)^gamma: its whole power a product, its broken one a root or an exp(log)."""
    whole, part = int(gamma), gamma - int(gamma)
    factors = [sigmoid] * whole
    if part == 0.5:
        factors.append(sqrt(sigmoid))
    elif part:
        factors.append(tf.exp(-part * _softplus(-v, use_xla)))
    return functools.reduce(operator.mul, factors)


def _sigmoid(v: Tensor, gamma: float, use_xla: bool) -> Tensor:
    """Return sigmoid(v) for a power of it; outside XLA TensorFlow's is off by 4e-7, which larger powers multiply."""
    if use_xla or gamma <= 2:
        return tf.sigmoid(v)
    small = tf.exp(tf.minimum(-v, v))
    return tf.where(v < 0, small, 1.0) / (1.0 + small)


def _softplus(v: Tensor, use_xla: bool) -> Tensor:
    return _fusible_softplus(v) if use_xla else tf.nn.softplus(v)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _fusible_softplus(v: Tensor) -> tuple[Tensor, Any]:
    large = tf.abs(v)
    if v.dtype == tf.float32:  # a fraction that uses its exp once: XLA would store one that is used twice
        small = formulas.twice_atanh(1.0 / (1.0 + 2.0 * tf.exp(large)))
    else:
        small = tf.math.log1p(tf.exp(-large))
    return tf.nn.relu(v) + small, lambda upstream: upstream * tf.sigmoid(v)

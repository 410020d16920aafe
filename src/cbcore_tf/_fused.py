"""The sample losses with their gradients in closed form, up to twice as fast as autodiff of `cbcore._formulas`.

Gradients are made again from the logits, never from tensors of the forward pass: only so can they be differentiated
once more in eager mode. In graphs and under XLA the two passes share what they have in common.
"""

import functools
import operator
from typing import Any, TypeAlias

import tensorflow as tf

from cbcore import _formulas as formulas
from cbcore._ops import Ops
from cbcore_tf._ops import sqrt

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
        flip = _one_hot(targets, logits, axis, -1.0, 1.0)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def sample_losses(z: Tensor) -> tuple[Tensor, Any]:
            v = z * flip

            def gradient(upstream: Tensor) -> Tensor:
                v = z * flip
                return _slope(v, _small(v), gamma) * (flip * tf.expand_dims(upstream, axis))

            return tf.reduce_sum(_term(v, _small(v), gamma), axis), gradient

        return sample_losses(logits)

    return sample_loss


def _soft_cross_entropy(logits: Tensor, targets: Tensor, axis: int) -> Tensor:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sample_losses(z: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            top, powers, total = _exp(z, axis)
            upstream = tf.expand_dims(upstream, axis)
            of_z = (powers / total * tf.reduce_sum(t, axis, keepdims=True) - t) * upstream
            return of_z, (tf.math.log(total) - (z - top)) * upstream

        top, _, total = _exp(z, axis)
        return tf.reduce_sum(t * (tf.math.log(total) - (z - top)), axis), gradient

    return sample_losses(logits, targets)


def _soft_focal_loss(logits: Tensor, targets: Tensor, axis: int, gamma: float) -> Tensor:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sample_losses(z: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            small, upstream = _small(z), tf.expand_dims(upstream, axis)
            missed, raised = _slope(z, small, gamma, minus=True), _slope(z, small, gamma)
            of_t = _term(z, small, gamma, minus=True) - _term(z, small, gamma)
            return ((1.0 - t) * raised - t * missed) * upstream, of_t * upstream

        small = _small(z)
        terms = t * _term(z, small, gamma, minus=True) + (1.0 - t) * _term(z, small, gamma)
        return tf.reduce_sum(terms, axis), gradient

    return sample_losses(logits, targets)


def _dense(ops: Ops, targets: Tensor, logits: Tensor, axis: int, label_smoothing: float) -> Tensor:
    """Return targets in the shape of the logits, smoothed."""
    if not ops.is_floating(targets):
        targets = _one_hot(targets, logits, axis, 1.0, 0.0)
    return (1 - label_smoothing) * targets + label_smoothing / logits.shape[axis] if label_smoothing else targets


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


def _term(z: Tensor, small: Tensor, gamma: float, minus: bool = False) -> Tensor:
    """Return f(z), or f(-z); this and all below take small = exp(-|z|)."""
    softplus = _softplus(z, small, minus)
    return softplus * _power(z, small, gamma, minus) if gamma else softplus


def _slope(z: Tensor, small: Tensor, gamma: float, minus: bool = False) -> Tensor:
    """Return f'(z) = sigmoid(z)^gamma (gamma sigmoid(-z) softplus(z) + sigmoid(z)), or f'(-z)."""
    sigmoid = _sigmoid(z, small, minus)
    if not gamma:
        return sigmoid
    rest = _sigmoid(z, small, not minus)  # 1 - sigmoid would lose digits
    return _power(z, small, gamma, minus) * (gamma * rest * _softplus(z, small, minus) + sigmoid)


def _power(z: Tensor, small: Tensor, gamma: float, minus: bool) -> Tensor:
    """Return sigmoid(z)^gamma, or of -z: its whole power a product, its broken one a root or an exp(log)."""
    whole, part = int(gamma), gamma - int(gamma)
    sigmoid = _sigmoid(z, small, minus)
    factors = [sigmoid] * whole
    if part == 0.5:
        factors.append(sqrt(sigmoid))
    elif part:
        factors.append(tf.exp(-part * _softplus(z, small, not minus)))
    return functools.reduce(operator.mul, factors)


def _small(z: Tensor) -> Tensor:
    """Return exp(-|z|), of which all else is made; tf.nn.softplus would hide it, and XLA compute it twice.

    At z = 0 the derivatives of minimum, maximum and relu are a matter of convention. TensorFlow's, in the order that
    arguments have here and below, make those of `_softplus` and `_sigmoid` right.
    """
    return tf.exp(tf.minimum(-z, z))


def _softplus(z: Tensor, small: Tensor, minus: bool) -> Tensor:
    return (tf.nn.relu(-z) if minus else tf.maximum(z, 0.0)) + tf.math.log1p(small)


def _sigmoid(z: Tensor, small: Tensor, minus: bool) -> Tensor:
    return tf.where(z >= 0 if minus else z < 0, small, 1.0) / (1.0 + small)

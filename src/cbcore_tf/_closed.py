"""The losses of samples with their gradients in closed form, up to twice as fast as autodiff.

Gradients are made again from the logits, never from tensors of the forward pass: only so can they be differentiated
once more in eager mode. Without XLA every operation is a pass over the logits: few and TensorFlow's own are fastest.
XLA makes one pass of many, but stores what is costly and used twice, so there forward and gradient share nothing.
"""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from cbcore import _formulas as formulas
from cbcore import _kinds as kinds
from cbcore._kinds import InBlocks, Kind, Stats
from cbcore._ops import Ops
from cbcore_tf import _ops

Tensor: TypeAlias = Any


def closed(kind: Kind) -> Kind:
    """Return the same loss with a closed gradient; a kind that is not known here as it is."""
    return Closed(kind) if type(kind) is kinds.Softmax or type(kind) is kinds.OneVsAll else kind


class Closed(NamedTuple):
    """A kind whose gradient is its slope."""

    kind: kinds.Softmax | kinds.OneVsAll

    def sample_loss(self, _: Ops, logits: Tensor, targets: Tensor, axis: int, label_smoothing: float, /) -> Tensor:
        """As `Kind`."""
        # Asked here: the gradient may be traced when the compiled function is left already.
        kind, ops = _fastest(self.kind, logits.shape, axis)
        targets = kinds.smoothed(ops, logits, targets, axis, label_smoothing)
        dense = [targets] if ops.is_floating(targets) else []

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def sample_losses(z: Tensor, *soft: Tensor) -> tuple[Tensor, Any]:
            t = soft[0] if soft else targets

            def gradient(upstream: Tensor) -> Any:
                # One-vs-all needs none, and eager mode would compute them.
                stats = () if isinstance(kind, OneVsAll) else kind.partial(ops, z, t, axis)
                upstream = tf.expand_dims(upstream, axis)
                of_z = kind.slope(ops, z, t, stats, axis) * upstream
                return (of_z, _of_targets(kind, ops, z, stats, axis) * upstream) if soft else of_z

            return kind.finish(ops, kind.partial(ops, z, t, axis)), gradient

        return sample_losses(logits, *dense)


def _fastest(kind: kinds.Softmax | kinds.OneVsAll, shape: Any, axis: int) -> tuple[InBlocks, Ops]:
    """Return the kind and the primitives for what is being built."""
    own = OneVsAll(kind.gamma) if isinstance(kind, kinds.OneVsAll) else Softmax()
    if _ops.under_xla():
        return own, _fusible(shape, axis)
    if isinstance(own, OneVsAll):
        return own, _EXACT if own.gamma > 2 else _ops
    return own if _is_small(shape) else NativeSoftmax(), _ops


class Softmax(kinds.Softmax):
    """With 0 log 0 = 0 by the product, which is one pass.

    Closed gradients pass through no infinity, so that none has to be left out before.
    """

    def weighted(self, _: Ops, t: Tensor, below: Tensor, /) -> Tensor:
        """As there."""
        return tf.math.multiply_no_nan(below, t)


class OneVsAll(kinds.OneVsAll):
    """Likewise."""

    def weighted(self, ops: Ops, z: Tensor, t: Tensor, of: Callable[[Ops, Tensor], Tensor], /) -> tuple[Tensor, Tensor]:
        """As there."""
        return tf.math.multiply_no_nan(of(ops, -z), t), tf.math.multiply_no_nan(of(ops, z), 1.0 - t)


class NativeSoftmax(Softmax):
    """Around TensorFlow's own softmax, which takes a third of the time of the operations that it is made of.

    Its largest value is 1 / sum exp(z - max z).
    """

    def total(self, ops: Ops, z: Tensor, _: Tensor, axis: int, /) -> Tensor:
        """As there."""
        return 1.0 / ops.max(tf.nn.softmax(z, axis), axis)

    def slope(self, ops: Ops, z: Tensor, t: Tensor, stats: Stats, axis: int, /) -> Tensor:
        """As there."""
        p = tf.nn.softmax(z, axis)
        if ops.is_floating(t):
            return p * tf.expand_dims(stats[2], axis) - t
        return _ops.put(p, t, axis, lambda at: at - 1.0)


def _is_small(shape: Any) -> bool:
    """Tell whether overhead decides, if sizes are known."""
    return bool(shape.is_fully_defined() and shape.num_elements() < 1 << 14)


def _of_targets(kind: InBlocks, ops: Ops, z: Tensor, stats: Stats, axis: int) -> Tensor:
    """Return the derivative in dense targets, and 0 where it is infinite.

    One step on, that would meet the zero slope of what made the target.
    """
    if isinstance(kind, OneVsAll):
        slope = kind.term(ops, -z) - kind.term(ops, z)
    else:
        top, total = (tf.expand_dims(x, axis) for x in stats[:2])
        slope = tf.math.log(total) + (top - z)
    return tf.where(tf.math.is_inf(slope), tf.zeros_like(slope), slope)


def _exact_sigmoid(x: Tensor, /) -> Tensor:
    """Return the sigmoid for powers above 2: outside XLA TensorFlow's is off by 4e-7, which they multiply."""
    small = tf.exp(tf.minimum(-x, x))
    return tf.where(x < 0, small, 1.0) / (1.0 + small)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _fusible_softplus(x: Tensor, /) -> tuple[Tensor, Any]:
    large = tf.abs(x)
    if x.dtype == tf.float32:  # a fraction that uses its exp once: XLA would store one that is used twice
        small = formulas.twice_atanh(1.0 / (1.0 + 2.0 * tf.exp(large)))
    else:
        small = tf.math.log1p(tf.exp(-large))
    return tf.nn.relu(x) + small, lambda upstream: upstream * tf.sigmoid(x)


def _fusible(shape: Any, axis: int) -> Any:
    """Return the primitives for XLA.

    Labels are compared with class numbers that are made outside of it: made in the loop, they take XLA:CPU as long as
    the loss. To hand them in takes a small batch longer.
    """
    size = shape[axis]
    with contextlib.nullcontext() if _is_small(shape) else tf.init_scope():
        classes = tf.range(size)
    classes = tf.identity(classes)  # of this graph: a saved model refuses gradients that capture anything else

    def one_hot(index: Tensor, _: int, axis: int, /) -> Tensor:
        shape = [size] + [1] * (index.shape.rank - axis)
        return tf.expand_dims(tf.cast(index, tf.int32), axis) == tf.reshape(classes, shape)

    def flip(x: Tensor, index: Tensor, axis: int, /) -> Tensor:
        return tf.where(one_hot(index, size, axis), -x, x)

    return SimpleNamespace(**vars(_ops) | {"softplus": _fusible_softplus, "one_hot": one_hot, "flip": flip})


_EXACT: Any = SimpleNamespace(**vars(_ops) | {"sigmoid": _exact_sigmoid})

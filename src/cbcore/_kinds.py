"""What a loss is: a value that knows its formula, and for kernels, blocks of classes and shards its four verbs.

A faster path names the kinds that it knows and leaves all others to the formula. So a new kind is slow until a path is
taught, never wrong.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from cbcore import _formulas as formulas
from cbcore._ops import Array, Ops

Stats: TypeAlias = tuple[Array, ...]  # numbers of each sample

_HUGE = 3.4e38  # logits beyond are infinite; an infinity that is written out alarms frameworks that watch for them


class Kind(Protocol):
    """One of the losses below, or a new one."""

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """Return the loss of each sample, unweighted; targets are indices in range, or floats in the logits' shape."""


class InBlocks(Kind, Protocol):
    """A kind whose classes may come in blocks: of a kernel, of a linear layer, of a shard, or all in one.

    Targets `t` of a block are indices counted from its first class, which may lie outside of it, or floats in the shape
    of its logits `z`, smoothed already.
    """

    def partial(self, ops: Ops, z: Array, t: Array, axis: int, /) -> Stats:
        """Return what a block says of each sample."""

    def merge(self, ops: Ops, a: Stats, b: Stats, /) -> Stats:
        """Return what two blocks say together; their order and nesting change roundings alone."""

    def finish(self, ops: Ops, stats: Stats, /) -> Array:
        """Return the loss of each sample from what all classes say."""

    def slope(self, ops: Ops, z: Array, t: Array, stats: Stats, axis: int, /) -> Array:
        """Return the derivative of the loss of each sample in the logits of a block, given what all classes say."""


class Softmax(NamedTuple):
    """Softmax cross-entropy, -sum_c t_c log softmax(z)_c (eq. 7)."""

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """As `Kind`, from the framework's log softmax: eager PyTorch takes a third more for the gradient of parts."""
        log_p = ops.log_softmax(logits, axis)
        if ops.is_floating(targets):
            ruled_out = (targets == 0) & (log_p == -math.inf)
            loss = -ops.sum(targets * ops.where(ruled_out, 0.0, log_p), axis)  # 0 log 0 = 0
        else:
            loss = -ops.pick(log_p, targets, axis)
        if label_smoothing:
            loss = (1 - label_smoothing) * loss - label_smoothing / logits.shape[axis] * ops.sum(log_p, axis)
        return loss

    def partial(self, ops: Ops, z: Array, t: Array, axis: int, /) -> Stats:
        """Return max z, sum exp(z - max z), sum t and sum t (max z - z).

        They stay apart until the end: rounding log-sum-exp loses small losses of large logits.
        """
        top = ops.max(z, axis)
        level = _finite(ops, top)
        total = self.total(ops, z, level, axis)
        if ops.is_floating(t):
            below = z - ops.expand_dims(level, axis)
            return top, total, ops.sum(t, axis), -ops.sum(self.weighted(ops, t, below), axis)
        here = (t >= 0) & (t < z.shape[axis])
        missed = level - ops.pick(z, ops.where(here, t, 0), axis)
        return top, total, ops.cast(here, z), ops.where(here, missed, 0.0)

    def total(self, ops: Ops, z: Array, level: Array, axis: int, /) -> Array:
        """Return sum exp(z - level), where the level is the maximum of a sample."""
        return ops.sum(ops.exp(z - ops.expand_dims(level, axis)), axis)

    def weighted(self, ops: Ops, t: Array, below: Array, /) -> Array:
        """Return t (z - level); 0 log 0 = 0."""
        return t * ops.where((t == 0) & (below < -_HUGE), 0.0, below)

    def merge(self, ops: Ops, a: Stats, b: Stats, /) -> Stats:
        """As `InBlocks`: both are moved to the larger maximum."""
        top = ops.where(a[0] > b[0], a[0], b[0])
        (total_a, mass_a, missed_a), (total_b, mass_b, missed_b) = (_below(ops, stats, top) for stats in (a, b))
        return top, total_a + total_b, mass_a + mass_b, missed_a + missed_b

    def finish(self, ops: Ops, stats: Stats, /) -> Array:
        """As `InBlocks`."""
        _, total, mass, missed = stats
        return ops.log(total) * mass + missed

    def slope(self, ops: Ops, z: Array, t: Array, stats: Stats, axis: int, /) -> Array:
        """Return softmax(z) sum_c t_c - t."""
        top, total, mass, _ = stats
        p = ops.exp(z - ops.expand_dims(_finite(ops, top), axis)) * ops.expand_dims(mass / total, axis)
        return p - t if ops.is_floating(t) else ops.where(ops.one_hot(t, z.shape[axis], axis), p - 1.0, p)


class OneVsAll(NamedTuple):
    """Sigmoid cross-entropy (eq. 10), or with gamma > 0 the focal loss, -sum_c (1 - p_c^t)^gamma log p_c^t (eq. 12)."""

    gamma: float = 0.0

    def term(self, ops: Ops, v: Array, /) -> Array:
        """Return the loss of one class, whose logit has the flipped sign of eq. 9."""
        return formulas.focal_term(ops, v, self.gamma)

    def derivative(self, ops: Ops, v: Array, /) -> Array:
        """Return that of the term."""
        return formulas.focal_term_derivative(ops, v, self.gamma)

    def weighted(self, ops: Ops, z: Array, t: Array, of: Callable[[Ops, Array], Array], /) -> tuple[Array, Array]:
        """Return t of(-z) and (1 - t) of(z); 0 log 0 = 0: what a target of exactly 0 or 1 leaves out may be infinite.

        It is left out before the term, whose derivatives it would make NaN.
        """
        missed = ops.where((t == 0) & (z < -_HUGE), 0.0, z)
        raised = ops.where((t == 1) & (z > _HUGE), 0.0, z)
        return t * of(ops, -missed), (1 - t) * of(ops, raised)

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """As `Kind`."""
        return in_one_block(self, ops, logits, targets, axis, label_smoothing)

    def partial(self, ops: Ops, z: Array, t: Array, axis: int, /) -> Stats:
        """Return the sum of the terms."""
        if not ops.is_floating(t):
            # z^t of eq. 9, before the sum: adding and subtracting z_y afterwards would cost every digit.
            return (ops.sum(self.term(ops, ops.flip(z, t, axis)), axis),)
        missed, raised = self.weighted(ops, z, t, self.term)
        return (ops.sum(missed + raised, axis),)

    def merge(self, _: Ops, a: Stats, b: Stats, /) -> Stats:
        """As `InBlocks`."""
        return (a[0] + b[0],)

    def finish(self, _: Ops, stats: Stats, /) -> Array:
        """As `InBlocks`."""
        return stats[0]

    def slope(self, ops: Ops, z: Array, t: Array, _: Stats, axis: int, /) -> Array:
        """As `InBlocks`; each class alone decides."""
        if not ops.is_floating(t):
            return ops.flip(self.derivative(ops, ops.flip(z, t, axis)), t, axis)
        missed, raised = self.weighted(ops, z, t, self.derivative)
        return raised - missed


def in_one_block(kind: InBlocks, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float) -> Array:
    """Return the loss of each sample by the verbs of its kind; arguments as `Kind.sample_loss` takes them."""
    t = smoothed(ops, logits, targets, axis, label_smoothing)
    return kind.finish(ops, kind.partial(ops, logits, t, axis))


def smoothed(ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float) -> Array:
    """Return targets as `InBlocks` takes them: dense if they are smoothed."""
    if not label_smoothing:
        return targets
    classes = logits.shape[axis]
    if not ops.is_floating(targets):
        targets = ops.cast(ops.one_hot(targets, classes, axis), logits)
    return (1 - label_smoothing) * targets + label_smoothing / classes


def is_fused(kind: Kind, gamma_limit: float) -> bool:
    """Tell whether fused kernels know a kind, which they do of the two above, below a limit of gamma."""
    return type(kind) is Softmax or (type(kind) is OneVsAll and kind.gamma < gamma_limit)


def power(kind: Kind) -> float | None:
    """Return what fused kernels are told of a kind that they know: gamma, or None for softmax."""
    if type(kind) is Softmax:
        return None
    if type(kind) is OneVsAll:
        return kind.gamma
    raise TypeError(f"kind must be one that fused kernels know, got {kind!r}; ask is_fused before")


def _finite(ops: Ops, top: Array) -> Array:
    """Return a maximum to subtract: any number will do where every class is ruled out."""
    return ops.where(top < -_HUGE, 0.0, top)


def _below(ops: Ops, stats: Stats, top: Array) -> Stats:
    """Return what a block says, relative to a maximum that is no smaller than its own."""
    own, total, mass, missed = stats
    level = _finite(ops, top)
    fall = level - ops.where(own < -_HUGE, level, own)
    return total * ops.exp(-fall), mass, missed + mass * fall

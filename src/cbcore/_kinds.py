"""What a loss is: a value that knows its formula.

A faster path names the kinds that it knows and leaves all others to the formula. So a new kind is slow until a path is
taught, never wrong.
"""

from typing import NamedTuple, Protocol

from cbcore import _formulas as formulas
from cbcore._ops import Array, Ops


class Kind(Protocol):
    """One of the losses below, or a new one."""

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """Return the loss of each sample, unweighted; targets are indices in range, or floats in the logits' shape."""


class Softmax(NamedTuple):
    """Softmax cross-entropy (eq. 7)."""

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """As `Kind`."""
        return formulas.softmax_cross_entropy(ops, logits, targets, axis, label_smoothing)


class OneVsAll(NamedTuple):
    """Sigmoid cross-entropy (eq. 10), or with gamma > 0 the focal loss (eq. 12)."""

    gamma: float = 0.0

    def sample_loss(self, ops: Ops, logits: Array, targets: Array, axis: int, label_smoothing: float, /) -> Array:
        """As `Kind`."""
        return formulas.sigmoid_focal_loss(self.gamma)(ops, logits, targets, axis, label_smoothing)


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

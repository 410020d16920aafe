"""NumPy on large batches: the same losses without temporaries the size of the logits."""

import functools
import importlib.util
import os
from typing import Any

import numpy as np

from cbcore import _formulas as formulas
from cbcore import _kinds as kinds
from cbcore._arrays import Host
from cbcore._kinds import Kind
from cbcore._ops import Array, Ops

_BLOCK = 1 << 16  # logits: the temporaries of a block stay in the cache
_LARGE = 1 << 16  # logits from which loading numba, once, is worth while
GAMMA_LIMIT = 16  # of the kernels: the whole power is made from four bits


@functools.cache
def numba_is_installed() -> bool:
    """Tell whether the extra `fast` is there, without the second that importing numba takes."""
    return importlib.util.find_spec("numba") is not None


def in_row_blocks(sample_loss: formulas.SampleLoss) -> formulas.SampleLoss:
    """Return the same loss of each sample, computed some rows at a time."""

    def blocked(ops: Ops, z: Array, targets: Array, axis: int, label_smoothing: float) -> Array:
        rows = max(_BLOCK * len(z) // max(z.size, 1), 1)
        if axis == 0 or rows >= len(z):
            return sample_loss(ops, z, targets, axis, label_smoothing)
        parts = (slice(low, low + rows) for low in range(0, len(z), rows))
        return np.concatenate([sample_loss(ops, z[part], targets[part], axis, label_smoothing) for part in parts])

    return blocked


def takes(logits: Host, targets: Host, kind: Kind, label_smoothing: float) -> bool:
    """Tell whether the numba kernels of the extra `fast` give this loss."""
    return (
        logits.dtype == np.float32
        and logits.size >= _LARGE
        and targets.dtype.kind in "iu"
        and not label_smoothing
        and kinds.is_fused(kind, GAMMA_LIMIT)
        and numba_is_installed()
    )


def loss(
    kind: Kind,
    logits: Host,
    targets: Host,
    class_weights: Host | None,
    *,
    axis: int,
    valid: Host | None,
    reduction: str,
) -> Any:
    """Return the loss of float32 logits and class indices that are in range."""
    from cbcore import _kernels

    z = np.ascontiguousarray(np.moveaxis(logits, axis, -1)).reshape(-1, logits.shape[axis])
    index = targets if valid is None else np.where(valid, targets, -1)
    index = np.ascontiguousarray(index, np.int64).reshape(-1)
    weights = None if class_weights is None else np.ascontiguousarray(class_weights, np.float32)
    scale = _kernels.row_scale(index, weights, None, -1, reduction)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    losses, _ = _kernels.run(z, index, scale, kinds.power(kind), threads=threads, with_gradient=False)
    return losses.reshape(targets.shape) if reduction == "none" else losses.sum()

"""NumPy on large batches: the same losses without temporaries the size of the logits."""

import functools
import importlib.util
import os
from typing import Any

import numpy as np

from cbcore import _formulas as formulas
from cbcore import _kinds as kinds
from cbcore import _ops as ops
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
    index, scale = formulas.row_scale(
        ops, targets.reshape(-1), class_weights, z, axis=1, valid=None if valid is None else valid.reshape(-1),
        sample_weight=None, reduction=reduction, in_range=True,
    )  # fmt: skip
    index = np.ascontiguousarray(index, np.int64)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    losses, _ = _kernels.run(z, index, as_rows(scale, len(z)), kinds.power(kind), threads=threads, with_gradient=False)
    return losses.reshape(targets.shape) if reduction == "none" else losses.sum()


def as_rows(scale: Any, rows: int) -> Host:
    """Return what `cbcore._formulas.row_scale` gives as the kernels take it."""
    return np.full(rows, 1.0 if scale is None else scale, np.float32) if np.ndim(scale) == 0 else scale

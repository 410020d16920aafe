"""Small batches on the CPU: PyTorch's own differentiable operations cost less than calling a function of our own."""

import torch
from torch import Tensor
from torch.nn import functional

LIMIT = 1 << 14  # logits
GAMMAS = (0.0, 0.5, 1.0, 2.0)  # of other powers second derivatives are NaN where the sigmoid underflows
_NO_INDEX = -(1 << 62)
_TINY = torch.finfo(torch.float32).tiny


def loss(
    gamma: float | None,
    z: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    *,
    ignore_index: int,
    reduction: str,
) -> Tensor | None:
    """Return the loss of logits (N, C), or None where it is not for here; `gamma` is None for softmax.

    PyTorch's own functions refuse every index that is no class. What such a sample gives, 0 or NaN, the kernels tell.
    """
    if not z.is_cpu or z.numel() > LIMIT or reduction == "weighted_mean" or 0 <= ignore_index < z.shape[1]:
        return None
    z = z.float()
    if class_weights is not None:
        class_weights = class_weights.float()
        if reduction == "mean":
            class_weights, reduction = class_weights / len(target), "sum"
    try:
        if gamma is None:
            return functional.cross_entropy(z, target, class_weights, ignore_index=_NO_INDEX, reduction=reduction)
        signs = torch.ones_like(z).scatter_(1, target[:, None], -1.0)
    except (IndexError, RuntimeError):
        return None
    row_weights = None if class_weights is None else class_weights.index_select(0, target)
    return _one_vs_all(z * signs, gamma, row_weights, reduction)


def _one_vs_all(v: Tensor, gamma: float, row_weights: Tensor | None, reduction: str) -> Tensor:
    """See `cbcore._formulas.focal_term`, of v = -z^t.

    PyTorch takes 1 - sigmoid(v) for the slope of a sigmoid, which is off by 6e-8, times gamma softplus(v) < 17 gamma
    where it is not 0. For gamma = 2 that is too much, and the sigmoid is made of that of -|v|.
    """
    terms = functional.softplus(v)
    if gamma == 2:
        above = (v > 0).float()
        turn = 1.0 - 2.0 * above  # abs has no slope at 0
        terms = terms * torch.addcmul(above, torch.sigmoid(v * turn), turn).square()
    elif gamma == 0.5:
        terms = terms * (torch.sigmoid(v) + _TINY).sqrt()  # the slope of a root is infinite at 0
    elif gamma:
        terms = terms * torch.sigmoid(v)
    if row_weights is not None:
        terms = terms * row_weights[:, None]
    if reduction == "none":
        return terms.sum(1)
    return terms.sum() if reduction == "sum" else terms.sum() / len(v)

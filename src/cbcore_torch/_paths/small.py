"""Small batches on the CPU: PyTorch's own differentiable operations cost less than calling a function of our own."""

import torch
from torch import Tensor
from torch.nn import functional

from cbcore._fused import numba_is_installed
from cbcore._kinds import OneVsAll, Softmax
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call

NAME = "small"

LIMIT = 1 << 14  # logits
GAMMAS = (0.0, 0.5, 1.0, 2.0)  # of other powers second derivatives are NaN where the sigmoid underflows
_NO_INDEX = -(1 << 62)
_TINY = torch.finfo(torch.float32).tiny


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    z = call.input
    if not modes.reads_host(z) or z.dtype not in (torch.float32, torch.bfloat16):
        return "input is not float32 or bfloat16 on the CPU, or a TorchDispatchMode wants to see operations"
    if z.numel() > LIMIT:
        return f"input has more than {LIMIT} logits"
    if not call.is_flat or call.sample_weight is not None or call.reduction == "weighted_mean":
        return "input is not (N, C), or the weights are not those of classes, or the mean is weighted"
    if call.target.is_floating_point() or call.label_smoothing:
        return "the targets are soft"
    if call.ignored is not None and 0 <= call.ignored < z.shape[1]:
        return "ignore_index is a class"
    kind = call.kind
    if type(kind) is Softmax or (type(kind) is OneVsAll and (not kind.gamma or _is_fast(kind.gamma))):
        return None
    return f"there are faster kernels for {kind}, or none at all"


def _is_fast(gamma: float) -> bool:
    return gamma in GAMMAS and not numba_is_installed()


def loss(call: Call) -> Tensor | None:
    """As `cbcore_torch._paths.Path`.

    PyTorch's own functions refuse every index that is no class. What such a sample gives, 0 or NaN, others tell.
    """
    z, target, class_weights, reduction = call.input.float(), call.target, call.class_weights, call.reduction
    if class_weights is not None:
        class_weights = class_weights.float()
        if reduction == "mean":
            class_weights, reduction = class_weights / len(target), "sum"
    try:
        if type(call.kind) is Softmax:
            return functional.cross_entropy(z, target, class_weights, ignore_index=_NO_INDEX, reduction=reduction)
        signs = torch.ones_like(z).scatter_(1, target[:, None], -1.0)
    except (IndexError, RuntimeError):
        return None
    row_weights = None if class_weights is None else class_weights.index_select(0, target)
    return _one_vs_all(z * signs, call.kind.gamma, row_weights, reduction)  # type: ignore[attr-defined]


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

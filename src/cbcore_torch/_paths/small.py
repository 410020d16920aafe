"""Small batches on the CPU: PyTorch's own differentiable operations cost less than calling a function of our own."""

import torch
from torch import Tensor
from torch.nn import functional

from cbcore._kinds import OneVsAll, Softmax
from cbcore._paths import numba_is_installed
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call
from cbcore_torch._paths.rows import SMALL

NAME = "small"

_NO_INDEX = -(1 << 62)


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    z, kind = call.input, call.kind
    if z.numel() > SMALL:
        return f"input has more than {SMALL} logits"
    if not (type(kind) is Softmax or (type(kind) is OneVsAll and (not kind.gamma or _is_fast(kind.gamma)))):
        return "there are faster ways for this kind of loss, or none at all"
    if z.dtype not in (torch.float32, torch.bfloat16) or not modes.reads_host(z):
        return "input is not float32 or bfloat16 on the CPU, or a TorchDispatchMode wants to see operations"
    if not call.is_flat or call.sample_weight is not None or call.reduction == "weighted_mean":
        return "input is not (N, C), or the weights are not those of classes, or the mean is weighted"
    if call.target.is_floating_point() or call.label_smoothing:
        return "the targets are soft"
    if call.ignored is not None and 0 <= call.ignored < z.shape[1]:
        return "ignore_index is a class"
    return None


def _is_fast(gamma: float) -> bool:
    return gamma == 1 and not numba_is_installed()


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
    v = z * signs  # -z^t: see `cbcore._formulas.focal_term`
    terms = functional.softplus(v)
    if call.kind.gamma:  # type: ignore[attr-defined]
        terms = terms * torch.sigmoid(v)
    if row_weights is not None:
        terms = terms * row_weights[:, None]
    if reduction == "none":
        return terms.sum(1)
    return terms.sum() if reduction == "sum" else terms.sum() / len(z)

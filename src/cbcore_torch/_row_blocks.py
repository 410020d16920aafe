"""The fused CPU kernels in PyTorch itself, where numba is not installed.

Rows are worked on in blocks that stay in the cache, with `out=` everywhere: beside the gradient only a few buffers of
a block are allocated. A fresh buffer the size of the logits would cost more in page faults than the arithmetic.
"""

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1 << 19  # logits


def row_scale(
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    classes: int,
    /,
) -> Tensor:
    """As `_fused.Kernels`."""
    valid = target != ignore_index
    scale = valid.float()
    if class_weights is not None:
        index = target.clamp(0, classes - 1)
        scale *= class_weights.float()[index]
        scale.masked_fill_((index != target) & valid, torch.nan)  # whatever the weight of the class at the clamp
    if sample_weight is not None:
        scale = torch.where(valid, scale * sample_weight, 0)
    if reduction == "mean":
        scale /= max(int(valid.sum()), 1)
    elif reduction == "weighted_mean":
        scale /= scale.sum().item() or 1.0
    return scale


def run(z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, /) -> tuple[Tensor, Tensor]:
    """As `_fused.Kernels`."""
    z = z.detach()
    rows, classes = z.shape
    gradient, losses = empty(z), torch.empty(rows)
    wrong = ((target < 0) | (target >= classes)) & (scale != 0)
    index = torch.where((target < 0) | (target >= classes), 0, target)[:, None]
    height = max(_BLOCK // classes, 1)
    buffers = [torch.empty(min(height, rows), classes) for _ in range(2 if gamma is None else 3)]
    for low in range(0, rows, height):
        part = slice(low, low + height)
        work = [buffer[: len(z[part])] for buffer in buffers]
        if z.dtype == torch.float32:
            work[0] = gradient[part]
        if gamma is None:
            _softmax(z[part], index[part], work, losses[part])
        else:
            _one_vs_all(z[part], index[part], gamma, work, losses[part])
        torch.mul(work[0], scale[part, None], out=work[0])
        if work[0].dtype != gradient.dtype:
            gradient[part].copy_(work[0])
    losses.mul_(scale)
    for mask, value in ((scale == 0, 0.0), (wrong, torch.nan)):
        if mask.any():  # a read, but of a tensor on the host
            losses[mask] = value
            gradient[mask] = value
    return losses, gradient


def empty(like: Tensor) -> Tensor:
    """Allocate as NumPy does: it asks for huge pages, which cost a tenth of the page faults."""
    if like.dtype == torch.bfloat16:
        return torch.from_numpy(np.empty(like.shape, np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.empty(like.shape, np.float32))


def _softmax(z: Tensor, index: Tensor, work: list[Tensor], losses: Tensor) -> None:
    slope, log_p = work
    torch.log_softmax(z, 1, dtype=torch.float32, out=log_p)
    torch.neg(log_p.gather(1, index)[:, 0], out=losses)
    torch.exp(log_p, out=slope)
    slope.scatter_add_(1, index, torch.full_like(index, -1, dtype=torch.float32))


def _one_vs_all(z: Tensor, index: Tensor, gamma: float, work: list[Tensor], losses: Tensor) -> None:
    """See `cbcore._formulas.focal_term`: f(v) = sigmoid(v)^gamma softplus(v), v = -z at the target and z elsewhere."""
    v, softplus, rising = work
    v.copy_(z)
    v.scatter_(1, index, v.gather(1, index).neg_())
    torch.ops.aten.softplus.out(v, out=softplus)
    if not gamma:
        torch.sum(softplus, 1, out=losses)
        torch.sigmoid(v, out=v)
    else:
        torch.sigmoid(v, out=rising)
        falling, power = _falling_and_power(v, rising, gamma)
        softplus_power = softplus * power
        torch.sum(softplus_power, 1, out=losses)
        softplus_power.mul_(falling).mul_(gamma)
        torch.addcmul(softplus_power, rising, power, out=v)
    v.scatter_(1, index, v.gather(1, index).neg_())


def _falling_and_power(v: Tensor, rising: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return sigmoid(-v) and sigmoid(v)^gamma."""
    falling = torch.sigmoid(-v)  # 1 - rising would lose digits
    if gamma == 0.5:
        return falling, rising.sqrt()
    whole, part = int(gamma), gamma - int(gamma)
    power = rising**whole if whole else torch.ones_like(rising)
    if part:
        power = power * torch.exp(part * torch.nn.functional.logsigmoid(v))
    return falling, power

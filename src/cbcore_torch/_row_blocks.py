"""The fused CPU kernels in PyTorch itself, where numba is not installed.

Rows are worked on in blocks that stay in the cache, with `out=` everywhere: beside the gradient only a few buffers of
a block are allocated. A fresh buffer the size of the logits would cost more in page faults than the arithmetic. Of
operations that would do, the fastest is taken: PyTorch's softmax and sigmoid cost half of its exp.
"""

import numpy as np
import torch
from torch import Tensor

from cbcore_torch._row_scale import row_scale

__all__ = ["row_scale", "run"]

_BLOCK = 1 << 19, 1 << 20  # logits at least and at most: every operation on a block wakes the threads again
_PARTS = 80  # bytes of logits over logits of a block, between these: the buffers stay some percent of the logits
_HUGE_PAGES = 1 << 22  # bytes: from here on NumPy asks for them


def run(
    z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, with_gradient: bool, /
) -> tuple[Tensor, Tensor | None]:
    """As `_fused.Kernels`."""
    z = z.detach()
    rows, classes = z.shape
    height = _height(z)
    gradient = empty(z if with_gradient else z[:height])
    losses = torch.empty(rows, dtype=torch.float32, device=z.device)
    index = target.clamp(0, classes - 1)[:, None]  # where that changes it, the scale is NaN
    count = (1 if gamma is None else 2 + bool(gamma)) - (z.dtype == torch.float32)
    buffers = [torch.empty(height, classes, dtype=torch.float32, device=z.device) for _ in range(count)]
    for low in range(0, rows, height):
        part = slice(low, low + height) if height < rows else ...
        x, out = z[part], gradient[part if with_gradient else slice(0, rows - low)]
        work = [buffer[: len(x)] for buffer in buffers]
        slope = out if out.dtype == torch.float32 else work.pop()
        if gamma is None:
            _softmax(x, index[part], slope, losses[part])
        elif not gamma:
            _sigmoid(x, index[part], slope, work[0], losses[part])
        else:
            _one_vs_all(x, index[part], gamma, slope, work, losses[part])
        if with_gradient:
            slope.mul_(scale[part, None])
            if slope is not out:
                out.copy_(slope)
    losses.mul_(scale)
    skipped = scale == 0
    if skipped.any():  # a read, but of a tensor on the host; such rows may hold NaN
        losses.masked_fill_(skipped, 0)
        if with_gradient:
            gradient.masked_fill_(skipped[:, None], 0)
    return losses, gradient if with_gradient else None


def empty(like: Tensor) -> Tensor:
    """Allocate as NumPy does where it asks for huge pages, which cost a tenth of the page faults."""
    if like.nbytes < _HUGE_PAGES:
        return torch.empty(like.shape, dtype=like.dtype, device=like.device)
    if like.dtype == torch.bfloat16:
        return torch.from_numpy(np.empty(like.shape, np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.empty(like.shape, np.float32))


def _height(z: Tensor) -> int:
    """Return the rows of a block, which the threads share out evenly."""
    rows, classes = z.shape
    threads = torch.get_num_threads()
    block = min(max(z.nbytes // _PARTS, _BLOCK[0]), _BLOCK[1])
    return min(max(block // (classes * threads), 1) * threads, rows)


def _softmax(z: Tensor, index: Tensor, slope: Tensor, losses: Tensor) -> None:
    """-log p_y = (max z - z_y) - log(max p), for the largest of the probabilities is 1 / sum exp(z - max z)."""
    if z.dtype != slope.dtype:
        z = slope.copy_(z)
    torch.sub(torch.amax(z, 1), z.gather(1, index)[:, 0], out=losses)
    torch.softmax(z, 1, out=slope)
    losses.sub_(torch.amax(slope, 1).log_())
    slope.scatter_add_(1, index, torch.full_like(index, -1, dtype=torch.float32))


def _sigmoid(z: Tensor, index: Tensor, slope: Tensor, softplus: Tensor, losses: Tensor) -> None:
    """softplus(z) summed, its slope sigmoid(z); at the target softplus(-z) and -sigmoid(-z), put in its place."""
    if z.dtype != slope.dtype:
        z = slope.copy_(z)
    flipped = z.gather(1, index).neg_()
    torch.ops.aten.softplus.out(z, out=softplus)
    softplus.scatter_(1, index, torch.nn.functional.softplus(flipped))
    torch.sum(softplus, 1, out=losses)
    torch.sigmoid(z, out=slope)
    slope.scatter_(1, index, flipped.sigmoid_().neg_())


def _one_vs_all(z: Tensor, index: Tensor, gamma: float, v: Tensor, work: list[Tensor], losses: Tensor) -> None:
    """See `cbcore._formulas.focal_term`: f(v) = sigmoid(v)^gamma softplus(v), v = -z at the target and z elsewhere."""
    softplus = work[0]
    v.copy_(z)
    v.scatter_(1, index, v.gather(1, index).neg_())
    torch.ops.aten.softplus.out(v, out=softplus)
    power = torch.sigmoid(v, out=work[1])
    falling = torch.sigmoid(v.neg_(), out=v)  # 1 - sigmoid(v) would lose digits
    torch.addcmul(power, falling, softplus, value=gamma, out=v)
    power.pow_(gamma)
    torch.sum(softplus.mul_(power), 1, out=losses)
    v.mul_(power)
    v.scatter_(1, index, v.gather(1, index).neg_())

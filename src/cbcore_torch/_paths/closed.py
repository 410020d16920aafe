"""The closed form: loss and gradient of some rows at a time, in PyTorch's own operations, on every device.

Rows are worked on in chunks, with `out=` everywhere: beside the gradient only a few buffers of a chunk are allocated.
On a CPU a chunk stays in the cache; a fresh buffer the size of the logits would cost more in page faults than the
arithmetic. Elsewhere it bounds the memory, and nothing waits for the device. Of operations that would do, the fastest
is taken: PyTorch's softmax and sigmoid cost half of its exp.
"""

import math

import numpy as np
import torch
from torch import Tensor

from cbcore._kinds import OneVsAll, Softmax
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call, Rows
from cbcore_torch._paths.rows import Result

NAME = "closed form"

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_CACHED = 1 << 19, 1 << 20  # logits of a chunk on a CPU: every operation on one wakes the threads again
_PARTS = 80  # bytes of logits over logits of a chunk, between these: the buffers stay some percent of the logits
_ELSEWHERE = 1 << 20, 32  # logits of a chunk at least, and chunks of a large input at most
_NAN_IS_POSITIVE = ("cuda", "meta")  # for the slope of an ELU; nothing is computed on meta, which stands for GPUs
_HUGE_PAGES = 1 << 22  # bytes: from here on NumPy asks for them


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    if call.input.dtype not in _DTYPES:
        return f"input is {call.input.dtype}"
    return None if type(call.kind) in (Softmax, OneVsAll) else f"the closed form does not know {call.kind}"


def run(rows: Rows, with_gradient: bool, /) -> Result:
    """As `cbcore_torch._paths.rows.Run`."""
    z, scale, on_host = rows.z.detach(), rows.scale, modes.reads_host(rows.z)
    rows = rows._replace(z=z, masks=rows.masks and not (on_host and bool(scale.all())))
    is_exact, count = z.dtype == scale.dtype, len(z)
    here = with_gradient and (on_host or not is_exact)  # elsewhere the backward's product with the upstream is enough
    buffers = _buffers(rows) + (not is_exact) + (not with_gradient or not is_exact)
    height = _height(z, buffers, on_host)
    kept = empty(z if with_gradient else z[:0], on_host)
    work = [scale.new_empty(height, z.shape[1]) for _ in range(buffers)]
    losses = scale.new_empty(count)
    for low in range(0, count, height):
        part = slice(low, min(low + height, count))
        some = rows._replace(z=z[part], target=rows.target[part], scale=scale[part])
        parts = [buffer[: len(some.z)] for buffer in work]
        if not is_exact:
            some = some._replace(z=parts.pop().copy_(some.z))
        slope = kept[part] if with_gradient and is_exact else parts.pop()
        _chunk(some, slope if with_gradient else None, [*parts, slope], losses[part])
        if here:
            _finish(some, slope, _factor(some, losses[part]))
        if with_gradient and not is_exact:
            kept[part].copy_(slope)
    factor = None if here or not with_gradient else _factor(rows, losses)
    losses.mul_(scale)
    if rows.masks:
        losses.masked_fill_(scale == 0, 0)
    if factor is None:
        return Result(losses, kept if with_gradient else None)
    return Result(losses, kept, lambda upstream: _finish(rows, kept, factor * upstream))


def empty(like: Tensor, on_host: bool) -> Tensor:
    """Allocate as NumPy does where it asks for huge pages, which cost a tenth of the page faults."""
    if not on_host or like.nbytes < _HUGE_PAGES:
        return torch.empty(like.shape, dtype=like.dtype, device=like.device)
    integers = {2: np.int16, 4: np.int32, 8: np.int64}[like.itemsize]
    return torch.from_numpy(np.empty(like.shape, integers)).view(like.dtype)


def _height(z: Tensor, buffers: int, on_host: bool) -> int:
    """Return the rows of a chunk; on a CPU the threads share them out evenly."""
    rows, classes = z.shape
    if not on_host:
        return min(max(_ELSEWHERE[0] // classes, -(-rows // _ELSEWHERE[1]), 1), rows)
    threads = torch.get_num_threads()
    chunk = min(max(z.nbytes // _PARTS, _CACHED[0]), _CACHED[1]) >> (buffers > 3)
    return min(max(chunk // (classes * threads), 1) * threads, rows)


def _buffers(rows: Rows) -> int:
    """Return how many buffers `_chunk` needs beside the slope."""
    is_soft = rows.target.is_floating_point() or rows.label_smoothing > 0
    if type(rows.kind) is Softmax:
        return 2 * rows.target.is_floating_point()
    return (4 if is_soft else 1) + bool(_gamma(rows))


def _gamma(rows: Rows) -> float:
    return rows.kind.gamma  # type: ignore[attr-defined,no-any-return]


def _chunk(rows: Rows, slope: Tensor | None, work: list[Tensor], losses: Tensor) -> None:
    """Write the losses of some rows before their scale, and to `slope` what `_finish` makes the gradient of.

    Everything is in the dtype of the computation. Without a slope, the last of `work` is one more buffer.
    """
    z, target, smoothing = rows.z, rows.target, rows.label_smoothing
    share = smoothing / z.shape[1]
    if target.is_floating_point():
        t = target.to(z.dtype)
        t = t * (1 - smoothing) + share if smoothing else t
        if type(rows.kind) is Softmax:
            _soft_softmax(z, t, work[-1], work, losses)
            return
        _both_sides(z, t, _gamma(rows), slope, work)
        torch.sum(work[0], 1, out=losses)
        losses.masked_fill_(losses > _huge(z) ** 0.8, math.inf)
        return
    index = target[:, None]
    if type(rows.kind) is Softmax:
        log_p = torch.log_softmax(z, 1, out=work[-1])
        torch.neg(log_p.gather(1, index)[:, 0], out=losses)
        if smoothing:
            losses.mul_(1 - smoothing).sub_(log_p.sum(1), alpha=share)
        return
    at = z.gather(1, index)
    few = [torch.empty_like(at) for _ in range(6)]
    if smoothing:
        _both_sides(z, share, _gamma(rows), slope, work)
        _both_sides(at, 1 - smoothing + share, _gamma(rows), few[-1], few)
    else:
        _one_side(z, _gamma(rows), slope, work)
        _one_side(at.neg_(), _gamma(rows), few[-1], few)
        few[-1].neg_()
    torch.sum(work[0].scatter_(1, index, few[0]), 1, out=losses)
    if slope is not None:
        slope.scatter_(1, index, few[-1])


def _factor(rows: Rows, losses: Tensor) -> Tensor:
    """Return what slopes are to be multiplied by: the scale; of softmax NaN if the loss before its scale is."""
    if type(rows.kind) is not Softmax:
        return rows.scale
    return torch.where(losses.isnan() & (rows.scale != 0), losses, rows.scale)


def _finish(rows: Rows, slope: Tensor, factor: Tensor) -> Tensor:
    """Make the gradient of what `_chunk` left, in its place; `factor` (N,) multiplies the slope of each row.

    For softmax with class indices that is log p, and the slope of an ELU is factor exp(log p) where log p <= 0, in one
    operation. On CUDA devices what is no number is not <= 0 either and gives factor: 0 in a row to ignore.
    """
    factor, is_softmax = factor[:, None], type(rows.kind) is Softmax
    if rows.target.is_floating_point():
        return slope.mul_(-factor if is_softmax else factor)
    if not is_softmax:
        slope.mul_(factor)
    elif modes.reads_host(slope):  # faster where both passes are in the cache
        slope.exp_().mul_(factor)
    else:
        torch.ops.aten.elu_backward.grad_input(factor, 1.0, 1.0, 1.0, False, slope, grad_input=slope)
    if rows.masks and not (is_softmax and slope.device.type in _NAN_IS_POSITIVE):
        slope.masked_fill_(factor == 0, 0)
    if not is_softmax:
        return slope
    smoothing, index = rows.label_smoothing, rows.target[:, None]
    if smoothing:
        slope.sub_(factor * (smoothing / slope.shape[1]))
    return slope.scatter_(1, index, slope.gather(1, index).sub_(factor, alpha=1 - smoothing))


def _soft_softmax(z: Tensor, t: Tensor, slope: Tensor, work: list[Tensor], losses: Tensor) -> None:
    """-sum_c t_c log p_c, and t - p sum_c t_c, the slope with the other sign: one operation of PyTorch's own.

    0 log 0 = 0: a class that has no share and is ruled out gives NaN, which the sum leaves out. Other NaNs fill a
    whole row of the slope, and its first column brings them back.
    """
    log_p, terms = torch.log_softmax(z, 1, out=work[0]), work[1]
    torch.nansum(torch.mul(t, log_p, out=terms), 1, out=losses)
    torch.ops.aten._log_softmax_backward_data.out(t, log_p, 1, z.dtype, out=slope)
    losses.neg_().add_(slope[:, 0] * 0)


def _one_side(v: Tensor, gamma: float, slope: Tensor | None, work: list[Tensor]) -> None:
    """Write f(v) = sigmoid(v)^gamma softplus(v) to `work` and f'(v) to `slope`; see `cbcore._formulas.focal_term`."""
    softplus = torch.ops.aten.softplus.out(v, out=work[0])
    if not gamma:
        if slope is not None:
            torch.sigmoid(v, out=slope)
        return
    power = torch.sigmoid(v, out=work[1])
    if slope is not None:
        falling = torch.neg(v, out=slope).sigmoid_()  # 1 - sigmoid(v) would lose digits
        torch.addcmul(power, falling, softplus, value=gamma, out=slope)
    _raise(power, gamma)
    softplus.mul_(power)
    if slope is not None:
        slope.mul_(power)


def _both_sides(z: Tensor, t: Tensor | float, gamma: float, slope: Tensor | None, work: list[Tensor]) -> None:
    """Write (1 - t) f(z) + t f(-z) to `work` and its derivative to `slope`.

    What a t of exactly 0 or 1 leaves out may be infinite and is to count as 0: so infinite logits are made large
    enough that whatever is left of them is taken for infinite again.
    """
    right, rising, left, v = work[:4]
    v.copy_(z).clamp_(-_huge(z), _huge(z))
    torch.ops.aten.softplus.out(v, out=right)
    torch.sigmoid(v, out=rising)
    torch.ops.aten.softplus.out(v.neg_(), out=left)
    falling = fall = v.sigmoid_()
    rise = rising
    if gamma:
        if slope is not None:
            rise = torch.addcmul(rising, falling, right, value=gamma, out=slope)
            fall = torch.addcmul(falling, rising, left, value=gamma, out=work[4])
        _raise(rising, gamma)
        _raise(falling, gamma)
        right.mul_(rising)
        left.mul_(falling)
        if slope is not None:
            rise.mul_(rising)
            fall.mul_(falling)
    torch.lerp(right, left, t, out=right)
    if slope is not None:
        torch.lerp(rise, fall.neg_(), t, out=slope)


def _raise(rising: Tensor, gamma: float) -> Tensor:
    return rising if gamma == 1 else rising.pow_(gamma)


def _huge(z: Tensor) -> float:
    return torch.finfo(z.dtype).max / 4

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
from cbcore_torch._call import Call, Rows, computed_in
from cbcore_torch._paths import rows as by_rows
from cbcore_torch._paths.rows import Result

NAME = "closed form"

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_CACHED = 1 << 19, 1 << 20  # logits of a chunk on a CPU: every operation on one wakes the threads again
_PARTS = 80  # bytes of logits over logits of a chunk, between these: the buffers stay some percent of the logits
_ELSEWHERE = 1 << 20, 32  # logits of a chunk at least, and chunks of a large input at most
_HUGE_PAGES = 1 << 22  # bytes: from here on NumPy asks for them


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    if call.input.dtype not in _DTYPES:
        return f"input is {call.input.dtype}"
    return None if type(call.kind) in (Softmax, OneVsAll) else f"the closed form does not know {call.kind}"


def loss(call: Call) -> Tensor:
    """As `cbcore_torch._paths.Path`."""
    return by_rows.loss(call, run)


def run(rows: Rows, with_gradient: bool, /) -> Result:
    """As `cbcore_torch._paths.rows.Run`."""
    rows = rows._replace(z=rows.z.detach())
    z, scale, on_host = rows.z, rows.scale, modes.reads_host(rows.z)
    count, height = len(z), _height(z, on_host)
    gradient = empty(z if with_gradient else z[:height], on_host)
    losses = scale.new_empty(count)
    is_exact = z.dtype == scale.dtype
    left = scale if with_gradient and is_exact and not on_host else None
    buffers = [scale.new_empty(height, z.shape[1]) for _ in range(_buffers(rows) + (0 if is_exact else 2))]
    skipped = scale == 0 if rows.masks else None
    if skipped is not None and on_host and not skipped.any():
        skipped = None
    for low in range(0, count, height):
        part = slice(low, low + height) if height < count else ...
        x, t, out = z[part], rows.target[part], gradient[part if with_gradient else slice(0, count - low)]
        work = [buffer[: len(x)] for buffer in buffers]
        slope = out
        if not is_exact:
            x, slope = work.pop().copy_(x), work.pop()
        sign = _chunk(rows, x, t, slope, work, losses[part])
        if with_gradient:
            if left is None:
                slope.mul_(sign * scale[part, None])
            if skipped is not None:
                slope.masked_fill_(skipped[part, None], 0)
            if slope is not out:
                out.copy_(slope)
    losses.mul_(scale)
    if skipped is not None:
        losses.masked_fill_(skipped, 0)
    return Result(losses, gradient if with_gradient else None, None if left is None else sign * left)


def empty(like: Tensor, on_host: bool) -> Tensor:
    """Allocate as NumPy does where it asks for huge pages, which cost a tenth of the page faults."""
    if not on_host or like.nbytes < _HUGE_PAGES:
        return torch.empty(like.shape, dtype=like.dtype, device=like.device)
    integers = {2: (np.int16), 4: np.int32, 8: np.int64}[like.itemsize]
    return torch.from_numpy(np.empty(like.shape, integers)).view(like.dtype)


def _height(z: Tensor, on_host: bool) -> int:
    """Return the rows of a chunk; on a CPU the threads share them out evenly."""
    rows, classes = z.shape
    if not on_host:
        return min(max(_ELSEWHERE[0] // classes, -(-rows // _ELSEWHERE[1]), 1), rows)
    threads = torch.get_num_threads()
    chunk = min(max(z.nbytes // _PARTS, _CACHED[0]), _CACHED[1])
    return min(max(chunk // (classes * threads), 1) * threads, rows)


def _buffers(rows: Rows) -> int:
    """Return how many buffers `_chunk` needs beside the slope."""
    is_soft = rows.target.is_floating_point() or rows.label_smoothing > 0
    if type(rows.kind) is Softmax:
        return 2 * rows.target.is_floating_point()
    return (4 if is_soft else 1) + bool(_gamma(rows))


def _gamma(rows: Rows) -> float:
    return rows.kind.gamma  # type: ignore[attr-defined,no-any-return]


def _chunk(rows: Rows, z: Tensor, target: Tensor, slope: Tensor, work: list[Tensor], losses: Tensor) -> int:
    """Write the losses of some rows, and their slopes before the scale; return the sign that those still lack.

    `z` may be `slope`. Everything is in the dtype of the computation.
    """
    smoothing, share = rows.label_smoothing, rows.label_smoothing / z.shape[1]
    if target.is_floating_point():
        t = target.to(z.dtype)
        t = t * (1 - smoothing) + share if smoothing else t
        if type(rows.kind) is Softmax:
            _soft_softmax(z, t, slope, work, losses)
            return -1
        _both_sides(z, t, _gamma(rows), slope, work)
        torch.sum(work[0], 1, out=losses)
        losses.masked_fill_(losses > _huge(z) ** 0.8, math.inf)
        return 1
    index = target[:, None]
    if type(rows.kind) is Softmax:
        (_smoothed_softmax if smoothing else _softmax)(z, index, slope, losses, smoothing)
        return 1
    at = z.gather(1, index)
    few = [torch.empty_like(at) for _ in range(6)]
    if smoothing:
        _both_sides(z, share, _gamma(rows), slope, work)
        _both_sides(at, 1 - smoothing + share, _gamma(rows), few[0], few[1:])
    else:
        _one_side(z, _gamma(rows), slope, work)
        _one_side(at.neg_(), _gamma(rows), few[0], few[1:])
        few[0].neg_()
    torch.sum(work[0].scatter_(1, index, few[1]), 1, out=losses)
    slope.scatter_(1, index, few[0])
    return 1


def _softmax(z: Tensor, index: Tensor, slope: Tensor, losses: Tensor, _: float) -> None:
    """-log p_y = (max z - z_y) - log(max p), for the largest of the probabilities is 1 / sum exp(z - max z)."""
    torch.sub(torch.amax(z, 1), z.gather(1, index)[:, 0], out=losses)
    torch.softmax(z, 1, out=slope)
    losses.sub_(torch.amax(slope, 1).log_())
    slope.scatter_(1, index, slope.gather(1, index).sub_(1))


def _smoothed_softmax(z: Tensor, index: Tensor, slope: Tensor, losses: Tensor, smoothing: float) -> None:
    """The targets are 1 - e at the class, and e / C more everywhere."""
    log_p, share = torch.log_softmax(z, 1, out=slope), smoothing / z.shape[1]
    torch.sum(log_p, 1, out=losses)
    losses.mul_(-share).sub_(log_p.gather(1, index)[:, 0], alpha=1 - smoothing)
    slope = log_p.exp_().sub_(share)
    slope.scatter_(1, index, slope.gather(1, index).sub_(1 - smoothing))


def _soft_softmax(z: Tensor, t: Tensor, slope: Tensor, work: list[Tensor], losses: Tensor) -> None:
    """-sum_c t_c log p_c, and t - p sum_c t_c, the slope with the other sign: one operation of PyTorch's own.

    0 log 0 = 0: a class that has no share and is ruled out gives NaN, which the sum leaves out. Other NaNs fill a
    whole row of the slope, and its first column brings them back.
    """
    log_p, terms = torch.log_softmax(z, 1, out=work[0]), work[1]
    torch.nansum(torch.mul(t, log_p, out=terms), 1, out=losses)
    torch.ops.aten._log_softmax_backward_data.out(t, log_p, 1, z.dtype, out=slope)
    losses.neg_().add_(slope[:, 0] * 0)


def _one_side(v: Tensor, gamma: float, slope: Tensor, work: list[Tensor]) -> None:
    """Write f(v) = sigmoid(v)^gamma softplus(v) to `work` and f'(v) to `slope`; see `cbcore._formulas.focal_term`."""
    softplus = torch.ops.aten.softplus.out(v, out=work[0])
    if not gamma:
        torch.sigmoid(v, out=slope)
        return
    power = torch.sigmoid(v, out=work[1])
    falling = torch.neg(v, out=slope).sigmoid_()  # 1 - sigmoid(v) would lose digits
    torch.addcmul(power, falling, softplus, value=gamma, out=slope)
    _raise(power, gamma)
    softplus.mul_(power)
    slope.mul_(power)


def _both_sides(z: Tensor, t: Tensor | float, gamma: float, slope: Tensor, work: list[Tensor]) -> None:
    """Write (1 - t) f(z) + t f(-z) to `work` and its derivative to `slope`.

    What a t of exactly 0 or 1 leaves out may be infinite and is to count as 0: so infinite logits are made large
    enough that whatever is left of them is taken for infinite again.
    """
    right, rising, left, v = work[:4]
    huge = _huge(z)
    v.copy_(z).clamp_(-huge, huge)
    torch.ops.aten.softplus.out(v, out=right)
    torch.sigmoid(v, out=rising)
    torch.ops.aten.softplus.out(v.neg_(), out=left)
    falling, fall = v.sigmoid_(), v
    if gamma:
        fall = work[4]
        torch.addcmul(rising, falling, right, value=gamma, out=slope)
        torch.addcmul(falling, rising, left, value=gamma, out=fall)
        for power, terms in ((_raise(rising, gamma), (right, slope)), (_raise(falling, gamma), (left, fall))):
            for term in terms:
                term.mul_(power)
        rising = slope
    torch.lerp(right, left, t, out=right)
    torch.lerp(rising, fall.neg_(), t, out=slope)


def _raise(rising: Tensor, gamma: float) -> Tensor:
    return rising if gamma == 1 else rising.pow_(gamma)


def _huge(z: Tensor) -> float:
    return torch.finfo(z.dtype).max / 4

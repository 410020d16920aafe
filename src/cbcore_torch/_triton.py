"""The losses of integer targets as Triton kernels: one pass reads the logits, a second one writes their gradient.

Beside its logits a row needs its target and one number, `row_scale`: class weight, sample weight and the divisor of the
mean, or 0 for an ignored row, whose logits are not even read. A target outside [0, C) makes its row NaN. All arithmetic
is float32, sums have a fixed order, nothing waits for the device, every output element is written.

Offsets are int64, as N * C passes 2^31 in practice; C alone must stay below. Two plain functions launch the kernels;
autograd and second derivatives are the business of `_paths.triton`, and `_proof` decides whether a device may run them.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# mypy: disable-error-code="import-untyped, import-not-found"
# ruff: noqa: N803 (constexpr arguments in capitals, as is usual in Triton)

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(math.log2(math.e))
LN2 = tl.constexpr(math.log(2))
GAMMA_LIMIT = 7.0  # the units of a GPU may each be off by 2e-7, and the power of more factors by more than 4e-6
LOWEST = tl.constexpr(-3.4028234e38)  # a minus infinity that can be subtracted from itself


@triton.jit
def _offset(row, col, stride_n, stride_c):
    return row.to(tl.int64) * stride_n + col.to(tl.int64) * stride_c


@triton.jit
def _exp(x):
    """Return e^x for x <= 0, to 5e-7. The rounding of x * log2(e), if not made good, would cost 4e-6 at e^-87."""
    x = tl.maximum(x, -150.0, propagate_nan=tl.PropagateNan.ALL)  # 0 there; -inf would be subtracted from itself
    t = x * LOG2E
    e = tl.exp2(t)
    return tl.fma(e, tl.fma(t, -LN2, x), e)


@triton.jit
def _log1p(e):
    """Return log(1 + e) for 0 <= e <= 1 as e * P(e), to 1.6e-7: a log would lose what 1 + e rounds away.

    P has degree 8, P(0) = 1 and the least largest error of P(e) * e / log1p(e) - 1 (3.3e-8), found by a Remez exchange
    in 40 digits; its coefficients were rounded to float32 afterwards.
    """
    p = 0.005364838 * e - 0.030065853
    p = p * e + 0.07920464
    p = p * e - 0.13753812
    p = p * e + 0.1915366
    p = p * e - 0.24857165
    p = p * e + 0.33321324
    p = p * e - 0.49999648
    return (p * e + 1.0) * e


@triton.jit
def _term(v, part, WHOLE: tl.constexpr, BROKEN: tl.constexpr):
    """Return f(v) = sigmoid(v)^gamma softplus(v) and f'(v), gamma = WHOLE + part. The compiler drops what is not used.

    As in `cbcore._formulas.focal_term` the whole power is a product and a broken one an exp(log), or a square root if
    it is 1/2. The reciprocal is a squared rsqrt: one instruction, where a division takes five, and it is the root too.
    """
    if BROKEN == "half":
        root = _exp(tl.abs(v) * -0.5)
        e = root * root
    else:
        e = _exp(tl.abs(v) * -1.0)
    rsqrt = tl.rsqrt(1.0 + e)
    larger = rsqrt * rsqrt  # sigmoid(|v|), beside sigmoid(-|v|): never 1 - sigmoid
    if WHOLE > 2:  # so many factors multiply the error of the root: a step of Newton's takes it away
        larger = tl.fma(larger, tl.fma(1.0 + e, -larger, 1.0), larger)
    smaller = e * larger
    sigmoid = tl.where(v < 0, smaller, larger)
    log1p = _log1p(e)
    softplus = tl.maximum(v, 0.0) + log1p
    power = tl.full(v.shape, 1.0, tl.float32)
    if BROKEN == "half":
        power = tl.where(v < 0, root, 1.0) * rsqrt
        sigmoid = power * power
    elif BROKEN == "any":
        power = _exp((tl.minimum(v, 0.0) - log1p) * part)
    for _ in tl.static_range(WHOLE):
        power *= sigmoid
    slope = sigmoid
    if WHOLE > 0 or BROKEN != "none":
        slope = power * ((WHOLE + part) * tl.where(v < 0, larger, smaller) * softplus + sigmoid)
    return power * softplus, slope


@triton.jit
def _rows(ROWS: tl.constexpr):
    """Return this program's rows, as a column."""
    return tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]


@triton.jit
def _near(start, y, BLOCK: tl.constexpr):
    """Tell whether this block holds a target: the others pay one branch, not a compare and a select per element."""
    return tl.max(((y >= start) & (y < start + BLOCK)).to(tl.int32)) > 0


@triton.jit
def _scaled(value, scale, y, classes):
    """Return value * scale, or NaN for a target outside [0, C); but 0 for an ignored row, whatever it holds."""
    value = tl.where((y >= 0) & (y < classes), value * scale, float("nan"))
    return tl.where(scale == 0, 0.0, value)


@triton.jit
def _one_vs_all_forward(
    logits, target, row_scale, loss, part, rows, classes, stride_n, stride_c, span,
    WHOLE: tl.constexpr, BROKEN: tl.constexpr, ALIGN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    classes, stride_n = classes // ALIGN * ALIGN, stride_n // ALIGN * ALIGN  # no change: says what can be vectorised
    row = _rows(ROWS)
    y = tl.load(target + row, mask=row < rows, other=-1).to(tl.int64)
    scale = tl.load(row_scale + row, mask=row < rows, other=0.0)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    begin = tl.program_id(1) * span
    for start in range(begin, min(begin + span, classes), BLOCK):
        cols = start + tl.arange(0, BLOCK)[None, :]
        at = logits + _offset(row, cols, stride_n, stride_c)
        v = tl.load(at, mask=(cols < classes) & (scale != 0), other=-float("inf")).to(tl.float32)  # f(-inf) = 0
        if _near(start, y, BLOCK):
            v = tl.where(cols == y, -v, v)
        f, _ = _term(v, part, WHOLE, BROKEN)
        total += f
    value = _scaled(tl.sum(total, 1, keep_dims=True), scale, y, classes)
    tl.store(loss + tl.program_id(1).to(tl.int64) * rows + row, value, mask=row < rows)


@triton.jit
def _one_vs_all_backward(
    upstream, logits, target, row_scale, grad, part, rows, classes, stride_u, stride_n, stride_c, grad_n, grad_c, span,
    WHOLE: tl.constexpr, BROKEN: tl.constexpr, ALIGN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    classes, stride_n, grad_n = classes // ALIGN * ALIGN, stride_n // ALIGN * ALIGN, grad_n // ALIGN * ALIGN
    row = _rows(ROWS)
    y = tl.load(target + row, mask=row < rows, other=-1).to(tl.int64)
    scale = tl.load(row_scale + row, mask=row < rows, other=0.0)
    up = _scaled(tl.load(upstream + row * stride_u, mask=row < rows, other=0.0), scale, y, classes)
    begin = tl.program_id(1) * span
    for start in range(begin, min(begin + span, classes), BLOCK):
        cols = start + tl.arange(0, BLOCK)[None, :]
        at = logits + _offset(row, cols, stride_n, stride_c)
        z = tl.load(at, mask=(cols < classes) & (up != 0), other=0.0).to(tl.float32)  # f'(0) is finite
        if _near(start, y, BLOCK):
            sign = tl.where(cols == y, -1.0, 1.0)
            _, slope = _term(z * sign, part, WHOLE, BROKEN)
            slope *= sign
        else:
            _, slope = _term(z, part, WHOLE, BROKEN)
        at = grad + _offset(row, cols, grad_n, grad_c)
        tl.store(at, (up * slope).to(grad.dtype.element_ty), mask=(row < rows) & (cols < classes))


@triton.jit
def _softmax_forward(
    logits, target, row_scale, loss, stats, rows, classes, stride_n, stride_c,
    ALIGN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    classes, stride_n = classes // ALIGN * ALIGN, stride_n // ALIGN * ALIGN
    row = _rows(ROWS)
    y = tl.load(target + row, mask=row < rows, other=-1).to(tl.int64)
    scale = tl.load(row_scale + row, mask=row < rows, other=0.0)
    top = tl.full((ROWS, BLOCK), LOWEST, tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, classes, BLOCK):
        cols = start + tl.arange(0, BLOCK)[None, :]
        at = logits + _offset(row, cols, stride_n, stride_c)
        z = tl.load(at, mask=(cols < classes) & (scale != 0), other=-float("inf")).to(tl.float32)
        e = tl.exp2(tl.abs(z - top) * -LOG2E)  # one exponential: it rescales the sum, or is the new term
        total = tl.where(z > top, total * e + 1.0, total + e)
        top = tl.maximum(top, z)
    highest = tl.max(top, 1, keep_dims=True)
    total = tl.sum(total * tl.exp2((top - highest) * LOG2E), 1, keep_dims=True)
    at = logits + _offset(row, y, stride_n, stride_c)
    picked = tl.load(at, mask=(scale != 0) & (y >= 0) & (y < classes), other=0.0).to(tl.float32)
    # The parts of log-sum-exp stay apart: their sum would round loss and gradient to 1e-3 at logits of 1e4.
    value = _scaled(highest - picked + tl.log(total), scale, y, classes)
    tl.store(loss + row, value, mask=row < rows)
    tl.store(stats + row, highest, mask=row < rows)
    tl.store(stats + rows + row, total, mask=row < rows)


@triton.jit
def _softmax_backward(
    upstream, logits, target, row_scale, stats, grad, rows, classes, stride_u, stride_n, stride_c, grad_n, grad_c, span,
    ALIGN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    classes, stride_n, grad_n = classes // ALIGN * ALIGN, stride_n // ALIGN * ALIGN, grad_n // ALIGN * ALIGN
    row = _rows(ROWS)
    y = tl.load(target + row, mask=row < rows, other=-1).to(tl.int64)
    scale = tl.load(row_scale + row, mask=row < rows, other=0.0)
    up = _scaled(tl.load(upstream + row * stride_u, mask=row < rows, other=0.0), scale, y, classes)
    live = (row < rows) & (up != 0)
    highest = tl.load(stats + row, mask=live, other=0.0)
    share = up / tl.load(stats + rows + row, mask=live, other=1.0)
    begin = tl.program_id(1) * span
    for start in range(begin, min(begin + span, classes), BLOCK):
        cols = start + tl.arange(0, BLOCK)[None, :]
        at = logits + _offset(row, cols, stride_n, stride_c)
        z = tl.load(at, mask=(cols < classes) & live, other=0.0).to(tl.float32)
        g = tl.exp2((z - highest) * LOG2E) * share
        if _near(start, y, BLOCK):
            g = tl.where(cols == y, g - up, g)
        at = grad + _offset(row, cols, grad_n, grad_c)
        tl.store(at, g.to(grad.dtype.element_ty), mask=(row < rows) & (cols < classes))


def _tiles(logits: Tensor, programs: int) -> tuple[tuple[int, int], int, dict[str, int]]:
    """Return the grid, the classes of one program and its tile, 8 elements a thread of 4 warps.

    A row is shared out in parts of 8 tiles, or longer ones where that makes more than `programs`. ALIGN divides the
    ends of every row: that much is read at once, where a C that is no multiple of 16 leaves it at one element.
    """
    rows, classes = logits.shape[0], int(logits.shape[1])
    block = min(max(triton.next_power_of_2(classes), 16), 1024)
    row_programs, blocks = triton.cdiv(rows, 1024 // block), triton.cdiv(classes, block)
    span = max(8, triton.cdiv(row_programs * blocks, programs))
    align = math.gcd(int(logits.stride(0)), classes, 16) if logits.stride(1) == 1 else 1
    tile = {"ALIGN": align, "ROWS": 1024 // block, "BLOCK": block}
    return (row_programs, triton.cdiv(blocks, span)), span * block, tile


def _float32(logits: Tensor, *shape: int) -> Tensor:
    return logits.new_empty(shape, dtype=torch.float32)


def _power(gamma: float) -> tuple[float, dict[str, Any]]:
    """Return the broken part of gamma, and what the kernels are compiled for; other broken parts share one kernel."""
    whole = int(gamma)
    part = gamma - whole
    halved = part == 0.5 and whole < 3  # more factors would carry the error of the square of a root too far
    return part, {"WHOLE": whole, "BROKEN": "half" if halved else "any" if part else "none"}


def variant(gamma: float | None) -> str:
    """Name the kernels that serve gamma: what is proved of them for one gamma is proved for all of the same name."""
    return "softmax" if gamma is None else "one-vs-all, WHOLE={WHOLE}, BROKEN={BROKEN}".format(**_power(gamma)[1])


def forward(z: Tensor, target: Tensor, scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor | None]:
    """Return scale * loss of each row, float32 (N,), and what the gradient of softmax needs beside the logits, (2, N).

    The loss is log sum_c exp(z_c) - z_y if gamma is None, and otherwise sum_c sigmoid(v_c)^gamma softplus(v_c) with
    v = -z at the target and z elsewhere.

    Parameters
    ----------
    z : Tensor of float32, bfloat16 or float16, shape (N, C)
        Logits, with any strides.
    target : Tensor of integers, shape (N,)
    scale : Tensor of float32, shape (N,)
        0 for a row that is ignored, whatever its logits and target are.
    gamma : float or None
        >= 0; 0 is sigmoid cross-entropy, None softmax.
    """
    target, scale = target.contiguous(), scale.contiguous()
    with torch.cuda.device_of(z):
        if gamma is None:
            grid, _, tile = _tiles(z, 1)
            losses, stats = _float32(z, len(z)), _float32(z, 2, len(z))
            _softmax_forward[grid](z, target, scale, losses, stats, *z.shape, *z.stride(), **tile)
            return losses, stats
        grid, span, tile = _tiles(z, 4096)
        part, power = _power(gamma)
        parts = _float32(z, grid[1], len(z))
        _one_vs_all_forward[grid](z, target, scale, parts, part, *z.shape, *z.stride(), span, **power, **tile)
        return parts.sum(0) if grid[1] > 1 else parts.squeeze(0), None


def gradient(
    upstream: Tensor, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, stats: Tensor | None
) -> Tensor:
    """Return the gradient of z, in its dtype, for upstream gradients (N,) of the losses; `stats` is `forward`'s."""
    target, scale, grad = target.contiguous(), scale.contiguous(), torch.empty_like(z)
    grid, span, tile = _tiles(z, 2**31)
    sizes = *z.shape, upstream.stride(0), *z.stride(), *grad.stride(), span
    with torch.cuda.device_of(z):
        if gamma is None:
            _softmax_backward[grid](upstream, z, target, scale, stats, grad, *sizes, **tile)
        else:
            part, power = _power(gamma)
            _one_vs_all_backward[grid](upstream, z, target, scale, grad, part, *sizes, **power, **tile)
    return grad

"""The losses of integer targets as Triton kernels: one pass reads the logits, a second one writes their gradient.

Beside its logits a row needs its target and one number, `row_scale`: class weight, sample weight and the divisor of the
mean, or 0 for an ignored row, whose logits are not even read. A target outside [0, C) makes its row NaN. All arithmetic
is float32, sums have a fixed order, nothing waits for the device, every output element is written.

Offsets are int64, as N * C passes 2^31 in practice; C alone must stay below. Double backward is not supported.
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
from torch.library import triton_op, wrap_triton

LOG2E = tl.constexpr(math.log2(math.e))
LN2 = tl.constexpr(math.log(2))
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
    """Return this program's rows, as a column; given a pointer, torch.compile would take it for written to."""
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


def _power(gamma: float) -> tuple[float, dict[str, Any]]:
    """Return the broken part of gamma, and what the kernels are compiled for; other broken parts share one kernel."""
    whole = min(int(gamma), 8)
    part = gamma - whole
    return part, {"WHOLE": whole, "BROKEN": {0.0: "none", 0.5: "half"}.get(part, "any")}


def _float32(logits: Tensor, *shape: int) -> Tensor:
    return logits.new_empty(shape, dtype=torch.float32)


@triton_op("cbcore::one_vs_all", mutates_args=())
def one_vs_all(logits: Tensor, target: Tensor, row_scale: Tensor, gamma: float) -> Tensor:
    """Return row_scale * sum_c sigmoid(v_c)^gamma softplus(v_c), v = -z at the target and z elsewhere: float32 (N,).

    Parameters
    ----------
    logits : Tensor of float32, bfloat16 or float16, shape (N, C)
        z, with any strides. The only argument that gets a gradient.
    target : Tensor of integers, shape (N,)
    row_scale : Tensor of float32, shape (N,)
        0 for a row that is ignored, whatever its logits and target are.
    gamma : float
        >= 0; 0 is sigmoid cross-entropy.
    """
    grid, span, tile = _tiles(logits, 4096)
    part, power = _power(gamma)
    loss = _float32(logits, grid[1], logits.shape[0])
    with torch.cuda.device_of(logits):
        wrap_triton(_one_vs_all_forward)[grid](
            logits, target.contiguous(), row_scale.contiguous(), loss, part, *logits.shape, *logits.stride(), span,
            **power, **tile,
        )  # fmt: skip
    return loss.sum(0) if grid[1] > 1 else loss.squeeze(0)


@triton_op("cbcore::one_vs_all_backward", mutates_args=())
def _one_vs_all_gradient(up: Tensor, logits: Tensor, target: Tensor, row_scale: Tensor, gamma: float) -> Tensor:
    grad = torch.empty_like(logits)
    grid, span, tile = _tiles(logits, 2**31)
    part, power = _power(gamma)
    with torch.cuda.device_of(logits):
        wrap_triton(_one_vs_all_backward)[grid](
            up, logits, target.contiguous(), row_scale.contiguous(), grad, part, *logits.shape,
            up.stride(0), *logits.stride(), *grad.stride(), span, **power, **tile,
        )  # fmt: skip
    return grad


@triton_op("cbcore::softmax", mutates_args=())
def _softmax(logits: Tensor, target: Tensor, row_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses, and the highest logit of each row above its sum of exponentials relative to that, (2, N)."""
    grid, _, tile = _tiles(logits, 1)
    loss, stats = _float32(logits, logits.shape[0]), _float32(logits, 2, logits.shape[0])
    with torch.cuda.device_of(logits):
        wrap_triton(_softmax_forward)[grid](
            logits, target.contiguous(), row_scale.contiguous(), loss, stats, *logits.shape, *logits.stride(), **tile
        )
    return loss, stats


@triton_op("cbcore::softmax_backward", mutates_args=())
def _softmax_gradient(up: Tensor, logits: Tensor, target: Tensor, row_scale: Tensor, stats: Tensor) -> Tensor:
    grad = torch.empty_like(logits)
    grid, span, tile = _tiles(logits, 2**31)
    with torch.cuda.device_of(logits):
        wrap_triton(_softmax_backward)[grid](
            up, logits, target.contiguous(), row_scale.contiguous(), stats, grad, *logits.shape,
            up.stride(0), *logits.stride(), *grad.stride(), span, **tile,
        )  # fmt: skip
    return grad


def softmax(logits: Tensor, target: Tensor, row_scale: Tensor) -> Tensor:
    """Return row_scale * (log sum_c exp(z_c) - z_y), float32 (N,). Arguments as in `one_vs_all`."""
    loss: Tensor = _softmax(logits, target, row_scale)[0]
    return loss


def _save_one_vs_all(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:3])
    ctx.gamma = inputs[3]


def _save_softmax(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output[1])


one_vs_all.register_fake(lambda logits, *_: _float32(logits, logits.shape[0]))
_one_vs_all_gradient.register_fake(lambda _, logits, *__: torch.empty_like(logits))
_softmax.register_fake(lambda logits, *_: (_float32(logits, logits.shape[0]), _float32(logits, 2, logits.shape[0])))
_softmax_gradient.register_fake(lambda _, logits, *__: torch.empty_like(logits))
one_vs_all.register_autograd(
    lambda ctx, up: (_one_vs_all_gradient(up, *ctx.saved_tensors, ctx.gamma), None, None, None),
    setup_context=_save_one_vs_all,
)
_softmax.register_autograd(
    lambda ctx, up, _: (_softmax_gradient(up, *ctx.saved_tensors), None, None),
    setup_context=_save_softmax,
)


def forward(logits: Tensor, target: Tensor, row_scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor | None]:
    """Return the losses, and what the gradient of softmax (gamma None) is made from beside the logits."""
    if gamma is None:
        losses, stats = _softmax(logits, target, row_scale)
        return losses, stats
    return one_vs_all(logits, target, row_scale, gamma), None


def gradient(
    upstream: Tensor, logits: Tensor, target: Tensor, row_scale: Tensor, gamma: float | None, stats: Tensor | None
) -> Tensor:
    """Return the gradient for upstream gradients (N,) of the losses, in the dtype of the logits."""
    if gamma is None:
        made: Tensor = _softmax_gradient(upstream, logits, target, row_scale, stats)
    else:
        made = _one_vs_all_gradient(upstream, logits, target, row_scale, gamma)
    return made

# ruff: noqa: ARG001 -- numba wants the parameters of an overload named alike
"""Fused CPU kernels in numba: loss and gradient of rows of logits in one pass over memory.

A kernel takes (logits, targets, row scale): class weight, sample weight, ignored rows (scale 0) and the normaliser of
the mean are folded into one number a row. It writes the scaled loss of each row and the scaled gradient. A row of
scale 0 gives zeros whatever it holds; a target out of range gives NaN. Imported only where numba is installed.

bfloat16 arrays come as their uint16 bits. Everything is computed in float32, sums of long rows in float64.
Speed rests on loops that LLVM turns into SIMD code: no division checks (error_model), sums that may be reordered
("reassoc", only in the summing loops: it would undo the rounding trick in `_exp`), no branch on data.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from cbcore._arrays import Host

f32, i32, u16, u32 = np.float32, np.int32, np.uint16, np.uint32

_ZERO, _ONE, _FLUSH, _LOWEST = f32(0), f32(1), f32(-87), f32(-1e30)
_LOG2_E, _LN2_HI, _LN2_LO = f32(1.4426950408889634), f32(0.693359375), f32(-2.12194440e-4)
_ROUND = f32(12582912)  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
# Minimax fits of relative error: exp(r) on |r| <= log(2) / 2 (1.9e-9), log1p(e) / e on [0, 1] (3.0e-8).
_E = (1.000000001, 1.000000036, 0.4999999208, 0.1666642017, 0.04166822557, 0.008374815778, 0.001383684614)
_L = (0.9999999699, -0.4999949314, 0.3331909673, -0.2484298169, 0.1910600499, -0.136632425, 0.07822591751,
      -0.02950521992, 0.005232690027)  # fmt: skip
_E0, _E1, _E2, _E3, _E4, _E5, _E6 = map(f32, _E)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = map(f32, _L)

_CHUNK = 2048  # elements: a float32 scratch stays in the first-level cache, and a float32 sum exact enough
_NARROW = 128  # rows shorter than this are worked on several at a time


def _compiled(fastmath, **more):
    def decorate(function):
        options: Any = {"error_model": "numpy", "nogil": True, "fastmath": fastmath, **more}
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no folder to keep the machine code in
            return njit(**options)(function)

    return decorate


_exactly = _compiled({"contract"})
_inlined = _compiled({"contract"}, forceinline=True)  # a call that LLVM leaves in a loop keeps it from SIMD code
_summing = _compiled({"contract", "reassoc", "nsz"})

# ---------------------------------------------------------------- scalar functions


@_inlined
def _exp(x):
    """exp(x) for x <= 0; 0 below -87; NaN stays NaN."""
    t = _FLUSH if x < _FLUSH else x
    shifted = t * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (t - n * _LN2_HI) - n * _LN2_LO
    p = _E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    power = i32(i32(f32(shifted).view(i32) << i32(23)) + i32(0x3F800000))
    return _ZERO if x < _FLUSH else p * i32(power).view(f32)


@_inlined
def _log1p(e):
    return e * (_L0 + e * (_L1 + e * (_L2 + e * (_L3 + e * (_L4 + e * (_L5 + e * (_L6 + e * (_L7 + e * _L8))))))))


@_inlined
def _term(v, gamma, kind):
    """f(v) = sigmoid(v)^gamma softplus(v) and its derivative; see `_formulas.focal_term`.

    `kind` is a tuple whose length, known when compiling, chooses the power: a loop is compiled for each.
    """
    e = _exp(-abs(v))
    r = _ONE / (_ONE + e)
    spread = _log1p(e)
    rising, falling = (r, e * r) if v > _ZERO else (e * r, r)  # sigmoid(v), sigmoid(-v)
    softplus = (_ZERO if v < _ZERO else v) + spread
    if len(kind) == 0:
        return softplus, rising
    if len(kind) == 1:  # gamma = 1/2
        power = np.sqrt(rising)
    elif len(kind) == 2:  # gamma = 1
        power = rising
    elif len(kind) == 3:  # gamma = 2
        power = rising * rising
    else:
        whole = i32(gamma)
        below = v if v < _ZERO else _ZERO
        below = _LOWEST if below < _LOWEST else below  # -inf times a power that is whole would be NaN
        power = _exp((gamma - f32(whole)) * (below - spread))
        second = rising * rising
        fourth = second * second
        power *= rising if whole & i32(1) else _ONE  # no loop over the bits: it would keep LLVM from SIMD code
        power *= second if whole & i32(2) else _ONE
        power *= fourth if whole & i32(4) else _ONE
        power *= fourth * fourth if whole & i32(8) else _ONE
    return power * softplus, power * (gamma * falling * softplus + rising)


# ---------------------------------------------------------------- float32 and bfloat16


def _load(x):
    """Return an element in float32: as it is, or widened from the bits of a bfloat16."""


def _as_element(value, array):
    """Return a float32 as an element of the array: as it is, or the bits of the nearest bfloat16, ties to even."""


@overload(_load, jit_options={"forceinline": True})
def _load_either(x):
    if x.bitwidth == 16:
        return lambda x: u32(u32(x) << u32(16)).view(f32)
    return lambda x: x


@overload(_as_element, jit_options={"forceinline": True})
def _as_element_either(value, array):
    if array.dtype.bitwidth == 32:
        return lambda value, array: f32(value)  # noqa: ARG005

    def narrow(value, array):
        bits = f32(value).view(u32)
        return u16(u32(bits + u32(0x7FFF) + (u32(bits >> u32(16)) & u32(1))) >> u32(16))

    return narrow


# ---------------------------------------------------------------- loops over one chunk


@_exactly
def _terms(v, losses, slopes, gamma, kind):
    for i in range(v.size):
        losses[i], slopes[i] = _term(v[i], gamma, kind)


@_summing
def _sum_terms(v, slopes, scale, gamma, kind):
    """Write the scaled derivatives; return the sum of the losses."""
    total = _ZERO
    for i in range(v.size):
        loss, slope = _term(_load(v[i]), gamma, kind)
        total += loss
        slopes[i] = _as_element(scale * slope, slopes)
    return total


@_exactly
def _largest(x):
    """Return the maximum, by integers that order like floats: a float maximum is not turned into SIMD code."""
    best = i32(-(2**31))
    for i in range(x.size):
        bits = f32(_load(x[i])).view(i32)
        key = i32(bits ^ i32(i32(bits >> i32(31)) & i32(0x7FFFFFFF)))
        best = key if key > best else best
    return i32(best ^ i32(i32(best >> i32(31)) & i32(0x7FFFFFFF))).view(f32)


@_summing
def _sum_exp(x, offset):
    total = _ZERO
    for i in range(x.size):
        total += _exp(_load(x[i]) - offset)
    return total


@_exactly
def _exp_each(x, out, offset, factor):
    for i in range(x.size):
        out[i] = _as_element(factor * _exp(_load(x[i]) - offset), out)


@_summing
def _sum(x):
    total = _ZERO
    for i in range(x.size):
        total += x[i]
    return total


# ---------------------------------------------------------------- rows


@_inlined
def _row(gradient, i):
    """Return row i; or, where nobody wants the gradient, the only row, to be written again and again."""
    return gradient[min(i, len(gradient) - 1)]


@_exactly
def _is_skipped(target, scale, gradient):
    """Fill in the gradient of a row without a loss: zeros for scale 0, NaN for a target out of range."""
    if scale != _ZERO and 0 <= target < gradient.size:
        return False
    gradient[:] = _as_element(_ZERO if scale == _ZERO else f32(np.nan), gradient)
    return True


@_exactly
def one_vs_all(z, targets, scale, gamma, kind, gradient, losses, start, stop):
    """Compute rows start to stop: scaled losses, summed over classes, and their gradient."""
    classes = z.shape[1]
    v_of, slopes, terms = np.empty(_CHUNK, f32), np.empty(_CHUNK, f32), np.empty(_CHUNK, f32)
    height = _CHUNK // classes if classes < _NARROW else 1
    for top in range(start, stop, height):
        end = min(top + height, stop)
        if height > 1:  # several short rows at a time, so that the loop over them is long
            v = v_of[: (end - top) * classes]
            flat = z[top:end].reshape(-1)
            for c in range(flat.size):
                v[c] = _load(flat[c])
            for i in range(top, end):
                if 0 <= targets[i] < classes:
                    v[(i - top) * classes + targets[i]] *= -_ONE
            _terms(v, terms, slopes, gamma, kind)
        for i in range(top, end):
            k, row = targets[i], _row(gradient, i)
            if _is_skipped(k, scale[i], row):
                losses[i] = _ZERO if scale[i] == _ZERO else f32(np.nan)
            elif height > 1:
                low = (i - top) * classes
                slopes[low + k] = -slopes[low + k]
                for c in range(classes):
                    row[c] = _as_element(scale[i] * slopes[low + c], row)
                losses[i] = scale[i] * _sum(terms[low : low + classes])
            else:
                total = 0.0
                for low in range(0, classes, _CHUNK):
                    x, out = z[i, low : low + _CHUNK], row[low : low + _CHUNK]
                    if low <= k < low + x.size:
                        j = k - low
                        total += _sum_terms(x[:j], out[:j], scale[i], gamma, kind)
                        total += _sum_terms(x[j + 1 :], out[j + 1 :], scale[i], gamma, kind)
                        loss, slope = _term(-_load(x[j]), gamma, kind)
                        total += loss
                        out[j] = _as_element(-scale[i] * slope, out)
                    else:
                        total += _sum_terms(x, out, scale[i], gamma, kind)
                losses[i] = f32(scale[i] * total)


@_exactly
def softmax(z, targets, scale, gradient, losses, start, stop):
    """Compute rows start to stop: scaled losses and their gradient."""
    classes = z.shape[1]
    for i in range(start, stop):
        k, row = targets[i], _row(gradient, i)
        if _is_skipped(k, scale[i], row):
            losses[i] = _ZERO if scale[i] == _ZERO else f32(np.nan)
            continue
        top = f32(-np.inf)
        for low in range(0, classes, _CHUNK):
            top = max(top, _largest(z[i, low : low + _CHUNK]))
        total = 0.0
        for low in range(0, classes, _CHUNK):
            total += _sum_exp(z[i, low : low + _CHUNK], top)
        target = _load(z[i, k])
        losses[i] = f32(scale[i] * (np.float64(top) - np.float64(target) + np.log(total)))
        factor = f32(scale[i] / total)
        _exp_each(z[i], row, top, factor)
        row[k] = _as_element(factor * _exp(target - top) - scale[i], row)


# ---------------------------------------------------------------- calling them

_KINDS: dict[float, tuple[int, ...]] = {0.0: (), 0.5: (0,), 1.0: (0, 0), 2.0: (0, 0, 0)}
_ALONE = 1 << 16  # logits: below this a second thread costs more than it brings


def run(
    z: Host, targets: Host, scale: Host, gamma: float | None, *, threads: int, with_gradient: bool
) -> tuple[Host, Host | None]:
    """Return the scaled loss of each row, float32 (N,), and the gradient, the dtype and shape of z.

    Parameters
    ----------
    z : C-contiguous array (N, C) of float32, or of uint16 holding the bits of bfloat16
    targets : int64 (N,)
    scale : float32 (N,); 0 for a row that is ignored, whatever it holds, and NaN to make the row NaN
    gamma : float, or None for softmax
        Below 16.
    threads : int
        At the most. They are Python threads around kernels that release the interpreter lock, not numba's own: those
        abort the process after a fork, or on concurrent calls where no OpenMP is installed.
    with_gradient : bool
        Without, None is returned for it and nothing of its size allocated.
    """
    rows, classes = z.shape
    threads = min(threads, rows) if z.size >= _ALONE else 1
    gradient = np.empty((rows if with_gradient else threads, classes), z.dtype)
    losses = np.empty(rows, f32)
    kernel = softmax if gamma is None else one_vs_all
    kind = () if gamma is None else (f32(gamma), _KINDS.get(gamma, (0, 0, 0, 0)))
    if threads == 1:
        kernel(z, targets, scale, *kind, gradient, losses, 0, rows)
        return losses, gradient if with_gradient else None

    def work(thread: int) -> None:
        out = gradient if with_gradient else gradient[thread : thread + 1]
        kernel(z, targets, scale, *kind, out, losses, rows * thread // threads, rows * (thread + 1) // threads)

    waiting = [_pool(os.getpid()).submit(work, thread) for thread in range(1, threads)]
    work(0)
    for future in waiting:
        future.result()
    return losses, gradient if with_gradient else None


@functools.lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the worker threads of this process; a forked child has none of its parent's and makes its own."""
    return ThreadPoolExecutor(os.cpu_count(), "cbcore")

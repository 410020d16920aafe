"""The fused paths: on the CPU one pass over the logits gives the loss and leaves the gradient; for GPUs see `_cuda`.

What they do not take goes through the composite of `cbcore._formulas`, with the same numbers: soft targets, label
smoothing, float64, learned weights, second derivatives, and everything that traces or transforms.
"""

import functools
from typing import Any, Protocol

import torch
from torch import Tensor

from cbcore import _kinds as kinds
from cbcore._fused import GAMMA_LIMIT, numba_is_installed
from cbcore._kinds import Kind
from cbcore_torch import _cuda, _numba, _row_blocks, _small
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call

DTYPES = (torch.float32, torch.bfloat16)


class Kernels(Protocol):
    """What does the arithmetic: `_numba` or `_row_blocks`. A scale is an array or a tensor, as the kernels like it."""

    def row_scale(
        self,
        target: Tensor,
        class_weights: Tensor | None,
        sample_weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        classes: int,
        /,
    ) -> Any:
        """Fold everything that multiplies the loss of a row into one number, float32 (N,).

        It is 0 for a row to ignore, and may be NaN for a target out of range.
        """

    def run(
        self, z: Tensor, target: Tensor, scale: Any, gamma: float | None, with_gradient: bool, /
    ) -> tuple[Tensor, Tensor | None]:
        """Return the scaled loss of each row, float32 (N,), and the gradient, the dtype and shape of z, or None.

        A row of scale 0 gives zeros whatever it holds; a target out of range gives NaN. `gamma` is None for softmax.
        """


@functools.cache
def kernels() -> Kernels:
    """Return numba's where the extra `fast` is installed, and otherwise PyTorch's own."""
    return _numba if numba_is_installed() else _row_blocks


def takes(
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    label_smoothing: float,
    kind: Kind,
) -> bool:
    """Tell whether the fused path gives this loss. All are questions about kinds and modes, none about values.

    The last, whether a GPU may run the kernels, is answered by trying them when it is asked for the first time.
    """
    return (
        (input.dtype in _cuda.DTYPES if _on_gpu(input) else input.is_cpu and input.dtype in DTYPES)
        and (type(input) is Tensor or type(input) is torch.nn.Parameter)
        and input.numel() > 0
        and not target.is_floating_point()
        and not label_smoothing
        and kinds.is_fused(kind, GAMMA_LIMIT)
        and not (class_weights is not None and class_weights.requires_grad)
        and not (sample_weight is not None and sample_weight.requires_grad)
        and not modes.traced()
        and not (_on_gpu(input) and _cuda.refusal(input, kinds.power(kind)))
    )


def _on_gpu(input: Tensor) -> bool:
    return input.is_cuda


def loss(
    kind: Kind,
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    *,
    axis: int,
    ignore_index: int,
    sample_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """Return the loss of a call that `takes` has accepted."""
    z, classes, gamma = input, input.shape[axis], kinds.power(kind)
    flat = z.ndim == 2 and axis == 1
    if flat and sample_weight is None and (gamma is None or (gamma in _small.GAMMAS and kernels() is _row_blocks)):
        value = _small.loss(gamma, z, target, class_weights, ignore_index=ignore_index, reduction=reduction)
        if value is not None:
            return value
    if not flat:
        z, target = z.movedim(axis, -1).reshape(-1, classes), target.reshape(-1)
        sample_weight = None if sample_weight is None else sample_weight.reshape(-1)
    target = target.contiguous()
    on_gpu = _on_gpu(input)
    row_scale = _cuda.row_scale if on_gpu else kernels().row_scale
    scale = row_scale(target, class_weights, sample_weight, ignore_index, reduction, classes)
    call = Call(kind, target, scale, ignore_index, reduction)
    function, z = (_cuda.TritonLoss, z) if on_gpu else (FusedLoss, z.contiguous())
    wanted = on_gpu or (z.requires_grad and torch.is_grad_enabled())  # inside a Function gradients are always off
    fused: Tensor = function.apply(z, call) if wanted else _value(z, call, False)[0]  # type: ignore[no-untyped-call]
    return fused if flat or reduction != "none" else fused.view(input.shape[:axis] + input.shape[axis + 1 :])


def _value(z: Tensor, call: Call, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    losses, gradient = kernels().run(z, call.target, call.scale, call.gamma, with_gradient)
    return losses if call.reduction == "none" else losses.sum(), gradient


class FusedLoss(torch.autograd.Function):
    """The sum of the scaled losses, or each for reduction "none"; the gradient is made in the forward."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, call: Call) -> Tensor:
        """Compute the loss and keep the gradient for the backward."""
        value, ctx.gradient = _value(z, call, True)
        ctx.save_for_backward(z, call.target)  # to be told if they change before they are read again
        ctx.call = call
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        """Hand out the gradient; run again if the graph was retained, or differentiably for second derivatives."""
        if torch.is_grad_enabled():
            return ctx.call.gradient(ctx.saved_tensors[0], upstream, differentiable=True), None
        if modes.transformed(upstream):
            if ctx.gradient is None:
                return ctx.call.gradient(ctx.saved_tensors[0], upstream, differentiable=False), None
            rows = upstream[:, None] if upstream.ndim else upstream
            return (ctx.gradient * rows).to(ctx.gradient.dtype), None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            z, target = ctx.saved_tensors
            gradient = kernels().run(z, target, ctx.call.scale, ctx.call.gamma, True)[1]
        if upstream.ndim:
            gradient.mul_(upstream[:, None])
        elif (factor := upstream.item()) != 1.0:
            gradient.mul_(factor)
        return gradient, None

"""The fused path on the CPU: one pass over the logits gives the loss and leaves the gradient.

What it does not take goes through the composite of `cbcore._formulas`, with the same numbers: soft targets, label
smoothing, float64 and float16, learned weights, second derivatives, and everything that traces or transforms.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from cbcore import _formulas as formulas
from cbcore_torch import _numba, _row_blocks
from cbcore_torch import _ops as ops


class Kernels(Protocol):
    """What does the arithmetic: `_numba` or `_row_blocks`."""

    def row_scale(
        self,
        target: Tensor,
        class_weights: Tensor | None,
        sample_weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        classes: int,
        /,
    ) -> Tensor:
        """Fold everything that multiplies the loss of a row into one number, float32 (N,)."""

    def run(self, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, /) -> tuple[Tensor, Tensor]:
        """Return the scaled loss of each row, float32 (N,), and the gradient, the dtype and shape of z.

        A row of scale 0 gives zeros whatever it holds; a target out of range gives NaN. `gamma` is None for softmax.
        """


@functools.cache
def kernels() -> Kernels:
    """Return numba's where the extra `fast` is installed, and otherwise PyTorch's own."""
    return _numba if _numba.is_installed() else _row_blocks


def takes(
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    label_smoothing: float,
    gamma: float | None,
) -> bool:
    """Tell whether the fused path gives this loss. All are questions about kinds and modes, none about values."""
    return (
        (input.dtype == torch.float32 or input.dtype == torch.bfloat16)
        and input.is_cpu
        and (type(input) is Tensor or type(input) is torch.nn.Parameter)
        and input.numel() > 0
        and not target.is_floating_point()
        and not label_smoothing
        and (gamma is None or gamma < 16)
        and not (class_weights is not None and class_weights.requires_grad)
        and not (sample_weight is not None and sample_weight.requires_grad)
        and not _traced()
    )


def _traced() -> bool:
    """Tell whether something records or transforms the operations, which must then be PyTorch's own."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


def loss(
    sample_loss: formulas.SampleLoss,
    gamma: float | None,
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    *,
    axis: int,
    ignore_index: int,
    sample_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """Return the loss; `gamma` is None for softmax, and `sample_loss` the same loss as a formula."""
    z, classes, shape = input, input.shape[axis], target.shape
    if z.ndim != 2 or axis != 1:
        z, target = z.movedim(axis, -1).reshape(-1, classes), target.reshape(-1)
        sample_weight = None if sample_weight is None else sample_weight.reshape(-1)
    scale = kernels().row_scale(target, class_weights, sample_weight, ignore_index, reduction, classes)

    def composite(z: Tensor) -> Tensor:
        """Return the same in operations that can be differentiated again."""
        value: Tensor = formulas.class_balanced_loss(
            ops, sample_loss, z, target, None,
            axis=1, valid=target != ignore_index, sample_weight=scale, label_smoothing=0.0,
            reduction="none" if reduction == "none" else "sum",
        )  # fmt: skip
        return value

    value: Tensor = FusedLoss.apply(z.contiguous(), target.contiguous(), scale, gamma, reduction, composite)  # type: ignore[no-untyped-call]
    return value.view(shape) if reduction == "none" else value


class FusedLoss(torch.autograd.Function):
    """The sum of the scaled losses, or each for reduction "none"; the gradient is made in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        target: Tensor,
        scale: Tensor,
        gamma: float | None,
        reduction: str,
        composite: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Compute the loss and keep the gradient for the backward."""
        losses, gradient = kernels().run(z, target, scale, gamma)
        if z.requires_grad:
            ctx.save_for_backward(z, target, scale)
            ctx.gradient, ctx.gamma, ctx.composite = gradient, gamma, composite
        return losses if reduction == "none" else losses.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Hand out the gradient; run again if the graph was retained, or differentiably for second derivatives."""
        z, target, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = torch.autograd.grad(ctx.composite(z), z, upstream, create_graph=True)[0]
            return gradient, None, None, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            gradient = kernels().run(z, target, scale, ctx.gamma)[1]
        if upstream.ndim:
            gradient.mul_(upstream[:, None])
        elif (factor := upstream.item()) != 1.0:
            gradient.mul_(factor)
        return gradient, None, None, None, None, None

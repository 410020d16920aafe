"""The fused path on the CPU: one pass over the logits gives the loss and leaves the gradient.

What it does not take goes through the composite of `cbcore._formulas`, with the same numbers: soft targets, label
smoothing, float64 and float16, learned weights, second derivatives, and everything that traces or transforms.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cbcore import _formulas as formulas
from cbcore_torch import _ops as ops
from cbcore_torch import _row_blocks

Kernel = Callable[[Tensor, Tensor, Tensor, float | None], tuple[Tensor, Tensor]]


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
        input.device.type == "cpu"
        and input.dtype in (torch.float32, torch.bfloat16)
        and type(input) in (Tensor, torch.nn.Parameter)
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


def row_scale(
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    classes: int,
) -> Tensor:
    """Fold class weight, sample weight, ignored samples and the divisor of the mean into one number a sample."""
    valid = target != ignore_index
    scale = valid.float()
    index = target.clamp(0, classes - 1)
    if class_weights is not None:
        scale *= class_weights.float()[index]
    scale.masked_fill_((index != target) & valid, torch.nan)  # out of range: NaN whatever the weight at the clamp
    if sample_weight is not None:
        scale *= torch.where(valid, sample_weight, 0)
    if reduction == "mean":
        scale /= max(int(valid.sum()), 1)
    elif reduction == "weighted_mean":
        scale /= scale.sum().item() or 1.0
    return scale


@functools.cache
def kernel() -> Kernel:
    """Return numba's kernel where the extra `fast` is installed, and otherwise PyTorch's row blocks."""
    try:
        from cbcore import _kernels
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        return _row_blocks.run

    def run(z: Tensor, target: Tensor, scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor]:
        bits = z.view(torch.uint16) if z.dtype == torch.bfloat16 else z
        losses, gradient = _kernels.run(
            bits.numpy(), target.numpy(), scale.numpy(), gamma, threads=torch.get_num_threads()
        )
        return torch.from_numpy(losses), torch.from_numpy(gradient).view(z.dtype)

    return run


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
    classes = input.shape[axis]
    z = input.movedim(axis, -1).reshape(-1, classes).contiguous()
    flat = target.reshape(-1).contiguous()
    if sample_weight is not None:
        sample_weight = sample_weight.reshape(-1)
    scale = row_scale(flat, class_weights, sample_weight, ignore_index, reduction, classes)

    def composite(z: Tensor) -> Tensor:
        """Return what `FusedLoss` returns, in operations that can be differentiated again."""
        rows: Tensor = formulas.class_balanced_loss(
            ops, sample_loss, z, flat, None,
            axis=1, valid=flat != ignore_index, sample_weight=scale, reduction="none", label_smoothing=0.0,
        )  # fmt: skip
        return rows

    rows: Tensor = FusedLoss.apply(z, flat, scale, gamma, composite)  # type: ignore[no-untyped-call]
    return rows.reshape(target.shape) if reduction == "none" else rows.sum()


class FusedLoss(torch.autograd.Function):
    """Rows of scaled losses from rows of logits, classes last; the gradient is made in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        target: Tensor,
        scale: Tensor,
        gamma: float | None,
        composite: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Compute losses (N,) and keep the gradient for the backward."""
        losses, gradient = kernel()(z.detach(), target, scale, gamma)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(z, target, scale)
            ctx.gradient, ctx.gamma, ctx.composite = gradient, gamma, composite
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Hand out the gradient; run again if the graph was retained, or differentiably for second derivatives."""
        z, target, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            losses = ctx.composite(z)
            return torch.autograd.grad(losses, z, upstream, create_graph=True)[0], None, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            gradient = kernel()(z.detach(), target, scale, ctx.gamma)[1]
        if any(upstream.stride()):
            gradient.mul_(upstream[:, None])
        elif (factor := upstream[0].item()) != 1.0:
            gradient.mul_(factor)
        return gradient, None, None, None, None

"""The fused path on CUDA devices: one Triton kernel reads the logits, another makes their gradient in the backward."""

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cbcore import _formulas as formulas
from cbcore_torch import _modes as modes
from cbcore_torch import _ops as ops
from cbcore_torch import _proof
from cbcore_torch._call import Call
from cbcore_torch._row_scale import row_scale

__all__ = ["DTYPES", "TritonLoss", "refusal", "row_scale"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refusal(z: Tensor, gamma: float | None) -> str | None:
    """Return None where the kernels take logits like z, having proved themselves, and otherwise in words why not."""
    found = kernels()
    if isinstance(found, str):
        return found
    if gamma is not None and gamma >= found.GAMMA_LIMIT:
        return f"gamma is not below {found.GAMMA_LIMIT:g}"
    return _proof.refusal(found, reference, z.device, z.dtype, gamma)


@functools.cache
def kernels() -> ModuleType | str:
    """Return the kernels, or in words why there are none. Triton comes with PyTorch's own CUDA builds for Linux."""
    try:
        from cbcore_torch import _triton
    except Exception as error:  # an installation that does not fit together may raise anything
        return f"Triton cannot be imported ({type(error).__name__}: {error})"
    return _triton


def reference(z: Tensor, target: Tensor, scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor]:
    """Return the loss of each row and its gradient in closed form, in operations that no hook of autograd sees."""
    index = target.clamp(0, z.shape[1] - 1)[:, None]  # where that changes it, the scale is NaN
    sign = torch.ones_like(z).scatter_(1, index, -1.0)
    with torch.no_grad():
        if gamma is None:
            losses, slope = -z.log_softmax(1).gather(1, index)[:, 0], z.softmax(1) - (sign < 0).to(z.dtype)
        else:
            losses = formulas.focal_term(ops, z * sign, gamma).sum(1)
            slope = formulas.focal_term_derivative(ops, z * sign, gamma) * sign
        skipped = scale == 0
        return (losses * scale).masked_fill(skipped, 0), (slope * scale[:, None]).masked_fill(skipped[:, None], 0)


class TritonLoss(torch.autograd.Function):
    """As `_fused.FusedLoss`, with nothing of the size of the logits made before the backward asks for it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, call: Call) -> Tensor:
        """Compute the loss."""
        from cbcore_torch import _triton

        losses, stats = _triton.forward(z, call.target, call.scale, call.gamma)
        ctx.save_for_backward(z, call.target, stats)
        ctx.call = call
        return losses if call.reduction == "none" else losses.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        """Make the gradient, differentiably for second derivatives."""
        from cbcore_torch import _triton

        z, target, stats = ctx.saved_tensors
        if torch.is_grad_enabled() or modes.transformed(upstream):
            return ctx.call.gradient(z, upstream, differentiable=torch.is_grad_enabled()), None
        rows = upstream.expand(target.shape)  # a reduced loss has one upstream gradient for all rows
        return _triton.gradient(rows, z, target, ctx.call.scale, ctx.call.gamma, stats), None

"""The fused path on CUDA devices: one Triton kernel reads the logits, another makes their gradient in the backward."""

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from cbcore_torch import _modes as modes
from cbcore_torch._call import Call
from cbcore_torch._row_scale import row_scale

__all__ = ["DTYPES", "PROVED", "TritonLoss", "is_installed", "row_scale"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PROVED = False  # the kernels are proved in Triton's interpreter and compiled for sm_90, but have not met a GPU yet


@functools.cache
def is_installed() -> bool:
    """Tell whether Triton is there, as it is with PyTorch's own CUDA builds."""
    return importlib.util.find_spec("triton") is not None


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

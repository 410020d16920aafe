"""The fused path on CUDA devices: one Triton kernel reads the logits, another makes their gradient in the backward."""

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from cbcore import _kinds as kinds
from cbcore._fused import GAMMA_LIMIT
from cbcore_torch import _modes as modes
from cbcore_torch._call import Call, Rows

NAME = "triton"
DEVICES = ("cuda",)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PROVED = False  # the kernels are proved in Triton's interpreter and compiled for sm_90, but have not met a GPU yet


@functools.cache
def is_installed() -> bool:
    """Tell whether Triton is there, as it is with PyTorch's own CUDA builds."""
    return importlib.util.find_spec("triton") is not None


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`."""
    if call.input.device.type not in DEVICES:
        return f"input is on the device {call.input.device}; Triton is for {', '.join(DEVICES)}"
    if modes.watched():
        return "a TorchDispatchMode wants to see operations"
    if not is_installed():
        return "Triton is not installed"
    if call.input.dtype not in DTYPES:
        return f"input is {call.input.dtype}"
    if call.target.is_floating_point() or call.label_smoothing:
        return "the targets are soft; the kernels are for class indices"
    if not kinds.is_fused(call.kind, GAMMA_LIMIT):
        return f"the kernels do not know {call.kind}"
    return None if PROVED else "the kernels have not met a GPU yet"


def loss(call: Call) -> Tensor:
    """As `cbcore_torch._paths.Path`."""
    rows = Rows.of(call)
    value: Tensor = TritonLoss.apply(rows.z, rows)  # type: ignore[no-untyped-call]
    return call.in_sample_shape(value)


class TritonLoss(torch.autograd.Function):
    """One kernel reads the logits; another makes their gradient, and nothing of its size is made before."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rows: Rows) -> Tensor:
        """Compute the loss."""
        from cbcore_torch import _triton

        losses, stats = _triton.forward(z, rows.target, rows.scale, kinds.power(rows.kind))
        ctx.save_for_backward(z, rows.target, rows.scale, stats)
        ctx.rows = rows._replace(z=None, target=None, scale=None)
        return losses.sum() if rows.is_reduced else losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        """Make the gradient, differentiably for second derivatives."""
        from cbcore_torch import _triton

        z, target, scale, stats = ctx.saved_tensors
        rows = ctx.rows._replace(z=z, target=target, scale=scale)
        if torch.is_grad_enabled() or modes.transformed(upstream):
            return rows.gradient(z, upstream, differentiable=torch.is_grad_enabled()), None
        each = upstream.expand(target.shape)  # a reduced loss has one upstream gradient for all rows
        return _triton.gradient(each, z, target, scale, kinds.power(rows.kind), stats), None

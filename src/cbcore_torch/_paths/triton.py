"""The path of CUDA devices: one Triton kernel reads the logits, another makes their gradient in the backward."""

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cbcore import _kinds as kinds
from cbcore._kinds import OneVsAll, Softmax
from cbcore_torch import _modes as modes
from cbcore_torch import _proof
from cbcore_torch._call import Call, Rows
from cbcore_torch._paths import closed

NAME = "triton"
DEVICES = ("cuda",)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refuses(call: Call) -> str | None:
    """As `cbcore_torch._paths.Path`.

    The last question, whether the device may run the kernels, is answered by trying them when it is asked first.
    """
    z = call.input
    if z.device.type not in DEVICES:
        return f"input is on the device {z.device}; Triton is for {', '.join(DEVICES)}"
    if modes.watched(z):
        return "a TorchDispatchMode wants to see operations"
    if z.dtype not in _DTYPES:
        return f"input is {z.dtype}"
    if call.target.is_floating_point() or call.label_smoothing:
        return "the targets are soft; the kernels are for class indices"
    found = kernels()
    if isinstance(found, str):
        return found
    if not kinds.is_fused(call.kind, found.GAMMA_LIMIT):
        return f"the kernels do not know {call.kind}"
    return _proof.refusal(found, reference, z.device, z.dtype, kinds.power(call.kind))


@functools.cache
def kernels() -> ModuleType | str:
    """Return the kernels, or in words why there are none. Triton comes with PyTorch's own CUDA builds for Linux."""
    try:
        from cbcore_torch import _triton
    except Exception as error:  # an installation that does not fit together may raise anything
        return f"Triton cannot be imported ({type(error).__name__}: {error})"
    return _triton


def reference(z: Tensor, target: Tensor, scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor]:
    """Return the loss of each row and its gradient by the closed form: what the kernels are compared with.

    No operation of it is seen by a hook of autograd.
    """
    kind = Softmax() if gamma is None else OneVsAll(gamma)
    rows = Rows(kind, z, target.clamp(0, z.shape[1] - 1), scale, 0.0, is_reduced=False, masks=True)
    with torch.no_grad():
        losses, gradient, _ = closed.run(rows, True)
    assert gradient is not None
    return losses, gradient


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
        rows.save(ctx, z, *([] if stats is None else [stats]))
        return losses.sum() if rows.is_reduced else losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        """Make the gradient, differentiably for second derivatives."""
        from cbcore_torch import _triton

        rows, more = Rows.saved(ctx)
        if torch.is_grad_enabled() or modes.transformed(upstream):
            return rows.gradient(rows.z, upstream, differentiable=torch.is_grad_enabled()), None
        each = upstream.expand(rows.target.shape)  # a reduced loss has one upstream gradient for all rows
        stats = more[0] if more else None
        return _triton.gradient(each, rows.z, rows.target, rows.scale, kinds.power(rows.kind), stats), None

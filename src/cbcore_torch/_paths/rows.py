"""The one autograd function of the paths that make the gradient of rows themselves, beside the loss."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from cbcore_torch import _modes as modes
from cbcore_torch._call import Call, Rows

SMALL = 1 << 14  # logits of a batch that has paths of its own


class Result(NamedTuple):
    """The scaled loss of each row, (N,), and the gradient of the logits, (N, C); None if nobody asked for it.

    With `finish` it is not yet the gradient, but what that makes it of, in its place: where the host may not read the
    upstream gradient to see that it is 1, one product with it and the scale is cheaper than two.
    """

    losses: Tensor
    gradient: Tensor | None
    finish: Callable[[Tensor], Tensor] | None = None


class Run(Protocol):
    """What does the arithmetic."""

    def __call__(self, rows: Rows, with_gradient: bool, /) -> Result:
        """Compute rows. One of scale 0 gives zeros whatever it holds, one of scale NaN gives NaN."""


def loss(call: Call, run: Run) -> Tensor:
    """Return the loss of a call by rows; the gradient is made in the forward."""
    rows = Rows.of(call)
    wanted = rows.z.requires_grad and torch.is_grad_enabled()  # inside a Function gradients are always off
    value: Tensor = _apply(rows.z, rows, run) if wanted else _value(rows, run(rows, False))
    return call.in_sample_shape(value)


def _value(rows: Rows, result: Result) -> Tensor:
    return result.losses.sum() if rows.is_reduced else result.losses


class RowsLoss(torch.autograd.Function):
    """The sum of the scaled losses, or each for reduction "none"."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rows: Rows, run: Run) -> Tensor:
        """Compute the loss and keep the gradient for the backward.

        Of float16 it is made there, times the upstream gradient: rounded before, what loss scaling is to save would be
        lost.
        """
        result = run(rows, z.dtype != torch.float16)
        ctx.result = None if result.gradient is None else result
        rows.save(ctx, z)
        ctx.run = run
        return _value(rows, result)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, None]:
        """Hand out the gradient; run again if the graph was retained, or differentiably for second derivatives."""
        differentiable, (result, ctx.result) = torch.is_grad_enabled(), (ctx.result, None)
        if differentiable or modes.transformed(upstream):
            rows, _ = Rows.saved(ctx)
            ctx.result = result
            return rows.gradient(rows.z, upstream, differentiable=differentiable), None, None
        if result is None:
            rows, _ = Rows.saved(ctx)
            result, upstream = ctx.run(rows._replace(scale=rows.scale * upstream), True), torch.ones(())
        else:
            ctx.saved_tensors  # noqa: B018 -- raises an error if one was overwritten
        if result.finish is not None:
            return result.finish(upstream), None, None
        gradient = result.gradient
        if upstream.ndim:
            gradient.mul_(upstream[:, None])
        elif not modes.reads_host(upstream) or upstream.item() != 1.0:
            gradient.mul_(upstream)
        return gradient, None, None


_apply: Any = super(torch.autograd.Function, RowsLoss).apply  # where no transform is active, which its own asks again

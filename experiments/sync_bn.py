"""Batch normalisation over the batch of all processes, on any device (PyTorch's own needs a GPU)."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of the whole batch; all shares are equally large."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over everything but the channels."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        mean = over_processes(x.mean((0, 2, 3)))
        centred = x - mean[:, None, None]
        variance = over_processes(centred.square().mean((0, 2, 3)))
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, share: int) -> None:
        n = share * dist.get_world_size()
        self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
        self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)  # type: ignore[union-attr, arg-type]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


def over_processes(tensor: Tensor) -> Tensor:
    """Return the mean over the processes, whose gradient comes from all of them."""
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total / dist.get_world_size()


class _Sum(torch.autograd.Function):
    """Sum over the processes: each one's input reaches every one's loss, so the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004 - the signature is PyTorch's
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(gradient)


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def synchronise_(module: nn.Module) -> None:
    """Put `SyncBatchNorm` in the place of every batch normalisation."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            new = SyncBatchNorm(child.num_features, child.eps, child.momentum)
            new.load_state_dict(child.state_dict())
            setattr(module, name, new)
        else:
            synchronise_(child)

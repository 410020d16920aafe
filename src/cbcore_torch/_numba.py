"""The fused CPU kernels of `cbcore._kernels` on tensors, which share their memory with NumPy."""

import torch
from torch import Tensor

from cbcore._arrays import Host


def row_scale(
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    classes: int,  # noqa: ARG001 -- the kernel itself meets the targets out of range
    /,
) -> Host:
    """As `_fused.Kernels`."""
    from cbcore import _kernels

    return _kernels.row_scale(target.numpy(), _float32(class_weights), _float32(sample_weight), ignore_index, reduction)


def run(
    z: Tensor, target: Tensor, scale: Host, gamma: float | None, with_gradient: bool, /
) -> tuple[Tensor, Tensor | None]:
    """As `_fused.Kernels`."""
    from cbcore import _kernels

    half = z.dtype == torch.bfloat16
    bits = z.detach().view(torch.uint16) if half else z.detach()
    losses, gradient = _kernels.run(
        bits.numpy(), target.numpy(), scale, gamma, threads=torch.get_num_threads(), with_gradient=with_gradient
    )
    result = None if gradient is None else torch.from_numpy(gradient)
    return torch.from_numpy(losses), result.view(torch.bfloat16) if half and result is not None else result


def _float32(weights: Tensor | None) -> Host | None:
    if weights is None:
        return None
    if weights.dtype != torch.float32 or not weights.is_contiguous():
        weights = weights.float().contiguous()
    return weights.numpy()

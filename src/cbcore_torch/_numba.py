"""The fused CPU kernels of `cbcore._kernels` on tensors, which share their memory with NumPy."""

import importlib.util

import torch
from torch import Tensor

from cbcore._arrays import Host


def is_installed() -> bool:
    """Tell whether the extra `fast` is there, without the second that importing numba takes."""
    return importlib.util.find_spec("numba") is not None


def row_scale(
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    classes: int,  # noqa: ARG001 -- the kernel itself meets the targets out of range
    /,
) -> Tensor:
    """As `_fused.Kernels`."""
    from cbcore import _kernels

    scale = _kernels.row_scale(
        target.numpy(), _float32(class_weights), _float32(sample_weight), ignore_index, reduction
    )
    return torch.from_numpy(scale)


def run(z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, /) -> tuple[Tensor, Tensor]:
    """As `_fused.Kernels`."""
    from cbcore import _kernels

    half = z.dtype == torch.bfloat16
    bits = z.detach().view(torch.uint16) if half else z.detach()
    threads = torch.get_num_threads()
    losses, gradient = _kernels.run(bits.numpy(), target.numpy(), scale.numpy(), gamma, threads=threads)
    result = torch.from_numpy(gradient)
    return torch.from_numpy(losses), result.view(torch.bfloat16) if half else result


def _float32(weights: Tensor | None) -> Host | None:
    if weights is None:
        return None
    if weights.dtype != torch.float32 or not weights.is_contiguous():
        weights = weights.float().contiguous()
    return weights.numpy()

"""What the fused kernels multiply the loss of a row by, in tensor operations that wait for no device."""

import torch
from torch import Tensor


def row_scale(
    target: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    classes: int,
    /,
) -> Tensor:
    """As `_fused.Kernels`."""
    valid, index = target != ignore_index, target.clamp(0, classes - 1)
    scale = valid.float() if class_weights is None else class_weights.float()[index]
    if sample_weight is not None:
        scale = scale * sample_weight.float()
    # NaN before 0: a target out of range, whatever the weight of the class at the clamp, unless it is ignored.
    scale = torch.where(valid, scale.masked_fill(index != target, torch.nan), 0)
    if reduction == "mean":
        scale = scale / valid.sum().clamp(min=1)
    elif reduction == "weighted_mean":
        total = scale.sum()
        scale = scale / torch.where(total == 0, 1, total)
    return scale

"""What the fused functions are given beside the logits."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cbcore import _formulas as formulas
from cbcore._kinds import Kind, power
from cbcore_torch import _ops as ops


class Call(NamedTuple):
    """What a loss is computed from, beside the logits (N, C)."""

    kind: Kind
    target: Tensor
    scale: Any
    ignore_index: int
    reduction: str

    @property
    def gamma(self) -> float | None:
        """What the kernels are told of the kind: None for softmax."""
        return power(self.kind)

    def composite(self, z: Tensor) -> Tensor:
        """Return the same loss in operations that can be differentiated again."""
        scale = self.scale if isinstance(self.scale, Tensor) else torch.from_numpy(self.scale)  # on no default device
        value: Tensor = formulas.class_balanced_loss(
            ops, self.kind.sample_loss, z, self.target, None,
            axis=1, valid=self.target != self.ignore_index, sample_weight=scale,
            reduction="none" if self.reduction == "none" else "sum", label_smoothing=0.0,
        )  # fmt: skip
        return value

    def gradient(self, z: Tensor, upstream: Tensor, *, differentiable: bool) -> Tensor:
        """Return the gradient of z in operations that can be transformed, and differentiated again if asked."""
        with torch.enable_grad():
            value = self.composite(z)
        return torch.autograd.grad(value, z, upstream, create_graph=differentiable)[0]

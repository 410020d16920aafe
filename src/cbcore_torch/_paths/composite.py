"""The formulas of the core in PyTorch's differentiable operations: what every other path is compared with."""

from torch import Tensor

from cbcore import _formulas as formulas
from cbcore_torch import _ops as ops
from cbcore_torch._call import Call

NAME = "composite"


def refuses(call: Call) -> None:
    """As `cbcore_torch._paths.Path`: nothing."""


def loss(call: Call) -> Tensor:
    """As `cbcore_torch._paths.Path`."""
    valid = None if call.ignored is None or call.target.is_floating_point() else call.target != call.ignored
    value: Tensor = formulas.class_balanced_loss(
        ops, call.kind.sample_loss, call.input, call.target, call.class_weights,
        axis=call.axis, valid=valid, sample_weight=call.sample_weight, reduction=call.reduction,
        label_smoothing=call.label_smoothing, unlabelled_weight=call.unlabelled_weight,
    )  # fmt: skip
    return value

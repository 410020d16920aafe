"""What a loss is asked to compute: the record that every path is given, and the same as rows."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cbcore import _formulas as formulas
from cbcore import _ops as numpy_ops
from cbcore._arrays import Host
from cbcore._kinds import Kind
from cbcore_torch import _modes as modes
from cbcore_torch import _ops as ops

_FEW = 1 << 12  # rows
_NOTHING = np.zeros(1)


class Call(NamedTuple):
    """Checked arguments of a loss; `axis` counts from the front, integer targets are int64."""

    kind: Kind
    input: Tensor
    target: Tensor
    class_weights: Tensor | None
    sample_weight: Tensor | None
    axis: int
    ignored: int | None
    reduction: str
    label_smoothing: float
    unlabelled_weight: float | None

    @property
    def is_flat(self) -> bool:
        """Tell whether the input is rows of classes already."""
        return self.input.ndim == 2 and self.axis == 1

    def in_sample_shape(self, losses: Tensor) -> Tensor:
        """Return the result of a computation by rows: one loss a sample for "none", else a scalar as it is."""
        if self.reduction != "none" or self.is_flat:
            return losses
        return losses.view(self.input.shape[: self.axis] + self.input.shape[self.axis + 1 :])


class Rows(NamedTuple):
    """A call as rows: logits (N, C) and one number that the loss of each row is multiplied by.

    Targets are int64 (N,) inside [0, C), or floats (N, C). `scale` (N,) is float32, or float64 for float64 logits: 0
    for a row to ignore, NaN for one whose index is no class. `masks` says that some rows may have to be ignored.
    """

    kind: Kind
    z: Tensor
    target: Tensor
    scale: Tensor
    label_smoothing: float
    is_reduced: bool
    masks: bool

    @classmethod
    def of(cls, call: Call) -> "Rows":
        """Return a call as rows; integer targets in a copy, logits and floats in one only if classes are not last."""
        z, target, sample_weight = call.input, call.target, call.sample_weight
        is_index = not target.is_floating_point()
        if not call.is_flat:
            classes = z.shape[call.axis]
            z = z.movedim(call.axis, -1).reshape(-1, classes)
            target = target.reshape(-1) if is_index else target.movedim(call.axis, -1).reshape(-1, classes)
            sample_weight = None if sample_weight is None else sample_weight.reshape(-1)
            call = call._replace(input=z, target=target, sample_weight=sample_weight)
        masks, on_host = is_index and call.ignored is not None, False
        in_range, may_ignore = False, masks
        if is_index and modes.reads_host(z, target, call.class_weights, sample_weight):
            # A look at the values, which as unsigned numbers are far above C where they are below 0, saves most work.
            in_range = bool(np.maximum.reduce(target.numpy().view(np.uint64)) < z.shape[1])
            may_ignore = masks and (not in_range or 0 <= call.ignored < z.shape[1])  # type: ignore[operator]
            on_host = len(z) <= _FEW
        target, scale = (_scale_in_numpy if on_host else _scale)(call, may_ignore, in_range)
        return cls(call.kind, z, target, scale, call.label_smoothing, call.reduction != "none", masks)

    def save(self, ctx: Any, z: Tensor, *more: Tensor) -> None:
        """Keep this for the backward of an autograd function, which is told if a tensor has changed till then."""
        ctx.save_for_backward(z, self.target, self.scale, *more)
        ctx.kind_and_options = self.kind, self.label_smoothing, self.is_reduced, self.masks

    @classmethod
    def saved(cls, ctx: Any) -> tuple["Rows", list[Tensor]]:
        """Return what was kept, and the tensors beside it."""
        z, target, scale, *more = ctx.saved_tensors
        kind, *options = ctx.kind_and_options
        return cls(kind, z, target, scale, *options), more

    def composite(self, z: Tensor) -> Tensor:
        """Return the same loss in operations that can be differentiated again."""
        value: Tensor = formulas.class_balanced_loss(
            ops, self.kind.sample_loss, z, self.target, None,
            axis=1, valid=self.scale != 0 if self.masks else None, sample_weight=self.scale,
            reduction="sum" if self.is_reduced else "none", label_smoothing=self.label_smoothing, in_range=True,
        )  # fmt: skip
        return value

    def gradient(self, z: Tensor, upstream: Tensor, *, differentiable: bool) -> Tensor:
        """Return the gradient of z in operations that can be transformed, and differentiated again if asked."""
        with torch.enable_grad():
            value = self.composite(z)
        return torch.autograd.grad(value, z, upstream, create_graph=differentiable)[0]


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that logits of a dtype are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def by_composite_only(call: Call) -> str | None:
    """Return why no path but the composite may take a call, or None. No question is about values."""
    if modes.traced():
        return "something traces or transforms the operations: torch.compile, torch.func, forward-mode AD"
    if not modes.is_plain(call.input):
        return f"input is a {type(call.input).__name__}, not a plain tensor"
    if not call.input.numel():
        return "input is empty"
    if call.target.requires_grad:
        return "target requires a gradient"
    for name in ("class_weights", "sample_weight"):
        value: Tensor | None = getattr(call, name)
        if value is not None and value.requires_grad:
            return f"{name} requires a gradient"
    return None


def _scale(call: Call, may_ignore: bool, in_range: bool) -> tuple[Tensor, Tensor]:
    """Return the targets of rows, indices in a copy inside [0, C), and the scale."""
    z, target, class_weights, sample_weight = call.input, call.target, call.class_weights, call.sample_weight
    like = z.new_empty((), dtype=computed_in(z.dtype)).expand(z.shape)
    is_index, asked = not target.is_floating_point(), target
    if not is_index:
        if class_weights is not None:
            weight = _row_weights(target, class_weights.to(like.dtype), call.unlabelled_weight)
            sample_weight = weight if sample_weight is None else sample_weight.to(like.dtype) * weight
        class_weights, asked = None, like  # of dense targets no more than their kind is asked
    index, scale = formulas.row_scale(
        ops, asked, class_weights, like, axis=1, valid=target != call.ignored if may_ignore else None,
        sample_weight=sample_weight, reduction=call.reduction, in_range=in_range,
    )  # fmt: skip
    if not isinstance(scale, Tensor) or not scale.ndim:
        scale = like.new_full((len(z),), 1.0 if scale is None else scale)
    return target if not is_index else target.clone() if index is target else index, scale


def _scale_in_numpy(call: Call, may_ignore: bool, in_range: bool) -> tuple[Tensor, Tensor]:
    """As `_scale`, of class indices: on a small batch NumPy's operations cost a third of PyTorch's."""
    z, index, sample_weight = call.input, call.target.numpy(), _numbers(call.sample_weight)
    dtype = np.float64 if z.dtype == torch.float64 else np.float32
    like = np.ndarray(z.shape, dtype, _NOTHING, 0, (0, 0))  # of the logits no more than shape and dtype are asked
    with nullcontext() if in_range and sample_weight is None else np.errstate(all="ignore"):
        asked, scale = formulas.row_scale(
            numpy_ops, index, _numbers(call.class_weights), like, axis=1,
            valid=index != call.ignored if may_ignore else None, sample_weight=sample_weight,
            reduction=call.reduction, in_range=in_range,
        )  # fmt: skip
    if not isinstance(scale, np.ndarray):
        scale = np.full(len(index), 1.0 if scale is None else scale, dtype)
    return torch.from_numpy(asked.copy() if asked is index else asked), torch.from_numpy(scale)


def _numbers(weights: Tensor | None) -> Host | None:
    """Return weights in NumPy, which has no bfloat16."""
    if weights is None:
        return None
    numbers: Host = (weights.float() if weights.dtype == torch.bfloat16 else weights).numpy()
    return numbers


def _row_weights(target: Tensor, class_weights: Tensor, unlabelled_weight: float | None) -> Tensor:
    """Return the weight of each row of dense targets, some rows at a time: their product with the weights is large."""
    height = max((1 << 20) // target.shape[1], len(target) // 16, 1)
    return torch.cat(
        [
            formulas.row_weight(ops, part.to(class_weights.dtype), class_weights, 1, unlabelled_weight)
            for part in torch.split(target, height)
        ]
    )

"""The three losses as functions of tensors. Nothing here reads a tensor's values: no host sync on any device."""

import functools
from typing import Any

import torch
from torch import Tensor

from cbcore import _checks as checks
from cbcore._kinds import Kind, OneVsAll, Softmax
from cbcore_torch._call import Call
from cbcore_torch._paths import compute


def softmax_cross_entropy(
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    *,
    dim: int = 1,
    ignore_index: int | None = -100,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Tensor:
    """Class-balanced softmax cross-entropy (eq. 8 of the paper): w * -sum_c t_c log softmax(z)_c.

    Parameters
    ----------
    input : Tensor of floats, shape (N, C, ...)
        z, logits, classes on `dim`; or (C,), one sample. float16 and bfloat16 are computed in float32.
    target : Tensor
        Class indices: integers in [0, C), the shape of `input` without `dim`. Or probabilities: floats in [0, 1], the
        shape of `input` (soft, mixup or multi-hot; their range is not read). A sample whose index is neither
        in [0, C) nor `ignore_index` gets NaN.
    class_weights : Tensor of floats, shape (C,), optional
        A sample is weighted by class_weights[target], or by the mean over its labels, from the targets as given.
    dim : int
        The class axis.
    ignore_index : int or None
        Samples with this target index give 0 and no gradient, and are not counted; None ignores nothing. Not for float
        targets.
    sample_weight : Tensor of floats, shape of `input` without `dim`, optional
        Multiplies the weight of each sample.
    reduction : {"mean", "sum", "none", "weighted_mean"}
        "mean" divides by the number of samples that are not ignored; "weighted_mean" by their summed weights, as
        ``torch.nn.functional.cross_entropy(weight=...)`` does. With no valid sample both give 0.
    label_smoothing : float
        In [0, 1].
    unlabelled_weight : float, optional
        >= 0, the weight of a sample whose float targets are all 0; by default the mean of the class weights.

    Returns
    -------
    Tensor
        float32, or float64 for float64 input. The gradient has the dtype of `input`.

    Raises
    ------
    TypeError, ValueError
        If kinds or static shapes do not fit, or an option is unknown or out of range.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> softmax_cross_entropy(logits, torch.tensor([0, 1]), torch.tensor([0.5, 2.5, 2.5]))
    tensor(2.7548)
    """
    return compute(checked(
        Softmax(), input, target, class_weights,
        dim, ignore_index, sample_weight, reduction, label_smoothing, unlabelled_weight,
    ))  # fmt: skip


def sigmoid_cross_entropy(
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    *,
    dim: int = 1,
    ignore_index: int | None = -100,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Tensor:
    """Class-balanced sigmoid cross-entropy, summed over classes (eq. 11): w * -sum_c log sigmoid(z_c^t).

    Parameters, returns and errors as in `softmax_cross_entropy`; with float targets each class contributes
    -t log sigmoid(z) - (1 - t) log sigmoid(-z).

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> sigmoid_cross_entropy(logits, torch.tensor([[1.0, 0, 0], [0, 1, 1]]))
    tensor(1.0942)
    """
    return compute(checked(
        OneVsAll(), input, target, class_weights,
        dim, ignore_index, sample_weight, reduction, label_smoothing, unlabelled_weight,
    ))  # fmt: skip


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    *,
    gamma: float = 0.5,
    dim: int = 1,
    ignore_index: int | None = -100,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    unlabelled_weight: float | None = None,
) -> Tensor:
    """Class-balanced focal loss, summed over classes (eq. 13): w * -sum_c (1 - p_c^t)^gamma log p_c^t.

    `gamma` >= 0 is the focusing parameter, 0 gives `sigmoid_cross_entropy`; everything else as there.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    >>> sigmoid_focal_loss(logits, torch.tensor([0, 1]), gamma=2.0)
    tensor(1.5800)
    """
    return compute(checked(
        OneVsAll(checks.gamma(_plain(gamma))), input, target, class_weights,
        dim, ignore_index, sample_weight, reduction, label_smoothing, unlabelled_weight,
    ))  # fmt: skip


def checked(
    kind: Kind,
    input: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    dim: int,
    ignore_index: int | None,
    sample_weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
    unlabelled_weight: float | None,
) -> Call:
    """Check the arguments of a loss and return them as the record that paths are given."""
    tensors = input, target, class_weights, sample_weight
    if input is None or target is None or not _TENSORS.issuperset(map(type, tensors)):
        for name, value in zip(_NAMES, tensors, strict=True):
            if not (isinstance(value, Tensor) or (value is None and name in _OPTIONAL)):
                raise no_tensor(value, name, "make it with torch.as_tensor, once, before the training loop")
    static = (
        *[None if x is None else (x.shape, x.dtype, x.device) for x in tensors],
        dim, ignore_index, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip
    # What is the same in most calls of a training is checked once, and looked up then. What is no plain number could be
    # another one by then, and symbolic sizes cannot be looked up.
    plain = _PLAIN.issuperset(map(type, static)) and not torch.compiler.is_compiling()
    try:
        found = _remembered(*static) if plain else None
    except TypeError:  # raised again below, unless it was about hashing
        found = None
    axis, ignored, label_smoothing, unlabelled_weight = found or _check_static(*map(_plain, static))
    return Call(
        kind, input, target if target.is_floating_point() else target.long(), class_weights, sample_weight,
        axis, ignored, reduction, label_smoothing, unlabelled_weight,
    )  # fmt: skip


def _check_static(
    input: Any,
    target: Any,
    class_weights: Any,
    sample_weight: Any,
    dim: Any,
    ignore_index: Any,
    reduction: Any,
    label_smoothing: Any,
    unlabelled_weight: Any,
) -> tuple[int, int | None, float, float | None]:
    """Check options, devices, and kinds and shapes of tensors, of each of which (shape, dtype, device) is given."""
    label_smoothing = checks.loss_options(reduction, label_smoothing)
    unlabelled_weight = checks.unlabelled_weight(unlabelled_weight)
    ignored = checks.ignored(ignore_index, "ignore_index")
    if ignored is not None and not -(2**63) < ignored < 2**63:
        ignored = None  # no target of 64 bits has it
    tensors = dict(zip(_NAMES, (input, target, class_weights, sample_weight), strict=True))
    for name, value in tensors.items():
        if value is not None and value[2] != input[2]:
            raise ValueError(
                f"{name} must be on the device of input, {input[2]}, got {value[2]}; move it there once, "
                "before the training loop (a criterion with criterion.to(device))"
            )
    one_sample = len(input[0]) == 1 and dim == 1  # as torch.nn.functional.cross_entropy takes (C,)
    *arrays, weight = (None if value is None else about(name, *value) for name, value in tensors.items())
    axis = checks.loss_arrays(*arrays, axis=0 if one_sample else dim, axis_name="dim", sample_weight=weight)  # type: ignore[arg-type]
    return axis, ignored, label_smoothing, unlabelled_weight


_remembered = functools.lru_cache(typed=True)(_check_static)
_PLAIN = {tuple, int, float, str, type(None)}
_TENSORS = {Tensor, torch.nn.Parameter, type(None)}


def _plain(option: Any) -> Any:
    """Undo that torch.compile makes a number that changes between calls symbolic; hashing makes it one again."""
    if isinstance(option, float | int):
        (option,) = {option}
    return option


_OPTIONAL = ("class_weights", "sample_weight")
_NAMES = ("input", "target", *_OPTIONAL)


def about(name: str, shape: torch.Size, dtype: torch.dtype, _: Any = None) -> checks.About:
    """Return what the checks read of a tensor."""
    kind = "f" if dtype.is_floating_point else "" if dtype.is_complex or dtype == torch.bool else "i"
    return checks.About(name, tuple(shape), dtype, kind)


def no_tensor(value: Any, name: str, fix: str) -> TypeError:
    """Return the error of an argument that is no tensor."""
    came = f"{type(value).__module__}.{type(value).__qualname__}"
    return TypeError(f"{name} must be a torch.Tensor, got {came}; {fix}")

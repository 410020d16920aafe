"""The checks that several files share. Those of one file stand at its end.

A text names the argument, what it must be, what came, and the likely fix. Wrong kinds are TypeErrors; wrong values,
ranges and shapes are ValueErrors. Checks of losses read shapes and dtypes only, never a tensor's values.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from cbcore._arrays import Host

Shape: TypeAlias = tuple[int | None, ...]

_COUNTS_AVERAGE = 20
REDUCTIONS = ("none", "sum", "mean", "weighted_mean")

# ---------------------------------------------------------------- options


def integer(value: Any, name: str, *, at_least: int) -> int:
    """Check a whole number given on the host; return it as a plain one."""
    try:
        number = _index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})") from None
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def _index(value: Any) -> int:
    """As `operator.index`, without booleans and without arrays that have an axis."""
    if type(value) is not int and (isinstance(value, bool | np.bool_) or getattr(value, "shape", ()) != ()):
        raise TypeError
    return operator.index(value)


def number(value: Any, name: str, *, low: float, high: float = math.inf) -> float:
    """Check a finite number given on the host; return it as a plain float. NaN is out of every range."""
    if getattr(value, "requires_grad", False) or hasattr(value, "assign"):
        raise TypeError(
            f"{name} must be a fixed number, got {type(value).__name__}, which training could change and which would "
            f"get no gradient here; pass float({name})"
        )
    try:
        if isinstance(value, str | bytes) or getattr(value, "shape", ()) != ():
            raise TypeError
        plain = float(value)
    except (TypeError, ValueError):  # a traced value raises a TypeError too
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})") from None
    if not low <= plain <= high:
        text = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {text}, got {plain}")
    if plain == math.inf:
        raise ValueError(f"{name} must be finite, got inf")
    return plain


def gamma(value: Any) -> float:
    """Check the focusing parameter of the focal loss."""
    return number(value, "gamma", low=0)


def unlabelled_weight(value: Any) -> float | None:
    """Check the weight of rows without a label; None leaves it to the class weights."""
    return None if value is None else number(value, "unlabelled_weight", low=0)


def loss_options(reduction: Any, label_smoothing: Any) -> float:
    """Check the options that all losses share; return the label smoothing as a plain float."""
    choice(reduction, "reduction", REDUCTIONS)
    return number(label_smoothing, "label_smoothing", low=0, high=1)


def ignored(value: Any, name: str) -> int | None:
    """Check the index of samples to ignore; return it as a plain integer. None ignores nothing."""
    if value is None:
        return None
    try:
        return _index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer (the one index to ignore) or None (nothing is ignored), got {value!r} "
            f"({type(value).__name__}); to ignore several, map them to one before"
        ) from None


def choice(value: Any, name: str, choices: Sequence[str | None]) -> None:
    """Check an option with a few named values."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def no_unknown_options(unknown: Iterable[str], owner: str) -> None:
    """Name the option of a loss object that another library's stands for."""
    for name in unknown:
        fix = _ELSEWHERE.get(name, "see the signature for the options")
        raise TypeError(f"{owner} must be given options that it has, got {name}=...; {fix}")


_FROM_COUNTS = "that is for from_counts(class_counts, beta), which makes the weights of the class counts"
_ELSEWHERE = {  # an option is unknown only where the same thing has another name
    **dict.fromkeys(
        ("weight", "weights", "class_weight", "alpha", "cls_weight"),
        "weights of classes are class_weights here, one for each class",
    ),
    "class_weights": "from_counts makes them of the counts; give weights of your own to the class itself",
    "pos_weight": "weights of classes are class_weights here, and weigh a whole sample",
    **dict.fromkeys(("beta", "num_prototypes", "power", "max_ratio", "normalize", "empty"), _FROM_COUNTS),
    "class_counts": _FROM_COUNTS,
    **dict.fromkeys(("samples_per_class", "samples_per_cls", "cls_num_list", "counts", "labels"), _FROM_COUNTS),
    **dict.fromkeys(("num_classes", "no_of_classes"), "it is the length of class_weights"),
    "from_logits": "the losses always take logits, never probabilities",
    **dict.fromkeys(("size_average", "reduce"), "choose a reduction, such as 'mean', 'sum' or 'none'"),
    "axis": "the class axis is dim here",
    "dim": "the class axis is axis here",
    "ignore_class": "the index to ignore is ignore_index here",
    "ignore_index": "the index to ignore is ignore_class here",
    "gamma": "that is the focusing parameter of SigmoidFocalLoss",
    "smoothing": "that is label_smoothing here",
    "epsilon": "for label smoothing give label_smoothing",
    "sample_weight": "weights of samples are given with each batch, where the loss is called",
}


def label_range(host: Host, size: int, *, name: str) -> None:
    """Check that class indices lie in [0, C)."""
    if not host.size:
        return
    low, high = int(host.min()), int(host.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} must lie in [0, {size}), got values from {low} to {high}; "
            "subtract 1 if classes are numbered from 1, mask samples to be ignored, or raise the number of classes"
        )


# ---------------------------------------------------------------- the arrays of a loss


class About(NamedTuple):
    """What is read of an array."""

    name: str
    shape: Any  # a tuple; what a graph leaves open is None: a size, or all of it
    dtype: Any
    kind: str  # "f" real floating, "i" integer, "b" boolean; others are never asked for
    values: Host | None = None  # of class weights that are on the host, where a look costs nothing


def loss_arrays(
    logits: About,
    targets: About,
    class_weights: About | None = None,
    *,
    axis: Any,
    axis_name: str = "axis",
    where: About | None = None,
    sample_weight: About | None = None,
) -> int:
    """Check the arrays of a loss, in any framework; return the class axis counted from the front."""
    floating(logits, targets)
    front = class_axis(logits, axis, axis_name)
    samples = logits.shape[:front] + logits.shape[front + 1 :]
    fitting(targets, logits, samples)
    if class_weights is not None:
        weights(class_weights, logits.shape[front])
    if where is not None:
        if where.kind != "b":
            raise TypeError(
                f"{where.name} must be boolean (True for samples that count), got {where.dtype}; compare, e.g. "
                "targets != -1"
            )
        per_sample(where, samples)
    if sample_weight is not None:
        per_sample(sample_weight, samples)
    return front


def floating(logits: About, targets: About) -> None:
    """Check that logits are real floating-point numbers."""
    if logits.kind != "f":
        fix = f"swap {logits.name} and {targets.name}, or " if targets.kind == "f" else ""
        raise TypeError(
            f"{logits.name} must be floating point (raw scores of the model), got {logits.dtype}; {fix}cast with e.g. "
            "float32"
        )


def class_axis(logits: About, axis: Any, axis_name: str) -> int:
    """Check the class axis of the logits; return it counted from the front."""
    name, shape = logits.name, logits.shape
    axis = integer(axis, axis_name, at_least=-len(shape))
    if axis >= len(shape):
        raise ValueError(f"{axis_name} must name an axis of {name}, got {axis} for {name} of shape {shape}")
    if shape[axis] == 0:
        raise ValueError(f"{name} must have at least one class on axis {axis}, got shape {shape}")
    front: int = axis % len(shape)
    return front


def fitting(targets: About, logits: About, samples: Shape) -> None:
    """Check targets against the logits, so that no shape ever broadcasts into another loss."""
    name, shape, dtype, kind, _ = targets
    if (kind == "i" and fits(shape, samples)) or (kind == "f" and fits(shape, logits.shape)):
        return
    if kind not in ("i", "f"):
        fix = f"cast them to integers (class indices) or to the dtype of {logits.name} (multi-hot)"
        raise TypeError(f"{name} must be integers or floats, got {dtype}; {fix}")
    if kind == "i" and shape == logits.shape:
        fix = f"cast one-hot or multi-hot {name} to a floating dtype"
    elif kind == "i" and _known_size(shape) == _known_size(samples):
        fix = f"reshape {name} to {samples}"
    elif kind == "f" and shape == samples:
        fix = f"cast class indices in {name} to integers"
    else:
        fix = f"check the class axis and the order of the arguments {logits.name} and {name}"
    raise ValueError(
        f"{name} must be integers of shape {samples} (class indices) or floats of shape {logits.shape} "
        f"(as {logits.name}), got {dtype} of shape {shape}; {fix}"
    )


def per_sample(x: About, samples: Shape) -> None:
    """Check a mask or weight that has one entry a sample."""
    if not fits(x.shape, samples):
        raise ValueError(f"{x.name} must have shape {samples}, one for each sample, got {x.shape}")


def weights(given: About, size: int | None = None) -> None:
    """Check class weights: one for each class, or where the logits are not known yet, a vector."""
    if given.kind != "f":
        raise TypeError(
            f"class_weights must be floating point, got {given.dtype}; for class counts call "
            "from_counts(class_counts, beta)"
        )
    if size is not None:
        weights_shape(given.shape, size)
    elif len(given.shape) != 1:
        raise ValueError(f"class_weights must have shape (C,), one for each class, got {given.shape}")
    if given.values is not None:
        weights_values(given.values)


def weights_shape(shape: Shape, size: int) -> None:
    """Check that there is one weight for each class."""
    if not fits(shape, (size,)):
        raise ValueError(
            f"class_weights must have shape ({size},), one for each class, got {shape}; "
            "make them from the class counts of the whole training set, with num_classes given"
        )


def weights_values(host: Host) -> None:
    """Check the values of class weights, once, on the host: where a criterion is made, or where they come from there.

    Weights average about 1. Whole numbers that average far more are the class counts, cast.
    """
    if host.size and host.min() >= 0 and host.max() <= _COUNTS_AVERAGE:  # not so for NaN
        return
    bad = np.flatnonzero(~(np.isfinite(host) & (host >= 0)))
    if bad.size:
        raise ValueError(
            f"class_weights must be finite and not negative, got {host[bad[0]]} for class {bad[0]}; make them from the "
            "class counts with class_weights(class_counts, beta) or from_counts"
        )
    if host.size and not (host % 1).any() and host.mean() > _COUNTS_AVERAGE:
        raise ValueError(
            f"class_weights must be weights, got whole numbers that average {host.mean():.4g}, as class counts do; "
            "for class counts call from_counts(class_counts, beta), and divide weights of your own by their mean"
        )


def weights_on_host(host: Host) -> About:
    """Describe class weights of NumPy, bfloat16 and its like, which NumPy does not know, among them."""
    kind = "f" if host.dtype.kind == "f" or host.dtype.name.startswith(("float", "bfloat")) else ""
    return About("class_weights", host.shape, host.dtype, kind, host.astype(np.float64) if kind else None)


def fits(shape: Shape | None, expected: Shape) -> bool:
    """Tell whether a shape is the expected one, or may become it where a graph leaves sizes open."""
    if shape is None or shape == expected:
        return True
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


def _known_size(shape: Shape) -> int:
    return math.prod(n for n in shape if n is not None)
